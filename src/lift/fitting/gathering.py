"""One pass over blocks of pairs: sums of all, a small sample, and what is held out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from lift.data.stored_pairs import PairBlock
from lift.fitting.moments import FOLDS, Moments, require_finite, targets
from lift.fitting.sampling import Sample, fold_of, fresh, is_held
from lift.linear import Sums
from lift.ranks import ALONE, Ranks

JUDGED = 5_000
"""Samples that are held out at most: enough for intervals of a percent, and quick to search."""

_FEWEST = 50
"""Held-out samples below which figures say nothing, so that all are fitted on."""


Items = Literal["images", "captions"]


@dataclass(frozen=True)
class Held:
    """Pairs that nothing was fitted on.

    Attributes:
        h: what comes in, one row a sample.
        t: captions of unit length.
        owner: the sample of each caption, ascending.
    """

    h: Float32[np.ndarray, "n w"]
    t: Float32[np.ndarray, "c d"]
    owner: Int64[np.ndarray, " c"]

    def __len__(self) -> int:
        return len(self.h)


@dataclass(frozen=True)
class Gathered:
    """What one pass found, the same in every process.

    Attributes:
        sums: of all pairs that are fitted on.
        folds: of disjoint parts of them.
        sample: of their first fold.
        held: pairs that are not among them.
        items: what comes in.
    """

    sums: Sums
    folds: list[Sums]
    sample: Sample
    held: Held
    items: Items = "images"


def share_held(holdout: float, samples: int) -> float:
    """Return the share of samples to hold out: at most 5,000, none where they would be few.

    Args:
        holdout: the share that was asked for.
        samples: how many there are.
    """
    share = min(holdout, JUDGED / max(samples, 1))
    return share if share * samples >= _FEWEST else 0.0


def gather(
    blocks: Iterable[PairBlock],
    width: int,
    dimensions: int,
    *,
    holdout: float = 0.0,
    folds: int = FOLDS,
    ranks: Ranks = ALONE,
    names: tuple[str, str] = ("image vector", "caption vector"),
    items: Items = "images",
) -> Gathered:
    """Return what one pass over this process' pairs, joined with those of the others, found.

    Memory holds sums, the sample and what is held out, whatever the number of pairs.

    Args:
        blocks: pairs, each in one block of one process.
        width: of what comes in.
        dimensions: of what is to be reached.
        holdout: share of samples that nothing is fitted on, drawn by their keys.
        folds: parts for cross-validation.
        ranks: the processes.
        names: what a vector of either side is called in messages.
        items: what comes in.

    Raises:
        NotFinite: a vector with NaN or infinity; the message names the sample.
    """
    moments, sample = Moments(width, dimensions, folds), Sample(width, dimensions)
    h, t = (np.zeros((0, wide), np.float32) for wide in (width, dimensions))
    held = [Held(h, t, np.zeros(0, np.int64))]
    with ranks.together():
        for block in blocks:
            require_finite(block.h, names[0], block.number)
            require_finite(block.t, names[1], block.number[block.owner])
            out = is_held(block.key, holdout)
            if out.any():
                held.append(_of(block, out))
                block = _kept(block, ~out)
            if not len(block.h):
                continue
            mean, within = targets(block.t, block.owner, block.weight, len(block.h))
            moments.add(block.h, mean, key=block.key, within=within, number=block.number)
            first = fold_of(block.key, folds) == 0
            sample.add(block.h[first], mean[first].astype(np.float32), block.key[first])
    together = moments.over(ranks)
    out = _joined(held, ranks)
    return Gathered(together.total, together.folds, sample.over(ranks), out, items)


def _of(block: PairBlock, chosen: np.ndarray) -> Held:
    place = np.cumsum(chosen) - 1
    captions = chosen[block.owner]
    return Held(block.h[chosen], block.t[captions], place[block.owner[captions]])


def _kept(block: PairBlock, chosen: np.ndarray) -> PairBlock:
    own = _of(block, chosen)
    weight = block.weight[chosen[block.owner]]
    return PairBlock(own.h, own.t, own.owner, weight, block.number[chosen], block.key[chosen])


def _joined(parts: list[Held], ranks: Ranks) -> Held:
    """Return parts as one, with those of the other processes behind, in the order of ranks."""
    starts = np.cumsum([0, *(len(part) for part in parts)])
    owner = np.concatenate([p.owner + s for p, s in zip(parts, starts, strict=False)])
    h, t = np.concatenate([p.h for p in parts]), np.concatenate([p.t for p in parts])
    if ranks.size == 1:
        return Held(h, t, owner)
    before = sum(ranks.sizes(fresh(h))[: ranks.worker.rank])
    rows = (fresh(part) for part in (h, t, owner + before))
    return Held(*(ranks.gather(part).numpy() for part in rows))
