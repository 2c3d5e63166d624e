"""Which pairs belong together, by their keys alone: folds, what is held out, a small sample."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt64

from lift.ranks import Ranks

SAMPLE = 4_096
"""Pairs that neighbours are looked for among."""

_FOLD, _HELD, _SAMPLE = 1, 2, 3
"""Purposes: what is drawn for one says nothing about another."""


def scrambled(key: UInt64[np.ndarray, " n"], purpose: int) -> UInt64[np.ndarray, " n"]:
    """Return 64 bits for each key that look random (SplitMix64, Steele et al., OOPSLA 2014)."""
    value = key + np.uint64(purpose) * np.uint64(0x9E3779B97F4A7C15 >> 8)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(31))


def fold_of(key: UInt64[np.ndarray, " n"], folds: int) -> Int64[np.ndarray, " n"]:
    """Return the fold of each key, the same in every process and for any order."""
    return (scrambled(key, _FOLD) % np.uint64(folds)).astype(np.int64)


def is_held(key: UInt64[np.ndarray, " n"], share: float) -> Bool[np.ndarray, " n"]:
    """Return which keys are held out: about `share` of them, the same in every process."""
    return scrambled(key, _HELD) < np.uint64(min(max(share, 0.0), 1.0) * (2.0**64 - 2048.0))


class Sample:
    """The pairs with the smallest hashes of all that were shown, whatever their order."""

    def __init__(self, width: int, dimensions: int, count: int = SAMPLE) -> None:
        """Start empty.

        Args:
            width, dimensions: of the vectors of both sides.
            count: pairs to keep.
        """
        self.count = count
        h, t = (np.zeros((0, wide), np.float32) for wide in (width, dimensions))
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [
            (np.zeros(0, np.uint64), h, t)
        ]

    def add(
        self,
        h: Float32[np.ndarray, "b w"],
        t: Float32[np.ndarray, "b d"],
        key: UInt64[np.ndarray, " b"],
    ) -> None:
        """Show pairs."""
        self._parts.append((scrambled(key, _SAMPLE), h, t))
        if sum(len(part[0]) for part in self._parts) > 2 * self.count:
            self._parts = [self._smallest()]

    def over(self, ranks: Ranks) -> Sample:
        """Return the sample of what all processes were shown, the same on each."""
        if ranks.size == 1:
            return self
        place, h, t = self._smallest()
        joined = Sample(h.shape[1], t.shape[1], self.count)
        parts = (place.view(np.int64), h, t)
        place, h, t = (ranks.gather(fresh(part)).numpy() for part in parts)
        joined._parts = [(place.view(np.uint64), h, t)]
        return joined

    def __len__(self) -> int:
        return min(self.count, sum(len(part[0]) for part in self._parts))

    def rows(self) -> tuple[Float32[np.ndarray, "n w"], Float32[np.ndarray, "n d"]]:
        """Return the vectors of both sides, ordered by hash."""
        return self._smallest()[1:]

    def _smallest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = zip(*self._parts, strict=True)
        place, h, t = (np.concatenate(part) for part in parts)
        kept = np.argsort(place, kind="stable")[: self.count]
        return place[kept], h[kept], t[kept]


def fresh(part: np.ndarray) -> torch.Tensor:
    """Return a copy that can travel: numpy gives empty arrays strides that torch can't view."""
    return torch.empty(part.shape, dtype=torch.from_numpy(part[:0]).dtype).copy_(
        torch.from_numpy(part)
    )
