"""What it takes to find so much: samples, FLOPs and CPU-seconds along an arm's curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from frame.curves import Curve, Drawn, curve, ends, sized, split
from frame.figures import FORTH
from frame.found import Found
from frame.study import Record

RUNS = 10
"""On the same captions, among which their embedding is shared."""
KINDS = {
    "samples": "samples",
    "training flops": "training FLOPs",
    "one flops": "with embedding, one run",
    "ten flops": "each of ten runs",
    "training seconds": "training CPU-s",
    "one seconds": "with embedding, one run",
    "ten seconds": "each of ten runs",
}
"""Of costs, and their words in tables."""


@dataclasses.dataclass(frozen=True)
class Embedding:
    """What captions of a set cost to embed.

    Attributes:
        flops, seconds: of one caption.
        tokens: of a mean caption.
        whole: captions that are embedded whatever the samples; 0: each sample has its own.
    """

    flops: float
    seconds: float
    tokens: float
    whole: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """What an arm's runs of a set took.

    Attributes:
        curve: what they find.
        flops: of training on one sample.
        seconds: CPU seconds of training by size, means over seeds.
        distinct: captions by size; of sets whose samples have captions of their own.
        embedding: None for an arm that needs no rows.
    """

    curve: Curve
    flops: float
    seconds: tuple[float, ...]
    distinct: tuple[float, ...]
    embedding: Embedding | None

    @property
    def each(self) -> float:
        """CPU seconds of a sample in the largest runs."""
        return self.seconds[-1] / self.curve.most

    def bill(self, samples: Drawn) -> dict[str, Drawn]:
        """Return what so many samples take, by `KINDS`; infinite where they are."""
        known = np.where(np.isfinite(samples), samples, self.curve.most)
        logs, at = np.log(self.curve.sizes), np.log(known)
        seconds = np.exp(np.interp(at, logs, np.log(self.seconds)))
        told = {"samples": known, "training flops": known * self.flops}
        told |= {"training seconds": seconds}
        for unit in ("flops", "seconds"):
            rows, made = 0.0, self.embedding
            if made is not None:
                own = np.exp(np.interp(at, logs, np.log(self.distinct))) if not made.whole else 0
                rows = (made.whole or own) * getattr(made, unit)
            told[f"one {unit}"] = told[f"training {unit}"] + rows
            told[f"ten {unit}"] = told[f"training {unit}"] + rows / RUNS
        return {kind: np.where(np.isfinite(samples), told[kind], np.inf) for kind in KINDS}


def embedding(found: Found, of: str) -> Embedding | None:
    """Return what a set's captions cost to embed, from the run that measured it."""
    for name in found.arms(of):
        if split(name)[0] == "rows":
            record = found.of(of, name)[0]
            count = record["captions"]["distinct"]
            return Embedding(
                record["effort"]["embedding_flops"] / count,
                record["cpu_seconds"]["embedding"] / count,
                record["tokens"],
                0 if of == "scenes" else count,
            )
    return None


def costs(found: Found, of: str, arm: str, rows: Embedding | None) -> Costs | None:
    """Return what an arm's runs took; None without two sizes.

    Args:
        found: the records.
        of: their set.
        arm: which.
        rows: of its text space; None for an arm that trains its text side.
    """
    own = curve(found, of, arm, FORTH)
    if own is None or len(own.sizes) < 2:
        return None
    records = [found.of(of, sized(arm, size)) for size in own.sizes]
    last = records[-1][0]
    return Costs(
        curve=own,
        flops=last["effort"]["training_flops"] / own.most,
        seconds=tuple(_mean([r["cpu_seconds"]["training"] for r in one]) for one in records),
        distinct=tuple(_distinct(one[0]) for one in records),
        embedding=rows,
    )


def _distinct(record: Record) -> float:
    return float(record.get("captions", {}).get("distinct", record["samples"]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def compared(ours: Costs, theirs: Costs, target: Drawn) -> Mapping[str, Drawn] | None:
    """Return ours over theirs, by `KINDS`, to find so much.

    Args:
        ours, theirs: of two arms of a set.
        target: what is to be found, a draw an entry.

    Returns:
        None where the other never gets there, or where one of the two finds more already in its
        smallest runs: then what it takes is not known.
    """
    needed = [one.curve.needed(target) for one in (ours, theirs)]
    if any(need[0] <= one.curve.sizes[0] for need, one in zip(needed, (ours, theirs), strict=True)):
        return None
    if not np.isfinite(needed[1][0]):
        return None
    # Where a draw of the other never gets there it takes more than its largest run: no less than
    # that is put in its place, which does not favour us.
    reached = np.minimum(needed[1], theirs.curve.most)
    a, b = ours.bill(needed[0]), theirs.bill(reached)
    return {kind: a[kind] / b[kind] for kind in KINDS}


def less(ratio: Drawn, than: float = 1.0) -> bool | None:
    """Return whether a ratio is below a bound; None where its interval does not say."""
    _, low, high = ends(ratio)
    return True if high < than else False if low >= than else None
