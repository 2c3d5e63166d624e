"""Intervals from resampling: one arm's figure over seeds, and how far two arms differ.

Items that belong together (captions of one image) are drawn together. Where an arm has several
seeds, the interval speaks of other items and of other seeds: to each resample comes what a mean of
so few seeds may be off by, Student's t with one degree less than there are seeds times their
standard error. (Seeds that are drawn like items never lie further apart than they do, so that 95%
intervals of three held the truth in 80% of cases.) Percentile intervals (Efron and Tibshirani
1993, chapter 13). Where no item differs from another, nothing can be resampled; the interval then
is Wilson's (1927) of what was never seen to happen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from lift.errors import DataError
from lift.terms import Outcomes

RESAMPLES = 10_000
_NUMBERS = 4_000_000
"""Drawn at a time: 32 MB."""

_MOST = 400_000_000
"""Drawn in all; above it there are fewer resamples, and the more items, the less it matters."""

_KEPT = 1 << 26
"""Numbers kept for the next figure, which mostly has as many clusters: 64 MB."""

_LEAST = 1_000

_SQUARE95 = 1.959963984540054**2
"""Of the two-sided 95% point of the normal distribution."""

_SAME = 1e-9
"""Clusters that differ by less do not differ: float64 rounds their means."""


@dataclass(frozen=True)
class Spread:
    """A mean over items (and seeds) with its 95% interval.

    Attributes:
        mean: of the arm, or of the difference between two.
        low, high: ends of the interval.
        items: independent items (clusters).
        seeds: runs of each arm.
    """

    mean: float
    low: float
    high: float
    items: int
    seeds: int


def pooled(arm: Sequence[Outcomes], *, resamples: int = RESAMPLES) -> Spread:
    """Return one figure of several seeds: its mean over them.

    Raises:
        DataError: seeds that were not judged on the same items.
    """
    values = [np.asarray(one.values, np.float64) for one in arm]
    return _spread(values, arm, resamples, least=0.0)


def paired(
    ours: Sequence[Outcomes], theirs: Sequence[Outcomes], *, resamples: int = RESAMPLES
) -> Spread:
    """Return how much more an arm has than another in one figure, item by item and seed by seed.

    Args:
        ours, theirs: a figure's outcomes of each seed, in the same order of seeds.
        resamples: drawn with a fixed seed: the same outcomes give the same interval.

    Raises:
        DataError: not the same items, or not as many seeds.
    """
    if not ours or len(ours) != len(theirs):
        raise DataError(
            f"A paired difference needs as many runs on both sides, not {len(ours)} and "
            f"{len(theirs)}."
        )
    _require_same([*ours, *theirs])
    values = [
        np.asarray(a.values, np.float64) - np.asarray(b.values, np.float64)
        for a, b in zip(ours, theirs, strict=True)
    ]
    return _spread(values, ours, resamples, least=-1.0)


def same_items(outcomes: Sequence[Outcomes]) -> bool:
    """Return whether figures are over the same items, weighted and clustered alike."""
    first = outcomes[0]
    for other in outcomes[1:]:
        if len(other.values) != len(first.values):
            return False
        for name in ("weights", "clusters"):
            a, b = getattr(first, name), getattr(other, name)
            if (a is None) != (b is None) or (a is not None and not np.array_equal(a, b)):
                return False
    return True


def _require_same(outcomes: Sequence[Outcomes]) -> None:
    if not same_items(outcomes):
        counts = ", ".join(f"{len(one.values)}" for one in outcomes)
        raise DataError(
            f"These figures are over other items ({counts} of them), so they can't be compared "
            "item by item."
        )


def _spread(
    values: Sequence[Float64[np.ndarray, " n"]],
    outcomes: Sequence[Outcomes],
    resamples: int,
    least: float,
) -> Spread:
    """Return the mean with its interval, which stays between `least` and 1."""
    _require_same(outcomes)
    first = outcomes[0]
    count = len(first.values)
    if not count:
        raise DataError("There are no items to draw from.")
    weights = np.ones(count) if first.weights is None else np.asarray(first.weights, np.float64)
    cluster: Int64[np.ndarray, " n"] = (
        np.arange(count)
        if first.clusters is None
        else np.unique(first.clusters, return_inverse=True)[1].astype(np.int64)
    )
    weight = np.bincount(cluster, weights)
    sums = np.stack([np.bincount(cluster, weights * own) for own in values], axis=1)
    there = weight > 0  # a resample of nothing but the others would have no mean
    if not there.any():
        raise DataError("There are no items that count to draw from.")
    weight, sums = weight[there], sums[there]
    clusters, seeds = sums.shape
    mean = float(sums.sum() / weight.sum() / seeds)
    each = sums.mean(axis=1) / weight
    off = _off_by_seeds(sums.sum(axis=0) / weight.sum(), resamples)
    if np.ptp(each) < _SAME:
        unseen = _SQUARE95 / (clusters + _SQUARE95)
        low, high = mean - (mean - least) * unseen, mean + (1.0 - mean) * unseen
        if seeds > 1:
            low, high = low + np.quantile(off, 0.025), high + np.quantile(off, 0.975)
    else:
        drawn = _resampled(sums.mean(axis=1), weight, resamples)
        off = off[: len(drawn)]  # both signs: a difference has one interval from either side
        low, high = np.quantile(np.concatenate([drawn + off, drawn - off]), [0.025, 0.975])
    # Rounding must not leave the mean outside.
    return Spread(
        mean,
        min(mean, max(least, float(low))),
        max(mean, min(1.0, float(high))),
        clusters,
        seeds,
    )


def _off_by_seeds(
    means: Float64[np.ndarray, " seeds"], count: int
) -> Float64[np.ndarray, " count"]:
    """Return draws of how far the mean over seeds is off: that of their t-interval."""
    seeds = len(means)
    if seeds == 1:
        return np.zeros(count)
    return _students(seeds - 1, count) * float(means.std(ddof=1)) / math.sqrt(seeds)


@functools.lru_cache(maxsize=8)
def _students(freedom: int, count: int) -> Float64[np.ndarray, " count"]:
    """Return Student's t in random order, one from each of so many equal shares of it.

    Its tails are heavy: of 4,000 that fall by chance the outer 2.5% begin up to 5% too near or too
    far, and not alike on both sides. T is sqrt(freedom) tan(a) with a density of cos(a) to the
    power of freedom - 1.
    """
    angle = np.linspace(-math.pi / 2, math.pi / 2, 100_001)
    density = np.cos(angle) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    shares = (np.arange(count) + 0.5) / count
    drawn = math.sqrt(freedom) * np.tan(np.interp(shares, below / below[-1], angle))
    return np.random.default_rng(1).permutation(drawn)


def _resampled(
    sums: Float64[np.ndarray, " clusters"],
    weight: Float64[np.ndarray, " clusters"],
    resamples: int,
) -> Float64[np.ndarray, " resamples"]:
    """Return the mean in each resample: clusters drawn with replacement."""
    clusters = len(sums)
    resamples = min(resamples, max(_LEAST, _MOST // clusters))
    both = np.stack([sums, weight], axis=1)
    drawn = _drawn if clusters * resamples <= _KEPT else _drawing
    found = np.concatenate([times @ both for times in drawn(clusters, resamples)])
    return found[:, 0] / found[:, 1]


@functools.lru_cache(maxsize=1)
def _drawn(clusters: int, resamples: int) -> tuple[UInt8[np.ndarray, "some clusters"], ...]:
    """Return how often each cluster is drawn: one figure after the other has as many clusters."""
    return tuple(_drawing(clusters, resamples))


def _drawing(clusters: int, resamples: int) -> Iterator[UInt8[np.ndarray, "some clusters"]]:
    """Yield how often each cluster is drawn in some of the resamples (never 256 times)."""
    rng = np.random.default_rng(0)
    at_once = max(1, _NUMBERS // clusters)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        chosen = rng.integers(0, clusters, (size, clusters))
        chosen += clusters * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * clusters)
        yield times.reshape(size, clusters).astype(np.uint8)
