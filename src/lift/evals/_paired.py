"""Means of any numbers, and the difference of two means over the same things: with intervals."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from lift.evals._metrics import Z95, wilson
from lift.terms import Metric, Outcomes


def mean_of(
    values: Float[np.ndarray, " m"], clusters: Int[np.ndarray, " m"] | None = None
) -> Metric:
    """Return the mean of any numbers with its normal 95% interval; clusters count as one item."""
    mean = math.fsum(values) / len(values)
    own = (
        np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    )
    total = np.bincount(own, values - mean)
    items = len(total)
    variance = float(np.square(total).sum()) / len(values) ** 2 * items / max(items - 1, 1)
    reach = Z95 * math.sqrt(variance)
    return Metric(mean, mean - reach, mean + reach, items)


def difference(
    changed: Metric,
    plain: Metric,
    clusters: tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]] | None = None,
) -> Metric:
    """Return `changed` - `plain` of two figures on the same things, paired, with its 95% interval.

    Both are means over items; what each cluster adds to either is known, so that the variance is
    that of the sum over clusters of the two deviations' difference. The two may have different
    items (the first captions, all captions), as long as clusters are numbered alike. Where no
    cluster differs at all, the interval is what Wilson's says of the share that could.

    Args:
        changed, plain: figures with outcomes.
        clusters: of the items of both; None takes the clusters of the outcomes, or else that the
            items are the same ones.
    """
    assert changed.outcomes is not None and plain.outcomes is not None, "figures of items"
    own = clusters or (_clusters(changed.outcomes), _clusters(plain.outcomes))
    _, place = np.unique(np.concatenate(own), return_inverse=True)
    count = int(place.max()) + 1
    parts = np.split(place, [len(own[0])])
    moved = _deviations(changed, parts[0], count) - _deviations(plain, parts[1], count)
    value = changed.value - plain.value
    reach = Z95 * math.sqrt(float(np.square(moved).sum()) * count / max(count - 1, 1))
    if np.abs(moved).max() < 1e-9:
        reach = wilson(0.0, count)[1]
    return Metric(value, value - reach, value + reach, count)


def _clusters(outcomes: Outcomes) -> Int[np.ndarray, " n"]:
    if outcomes.clusters is not None:
        return outcomes.clusters
    return np.arange(len(outcomes.values))


def _deviations(
    metric: Metric, place: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, " k"]:
    """Return what each cluster adds to the distance of the figure from its mean."""
    found = metric.outcomes
    assert found is not None
    weights = np.ones(len(found.values)) if found.weights is None else found.weights
    share = weights.astype(np.float64) / float(weights.sum())
    return np.bincount(place, share * (found.values - metric.value), minlength=count)
