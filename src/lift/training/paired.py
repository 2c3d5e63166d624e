"""Paired differences over seeds, with the interval that so few of them allow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lift.errors import ConfigError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """What one arm has more than another in one figure.

    Attributes:
        seeds: those that both arms have.
        differences: of each, the arm's value less the other's.
        mean: of these.
        low, high: ends of the 95% t-interval of the mean; None for a single seed, and where all
            seeds differ by the same: a figure of few items moves in steps, and equal steps are no
            measure of spread.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None

    def verdict(self, *, lower_is_better: bool = False) -> str:
        """Return what the interval says: "better", "worse", "no difference shown", or why nothing.

        Args:
            lower_is_better: of the figure, as of a rank.
        """
        if self.low is None or self.high is None:
            if len(self.seeds) == 1:
                return "one seed, no interval"
            return "the same in every seed, no interval" if self.mean else "no difference shown"
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "better" if (self.low > 0) is not lower_is_better else "worse"


def difference(seeds: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return the paired difference of one figure, `ours` less `theirs`, seed by seed.

    The interval is mean +- t s / sqrt(n) with Student's t of n - 1 degrees of freedom (Student
    1908). It speaks of other seeds on the same data, not of other data.

    Raises:
        ConfigError: no seed, or not one value of each for every seed.
    """
    if not seeds or not len(seeds) == len(ours) == len(theirs):
        raise ConfigError(
            f"A paired difference needs two values a seed, not {len(ours)} and {len(theirs)} for "
            f"{len(seeds)} seeds."
        )
    found = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(found)
    low = high = None
    spread = max(found) - min(found)
    if spread > 1e-9 * max(map(abs, found)):  # beyond rounding
        share = (1 + CONFIDENCE) / 2
        half = t_quantile(share, len(found) - 1) * statistics.stdev(found) / math.sqrt(len(found))
        low, high = mean - half, mean + half
    return Difference(tuple(seeds), tuple(found), mean, low, high)


def t_quantile(share: float, freedom: int) -> float:
    """Return the value that Student's t stays below with probability `share`.

    Args:
        share: between 0.5 and 1.
        freedom: degrees of freedom, a whole number from 1 on.

    Raises:
        ConfigError: either is out of range.
    """
    if not 0.5 <= share < 1 or freedom < 1:
        raise ConfigError(
            f"Student's t needs a share in [0.5, 1) and at least 1 degree of freedom, not {share} "
            f"and {freedom}."
        )
    inside = 2 * share - 1
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:  # until floats have none between
        if _within(middle, freedom) < inside:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: int) -> float:
    """Return P(|T| < sqrt(freedom) tan(angle)); finite sums for whole degrees of freedom.

    Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = sine * math.cos(angle) if odd else sine
    total = term if freedom > 1 else 0.0
    for n in range(2 + odd, freedom - 1, 2):
        term *= (n - 1) / n * square
        total += term
    return (angle + total) * 2 / math.pi if odd else total
