"""From gathered sums to one map: solved by name, or the best of all by pairs left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lift import plugins
from lift.config import Part, override, to_dict
from lift.errors import ConfigError, DataError, unknown
from lift.fitting.gathering import Gathered
from lift.fitting.judging import Judged, judge, mapped, reciprocal_rank, scale_of
from lift.fitting.predict import Agreement, agreement
from lift.linear import Linear, explained, total
from lift.terms import unit

ROOM = "solvers"
AUTO = "auto"

_FEWEST = 32
"""Pairs of a fold below which their ranks choose no method."""

_DEFAULT = "ridge"

_TIE = 0.005
"""Mean reciprocal rank by which another method has to be better than least squares, whose vectors
have the cosines that texts have: they can stand in one index with them."""


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A map, what it was chosen by, and what it does on pairs that were held out.

    Attributes:
        linear: the map, with facts and notes of its solver.
        solver: the part that solved it, its options spelled out.
        pairs: samples that it was fitted on.
        explained: R2 over the mean caption of each of them.
        scores: mean reciprocal rank of every method that was tried, on a fold that it was not
            solved from; empty where one was named.
        scale: inverse temperature that suits it.
        agreement: of the two sides, known before anything was solved; None for a handful of pairs.
        judged: None where nothing was held out.
        notes: what a reader has to know, in sentences.
    """

    linear: Linear
    solver: Part
    pairs: int
    explained: float
    scores: Mapping[str, float] = field(default_factory=dict)
    scale: float
    agreement: Agreement | None
    judged: Judged | None
    notes: tuple[str, ...] = ()

    def origin(self) -> dict[str, Any]:
        """Return plain values for the record of a model."""
        found: dict[str, Any] = {
            "solver": self.solver.name,
            "options": dict(self.solver.options),
            "samples": self.pairs,
            "r2": self.explained,
            "facts": dict(self.linear.facts),
            "notes": list(self.notes),
        }
        if self.scores:
            found["tried"] = dict(self.scores)
        if self.agreement is not None:
            found["cka"], found["mutual_knn"] = self.agreement.cka, self.agreement.knn
        if self.judged is not None:
            found["held_out"] = {
                "protocol": self.judged.protocol,
                "mean_cosine": self.judged.mean_cosine,
                **{name: metric.value for name, metric in self.judged.metrics.items()},
            }
        return found


def solvers_of(method: str, options: Sequence[str], **fixed: Any) -> list[Part]:
    """Return the solvers that a method names, every option spelled out.

    Args:
        method: a file in `solvers`, or "auto" for all of them.
        options: `key=value` words about the one.
        fixed: options that are not the caller's to choose.

    Raises:
        ConfigError: no such solver or option, or options about all at once.
    """
    known = plugins.names(ROOM)
    if method == AUTO:
        if options:
            raise ConfigError(
                f"{' '.join(options)!r} is about one way to solve, and method=auto tries all: name "
                f"one ({', '.join(known)})."
            )
        return [plugins.resolve(Part(ROOM, name, fixed)) for name in known]
    if method not in known:
        raise unknown("method", method, [*known, AUTO])
    config = override(plugins.configure(Part(ROOM, method, fixed)), options)
    named = {name: getattr(config, name) for name in fixed}
    if named != fixed:
        raise ConfigError(f"{' '.join(options)!r} changes what has to be {fixed} here.")
    return [Part(ROOM, method, to_dict(config))]


def predicted(gathered: Gathered) -> Agreement | None:
    """Return how alike both sides are; None for fewer than two pairs in the sample."""
    if len(gathered.sample) < 2:
        return None
    return agreement(gathered.sums, *gathered.sample.rows())


def solve(gathered: Gathered, solvers: Sequence[Part], *, alike: Agreement | None = None) -> Solved:
    """Return the map of one solver, or of the best of several.

    Each of several is solved without the first fold and searches the sample of it; the one with
    the best mean reciprocal rank is solved again from all pairs. What is held out has no part in
    that choice, so its figures stay honest.

    Args:
        gathered: what one pass found.
        solvers: as `solvers_of` gives them.
        alike: what `predicted` said, if it was asked.

    Raises:
        DataError: pairs that no map can be solved from.
        ConfigError: a solver lacks the folds that it needs.
    """
    scores: dict[str, float] = {}
    notes: list[str] = []
    chosen = solvers[0]
    if len(solvers) > 1:
        scores, why = _scores(gathered, solvers)
        best = _best(scores) if scores else _DEFAULT
        chosen = next(part for part in solvers if part.name == best)
        notes += [why] if why else []
    linear = plugins.build(chosen).solve(gathered.sums, gathered.folds)
    scale = 100.0
    if len(gathered.sample):
        h, t = gathered.sample.rows()
        scale = scale_of(mapped(linear, h), unit(torch.from_numpy(t)).numpy())
    return Solved(
        linear=linear,
        solver=chosen,
        pairs=gathered.sums.images,
        explained=explained(linear, gathered.sums),
        scores=scores,
        scale=scale,
        agreement=alike or predicted(gathered),
        judged=judge(linear, gathered.held, gathered.items),
        notes=(*notes, *linear.notes),
    )


def _best(scores: Mapping[str, float]) -> str:
    """Return the method with the best score; least squares where it is as good but for a hair."""
    best = max(scores, key=lambda name: scores[name])
    return _DEFAULT if scores.get(_DEFAULT, 0.0) >= scores[best] - _TIE else best


def _scores(gathered: Gathered, solvers: Sequence[Part]) -> tuple[dict[str, float], str]:
    """Return each solver's mean reciprocal rank on the sample of a fold, or why there is none."""
    others = gathered.folds[1:]
    if len(gathered.sample) < _FEWEST or sum(fold.images for fold in others) < _FEWEST:
        return {}, f"Too few pairs to choose a method by: {_DEFAULT} was taken."
    h, t = gathered.sample.rows()
    z_text = unit(torch.from_numpy(np.ascontiguousarray(t))).numpy()
    rest = total(others)
    found, refused = {}, ""
    for part in solvers:
        try:
            linear = plugins.build(part).solve(rest, others)
        except DataError as error:  # another may do
            refused = str(error)
            continue
        found[part.name] = reciprocal_rank(mapped(linear, h), z_text)
    return found, refused if not found else ""
