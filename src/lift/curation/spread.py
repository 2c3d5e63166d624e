"""How whole numbers are spread: counted in bins, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_EXACT = 1024
"""Values below this have a bin each."""

_OCTAVE = 256
"""Bins of each doubling above: a quantile is at most 0.4% off there."""

_BINS = _EXACT + 40 * _OCTAVE
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BARS = 40
_DRAWN = 0.99


@dataclass(frozen=True)
class Bars:
    """A histogram of equal steps.

    Attributes:
        edges: where bars begin and end [n + 1].
        counts: values in each bar [n].
        beyond: values above the last edge, about 1% at most, that would leave nothing to see.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: int


@dataclass(frozen=True)
class Spread:
    """What is known of many whole numbers.

    Attributes:
        count, total, least, most: exact.
        quantiles: at 5, 25, 50, 75 and 95%; exact below 1,024, else within 0.4%.
        bars: for a chart.
    """

    count: int
    total: int
    least: int
    most: int
    quantiles: tuple[int, ...]
    bars: Bars

    @property
    def mean(self) -> float:
        """Return the mean, 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    @property
    def median(self) -> int:
        """Return the middle quantile."""
        return self.quantiles[2]


class Counting:
    """Counts numbers from 0 on as they come; `spread` says what they were."""

    def __init__(self) -> None:
        self._bins = np.zeros(_BINS, np.int64)
        self._count = self._total = self._most = 0
        self._least: int | None = None

    def add(self, values: Iterable[int]) -> None:
        """Count some numbers, none below 0."""
        found = np.fromiter(values, np.int64)
        if not len(found):
            return
        self._bins += np.bincount(_bin_of(found), minlength=_BINS)
        self._count += len(found)
        self._total += int(found.sum())
        self._most = max(self._most, int(found.max()))
        least = int(found.min())
        self._least = least if self._least is None else min(self._least, least)

    def spread(self) -> Spread:
        """Return what was counted so far."""
        least = self._least or 0
        ends = np.cumsum(self._bins)
        quantiles = tuple(
            min(max(self._at(ends, share), least), self._most) if self._count else 0
            for share in _SHARES
        )
        return Spread(self._count, self._total, least, self._most, quantiles, self._bars(ends))

    def _at(self, ends: np.ndarray, share: float) -> int:
        """Return the smallest value that at least `share` of the numbers do not exceed."""
        return int(_LOWER[int(np.searchsorted(ends, max(1, np.ceil(share * self._count))))])

    def _bars(self, ends: np.ndarray) -> Bars:
        if not self._count:
            return Bars((), (), 0)
        low = self._least or 0
        high = max(low, min(self._most, self._at(ends, _DRAWN))) + 1
        step = max(1, -(-(high - low) // _BARS))
        edges = np.arange(low, high + step, step)
        inside = self._bins > 0
        bar = np.maximum(_LOWER[:_BINS][inside], low) - low
        counts = np.bincount(
            np.minimum(bar // step, len(edges) - 1),
            weights=self._bins[inside],
            minlength=len(edges),
        ).astype(int)
        return Bars(tuple(edges.tolist()), tuple(counts[:-1].tolist()), int(counts[-1]))


def _bin_of(values: np.ndarray) -> np.ndarray:
    """Return the bin [n] of every value."""
    large = values >= _EXACT
    # frexp: value = fraction * 2 ** power with a fraction from 0.5 on, exact below 2 ** 53.
    power = np.frexp(np.where(large, values, _EXACT).astype(np.float64))[1].astype(np.int64) - 1
    place = (values >> np.maximum(power - 8, 0)) - _OCTAVE
    above = _EXACT + (power - 10) * _OCTAVE + place
    return np.minimum(np.where(large, above, values), _BINS - 1)


def _lower() -> np.ndarray:
    number = np.arange(_BINS + 1) - _EXACT
    octave, place = number // _OCTAVE, number % _OCTAVE
    above = (place + _OCTAVE) << (np.maximum(octave, 0) + 2)
    return np.where(number < 0, number + _EXACT, above)


_LOWER = _lower()
"""The smallest value of every bin."""
