"""Intervals from resampling: one arm's figure over seeds, and how far two arms differ.

Items that belong together (captions of one image) are drawn together. Where an arm has several
seeds, seeds are drawn too, the same of both arms: the interval then speaks of other items and of
other seeds. Percentile intervals (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from lift.errors import DataError
from lift.terms import Outcomes

RESAMPLES = 10_000
_NUMBERS = 4_000_000
"""Drawn at a time: 32 MB."""

_MOST = 400_000_000
"""Drawn in all; above it there are fewer resamples, and the more items, the less it matters."""

_LEAST = 1_000


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
    return _spread([np.asarray(one.values, np.float64) for one in arm], arm, resamples)


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
    return _spread(values, ours, resamples)


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
    values: Sequence[Float64[np.ndarray, " n"]], outcomes: Sequence[Outcomes], resamples: int
) -> Spread:
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
    clusters, seeds = int(cluster.max()) + 1, len(values)
    weight = np.bincount(cluster, weights, clusters)
    sums = np.stack([np.bincount(cluster, weights * own, clusters) for own in values], axis=1)
    mean = float(sums.sum() / weight.sum() / seeds)
    drawn = _resampled(sums, weight, resamples)
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Rounding must not leave the mean outside where nothing varies.
    return Spread(mean, min(mean, float(low)), max(mean, float(high)), clusters, seeds)


def _resampled(
    sums: Float64[np.ndarray, "clusters seeds"],
    weight: Float64[np.ndarray, " clusters"],
    resamples: int,
) -> Float64[np.ndarray, " resamples"]:
    """Return the mean in each resample: clusters drawn with replacement, and seeds."""
    clusters, seeds = sums.shape
    resamples = min(resamples, max(_LEAST, _MOST // clusters))
    rng = np.random.default_rng(0)
    at_once = max(1, _NUMBERS // clusters)
    found = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        chosen = rng.integers(0, clusters, (size, clusters))
        chosen += clusters * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * clusters).reshape(size, clusters)
        means = (times @ sums) / (times @ weight)[:, None]
        if seeds == 1:
            found.append(means[:, 0])
            continue
        shown = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size)
        found.append((means * shown).sum(axis=1) / seeds)
    return np.concatenate(found)
