"""Moving house: an image head from a text space that goes to one that comes, by captions alone.

The map has no bias, so it goes into the last matrix of the head exactly: unit length commutes with
it (see `lift.moved_heads.fold_into`). Stored texts are embedded by the new encoder as ever; what is
moved are images, which nobody has to encode again, and how good the move is, is known before.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lift.bundle import Bundle, load
from lift.errors import ConfigError
from lift.fitting.around import (
    HOLDOUT,
    Told,
    over_captions,
    require_free,
    require_share,
    tell,
)
from lift.fitting.gathering import Held
from lift.fitting.judging import Judged, mapped
from lift.fitting.making import slope, tensors_of
from lift.fitting.moments import Moments
from lift.fitting.solving import Solved, predicted, solve, solvers_of
from lift.fitting.texts import TextPairs, Texts, open_texts
from lift.fitting.words import aligned, judged_rows
from lift.heads import Head
from lift.linear import Linear, explained
from lift.model import Side
from lift.moved_heads import folded_behind, linear_head
from lift.ranks import joined
from lift.world import versions

ENOUGH = 0.95
"""Share of held-out captions, at the lower end of its interval, that have to find themselves."""

METHOD = "procrustes"
"""Images lie off the captions that a map is fitted on. An orthogonal one turns them with the rest;
least squares shrinks the directions in which captions vary little, and images don't: of shop photos
with R@10 52.8% it left 3.5, 1.4 and 31.3% in three other spaces, an orthogonal map 42.7, 24.3 and
45.3% (NOTEBOOK.md), while captions found themselves alike."""

NAMES = ("old caption vector", "new caption vector")

Verdict = Literal["good", "fair", "poor", "unknown"]

VERDICTS: dict[Verdict, str] = {
    "good": f"good: at least {ENOUGH:.0%} of held-out captions find themselves first",
    "fair": f"fair: at least {ENOUGH:.0%} of held-out captions find themselves among the first "
    "ten, but not first; train the head on in the new space",
    "poor": "poor: the new space tells captions apart that the old one did not; fit a head from "
    "image features instead (`lift fit`)",
    "unknown": "unknown: too few captions to hold some out",
}


@dataclass(frozen=True, kw_only=True)
class MigrateReport:
    """What a move did, judged by captions that nothing was fitted on.

    Attributes:
        folder: of the new model; "" where nobody asked for one.
        model: in hand, in the new space.
        solved: the map, and how held-out captions that go through it find their true vectors.
        title: from where to where.
        r2: share of the variance of held-out captions in the new space that the map explains.
        verdict: in a word; `VERDICTS` has the rule.
        left_out: captions in no pair, by reason.
        seconds: of all.
    """

    folder: str
    model: Bundle
    solved: Solved
    title: str
    r2: float | None
    verdict: Verdict
    left_out: Mapping[str, int] = field(default_factory=dict)
    seconds: float

    def table(self) -> str:
        """Return it as aligned text."""
        penalty = self.solved.linear.facts.get("penalty")
        how = f", penalty {penalty:.2g}" if isinstance(penalty, float) else ""
        rows = [("captions", f"{self.solved.pairs:,} fitted on ({self.solved.solver.name}{how})")]
        rows += [("left out", f"{n:,} {why}") for why, n in self.left_out.items() if n]
        if self.solved.judged is not None:
            rows += judged_rows(self.solved.judged)
            rows.append(("R2", "-" if self.r2 is None else f"{self.r2:.4f}"))
        rows.append(("the move is", VERDICTS[self.verdict]))
        if self.solved.solver.name != METHOD:
            rows.append(
                (
                    "caution",
                    "captions alone say so; images lie off them, and only an orthogonal map "
                    f"(method {METHOD}) keeps them in place: judge this one on pairs",
                )
            )
        told = [self.title, *aligned(rows), *(f"note: {note}" for note in self.solved.notes)]
        return "\n".join([*told, *([f"model: {self.folder}"] if self.folder else [])])


def migrate(
    old: str | Path,
    new: str | Path,
    *,
    model: str | Path,
    out: str | Path = "",
    data: Sequence[str] = (),
    method: str = METHOD,
    options: Sequence[str] = (),
    holdout: float = HOLDOUT,
    progress: bool = True,
    say: Told = lambda _: None,
) -> MigrateReport:
    """Return a model moved from one text space into another.

    Args:
        old, new: caches of the same captions, or encoders in words, which embed those of `data`.
        model: whose images live in the old space.
        out: the new model's folder; "" writes none.
        data: where captions are; two caches need none.
        method, options, holdout, progress, say: as for `lift.fitting.fit.fit`; what is held out
            are captions.

    Raises:
        SpaceMismatch: the model lives in another space than the old one.
        LiftError: bad input; nothing was written.
    """
    start = time.perf_counter()
    solvers = solvers_of(method, options, intercept=False)
    require_share(holdout)
    with joined(torch.device("cpu")) as ranks:
        with ranks.together():
            require_free(out)
            moved = load(model, device="cpu")
            own = Path(model).resolve()
            if out and Path(out).resolve() in (own, own / "model"):
                raise ConfigError(f"{out} is the model that is moved; name another --out.")
            here, there = open_texts(str(old)), open_texts(str(new))
            moved.space.require_same(here.space, ours=f"the model {model}", theirs=here.name)
            pairs = TextPairs(here, there, data)
        gathered = over_captions(pairs, ranks, holdout=holdout, names=NAMES, progress=progress)
        alike = predicted(gathered)
        tell(alike, ranks, say)
        with ranks.together():
            solved = solve(gathered, solvers, alike=alike)
            r2 = _r2(solved.linear, gathered.held)
            verdict = verdict_of(solved.judged)
            origin = {**solved.origin(), "verdict": verdict, "r2_held_out": r2}
            made = _moved(moved, there, solved.linear, gathered.sample.rows()[0], origin, str(out))
            if out and ranks.first:
                made.save(out)
    return MigrateReport(
        folder=str(out),
        model=made,
        solved=solved,
        title=f"{moved.name}: {here.space.model} to {there.space.model}",
        r2=r2,
        verdict=verdict,
        left_out=dict(pairs.missing),
        seconds=time.perf_counter() - start,
    )


def verdict_of(judged: Judged | None) -> Verdict:
    """Return how good a move is by the rule of `VERDICTS`."""
    if judged is None:
        return "unknown"
    if judged.metrics["image_to_text/R@1"].low >= ENOUGH:
        return "good"
    return "fair" if judged.metrics["image_to_text/R@10"].low >= ENOUGH else "poor"


def _r2(linear: Linear, held: Held) -> float | None:
    """Return the share of the held-out vectors' variance that a map explains; None of one."""
    if len(held) < 2:
        return None
    moments = Moments(held.h.shape[1], held.t.shape[1], folds=1)
    moments.add(held.h, held.t)
    return explained(linear, moments.total)


def _moved(
    model: Bundle, texts: Texts, linear: Linear, h: np.ndarray, origin: Mapping, out: str
) -> Bundle:
    """Return the model with the map behind its head, in the new space."""
    record, side = model.record, model.side
    if side.head is None:
        head: Head = linear_head(tensors_of(linear)[0])
    else:
        assert isinstance(side.head, Head)
        head = folded_behind(side.head, torch.from_numpy(linear.weight))
    scalars = dict(record.scalars)
    gain = 1.0
    if len(h) > 1:  # a temperature is one of the old space
        other = np.roll(h, 1, axis=0)
        gain = slope(
            (h * other).sum(axis=1), (mapped(linear, h) * mapped(linear, other)).sum(axis=1)
        )
    if gain > 0:
        scalars |= {name: scalars[name] * gain for name in ("scale",) if name in scalars}
        scalars |= {name: scalars[name] / gain for name in ("temperature",) if name in scalars}
    came = {**vars(record.space), "fingerprint": record.space.fingerprint}
    moved = dataclasses.replace(
        record,
        image=dataclasses.replace(record.image, head=head.config),
        space=texts.space,
        encoder=texts.part,
        text=type(record.text)(),
        saw=texts.saw,
        scalars=scalars,
        origin={**record.origin, "moved": {"from": came, **origin, "versions": versions()}},
    )
    return Bundle(
        Side(side.tower, head).eval(),
        moved,
        name=Path(out).name or "model",
        probes=texts.probes,
        trained_on=None if model.trained_on is None else model.trained_on.path,
    )
