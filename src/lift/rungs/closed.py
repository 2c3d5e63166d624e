"""The lowest rungs: ridge, Procrustes and CCA, all solved from one pass over stored vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lift import plugins
from lift.bundle import Bundle
from lift.data.source import open_source
from lift.data.stored_pairs import StoredPairs
from lift.errors import LiftError
from lift.features import tower_of
from lift.fitting.around import shown
from lift.fitting.gathering import Gathered, gather
from lift.fitting.making import model_of, tensors_of, transform_of
from lift.fitting.predict import Agreement
from lift.fitting.solving import AUTO, ROOM, Solved, predicted, solve, solvers_of
from lift.fitting.texts import texts_of
from lift.model import Side
from lift.moved_heads import linear_head
from lift.rungs.judged import Judge, known, tried
from lift.rungs.meter import Meters
from lift.rungs.places import Asked, Split
from lift.rungs.record import Rung

if TYPE_CHECKING:
    from lift.image_tower import ImageTower

PASS = "pass"
CHOICE = "choice"
TITLES = {
    "ridge": "ridge regression",
    "procrustes": "orthogonal Procrustes",
    "cca": "canonical correlations",
}


class Closed:
    """The pass, and what is solved from it. Nothing is read before something is asked for.

    Attributes:
        names: of the rungs.
    """

    def __init__(self, asked: Asked, split: Split, judge: Judge, meters: Meters, *, progress: bool):
        self._asked, self._split, self._judge = asked, split, judge
        self._meters, self._progress = meters, progress
        self._passed: tuple[Gathered, StoredPairs, ImageTower] | None = None
        self.names = plugins.names(ROOM)

    def gathered(self) -> tuple[Gathered, StoredPairs, ImageTower]:
        """Return what the pass found; the first call makes it."""
        if self._passed is None:
            with self._meters.measured(PASS, anew=True) as counted:
                captions, images = self._judge.captions, self._judge.images
                pairs = StoredPairs(open_source(self._split.fit), captions, images)
                tower = tower_of(images, device="cpu")
                blocks = shown(pairs.blocks(), len(pairs), self._progress)
                found = gather(blocks, images.space.dimensions, captions.dimensions)
                counted.items = len(pairs)
            self._passed = found, pairs, tower
        return self._passed

    def predicted(self) -> tuple[Agreement | None, dict[str, int]]:
        """Return how alike both sides are, and what is in no pair."""
        found, pairs, _ = self.gathered()
        return predicted(found), dict(pairs.missing.counts)

    def climb(self) -> list[Rung]:
        """Return all closed forms, the one that the training pairs chose first."""
        found = {name: known(self._asked, name) for name in self.names}
        if all(found.values()):
            return _ordered([rung for rung in found.values() if rung is not None])
        best = self._best()
        rungs = []
        for name in self.names:
            chosen = best is not None and name == best.solver.name
            rung = Rung(name=name, level=0, title=TITLES.get(name, name), chosen=chosen)
            solved = best if chosen else None
            made = found[name] or tried(rung, self._meters, partial(self._one, rung, solved))
            rungs.append(replace(made, chosen=chosen))
        return _ordered(rungs)

    def _best(self) -> Solved | None:
        """Return what the training pairs choose among all; None where nothing can be solved."""
        gathered = self.gathered()[0]
        try:
            with self._meters.measured(CHOICE, anew=True):
                return solve(gathered, solvers_of(AUTO, ()))
        except LiftError:  # each says why when it is tried alone
            return None

    def _one(self, rung: Rung, solved: Solved | None) -> Rung:
        gathered, pairs, tower = self.gathered()
        with self._meters.measured(rung.name, anew=True):
            if solved is None:
                solved = solve(gathered, solvers_of(rung.name, ()))
            model = self._model(solved, pairs, tower, rung.name)
            model.save(self._asked.rung(rung.name) / "model")
        own = self._meters.cost(rung.name).plus(self._meters.cost(PASS))
        if rung.chosen:
            own = own.plus(self._meters.cost(CHOICE))
        own = replace(own, items=len(pairs))
        return self._judge.judged(replace(rung, cost=own, facts=_facts(solved)), model)

    def _model(self, solved: Solved, pairs: StoredPairs, tower: ImageTower, name: str) -> Bundle:
        weight, bias = tensors_of(solved.linear)
        return model_of(
            tower.kept,
            Side(tower.module, None),
            linear_head(weight, bias),
            transform_of(tower),
            texts_of(self._judge.captions),
            {"recipe": "fit", "data": pairs.name, "pairs": pairs.digest, **solved.origin()},
            name,
            solved.scale,
        )


def _facts(solved: Solved) -> dict[str, str]:
    told = {
        "variance explained": f"{solved.explained:.3f} of the fitted pairs' mean captions",
        **{
            name.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else str(value)
            for name, value in solved.linear.facts.items()
            if isinstance(value, str | int | float)
        },
    }
    if solved.scores:
        ranked = ", ".join(f"{name} {value:.3f}" for name, value in solved.scores.items())
        told["chosen by mean reciprocal rank on a fold"] = ranked
    if solved.notes:
        told["notes"] = " ".join(solved.notes)
    return told


def _ordered(rungs: Sequence[Rung]) -> list[Rung]:
    return sorted(rungs, key=lambda rung: (not rung.chosen, rung.result is None))
