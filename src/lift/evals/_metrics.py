"""Figures from scores and from who is right, each with its 95% interval: pure functions.

Ties are broken by nobody: a figure is its expectation over all orders of tied items. A constant
encoder therefore scores exactly chance, however the items are sorted.

Intervals are Wilson's, with an effective number of items. It is the number of items where they
are independent and count alike; Kish's (sum w)^2 / sum w^2 where they have weights; and smaller
still where items that weigh more vary more (rare classes that are hard), or where items come in
clusters (the captions of one image) that agree more than chance would have them: then it is what
makes p (1 - p) / n equal the cluster-robust variance. Items may be alike in two ways (captions of
one image, captions of one text): the variance then sums over all pairs that are alike in either,
as in Cameron, Gelbach and Miller (2011). Unlike a bootstrap this needs no seed and stays honest at
0% and 100%. An interval speaks of other queries from the same place; the gallery searched is taken
as given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from lift.merging import TIE as TIE
from lift.terms import Metric, Outcomes

Z95 = 1.959963984540054
"""Two-sided 95% point of the normal distribution."""


@dataclass(frozen=True)
class Places:
    """Where the first right item of each query stands.

    Attributes:
        ahead: wrong items with a higher score than the best right one.
        tied: items with the same score as the best right one, itself among them.
        right: how many of those are right.
    """

    ahead: Int[np.ndarray, " q"]
    tied: Int[np.ndarray, " q"]
    right: Int[np.ndarray, " q"]


def places(scores: Float32[np.ndarray, "q n"], match: Bool[np.ndarray, "q n"]) -> Places:
    """Return where the first right item of each query stands; every query must have one."""
    assert match.any(axis=1).all(), "a query without a right item has no place"
    best = np.where(match, scores, -np.inf).max(axis=1, keepdims=True).astype(scores.dtype)
    tied = np.abs(scores - best) <= TIE
    ahead = scores > best + np.float32(TIE)
    return Places((ahead & ~tied).sum(axis=1), tied.sum(axis=1), (tied & match).sum(axis=1))


def join(parts: list[Places]) -> Places:
    """Return the places of consecutive blocks of queries as one."""
    return Places(
        np.concatenate([p.ahead for p in parts]),
        np.concatenate([p.tied for p in parts]),
        np.concatenate([p.right for p in parts]),
    )


def recall_at_k(found: Places, k: int) -> Float[np.ndarray, " q"]:
    """Return for each query the chance that a right item is among the first `k`.

    It is 0 or 1 without ties. With them: of the tied items, `k - ahead` are drawn, and it misses
    only if all of those are wrong (hypergeometric).
    """
    spots = np.clip(k - found.ahead, 0, found.tied)
    miss = np.ones(len(spots))
    for drawn in range(int(spots.max(initial=0))):
        wrong_left = np.maximum(found.tied - found.right - drawn, 0)
        step = wrong_left / np.maximum(found.tied - drawn, 1)
        miss = np.where(drawn < spots, miss * step, miss)
    return 1.0 - miss


def ranks(found: Places) -> Float[np.ndarray, " q"]:
    """Return for each query the expected rank of the first right item; the best rank is 1."""
    return found.ahead + (found.tied + 1) / (found.right + 1)


def chance_at_k(items: int, right: Int[np.ndarray, " q"], k: int) -> float:
    """Return the mean recall at `k` of guessing, where query i has right[i] right items."""
    return float(recall_at_k(Places(0 * right, 0 * right + items, right), k).mean())


def wilson(share: float, items: int | float) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share over `items` independent items (1927)."""
    spread = Z95**2 / items
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / items + spread / (4 * items)) / (1 + spread)
    # Rounding must not leave the share outside: at 100% the upper end is 100%.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


@dataclass(frozen=True)
class Alike:
    """Which items belong together in a second way, beside their clusters.

    Attributes:
        item: the number of an item; one that belongs to several groups stands here several times,
            one that belongs to none does not stand here.
        group: the group that it belongs to.
    """

    item: Int[np.ndarray, " m"]
    group: Int[np.ndarray, " m"]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.group))

    def between(self, amounts: Float[np.ndarray, " q"]) -> float:
        """Return the sum of amounts[i] * amounts[j] over all i != j of one group.

        Two items that share several groups count several times, which errs on the wide side.
        """
        _, group = np.unique(self.group, return_inverse=True)
        mine = amounts[self.item]
        total = np.bincount(group, mine)
        return float(total @ total) - float(mine @ mine)


def share(
    values: Float[np.ndarray, " q"],
    weights: Float[np.ndarray, " q"] | None = None,
    clusters: Int[np.ndarray, " q"] | None = None,
    alike: Alike | None = None,
) -> Metric:
    """Return the (weighted) mean of values in [0, 1] with its interval (see above).

    Args:
        values: credit of each item.
        weights: how much each item counts; None: all alike.
        clusters: a number for each item, equal within a cluster; None: all independent.
        alike: items that belong together in another way.
    """
    assert len(values) > 0, "the share of no items"
    part = np.ones(len(values)) if weights is None else weights
    whole = math.fsum(part)
    mean = math.fsum(part * values) / whole  # exact sums: the mean of ones is 1, not 1 + 2e-16
    part = part / whole
    items, effective = len(values), 1.0 / float(part @ part)
    if clusters is not None or alike is not None or weights is not None:
        found = np.arange(len(values)) if clusters is None else clusters
        items, effective = _clustered(values, part, found, alike, mean, effective)
    low, high = wilson(mean, effective)
    outcomes = Outcomes(
        values.astype(np.float32),
        None if weights is None else weights.astype(np.float32),
        None if clusters is None else clusters.astype(np.int64),
    )
    return Metric(mean, low, high, items, outcomes)


def _clustered(
    values: np.ndarray,
    weights: np.ndarray,
    clusters: np.ndarray,
    alike: Alike | None,
    mean: float,
    most: float,
) -> tuple[int, float]:
    """Return how many independent items there are, and the effective number, at most `most`."""
    count = len(np.unique(clusters))
    if alike is not None:
        count = min(count, alike.groups)
    variance = _pairs(weights * (values - mean), clusters, alike) * count / max(count - 1, 1)
    if count == 1 or not 0 < mean < 1 or variance == 0:
        # Nothing varies, so nothing can be estimated: as if all of a cluster were one item.
        return count, 1.0 / _pairs(weights, clusters, alike)
    return count, min(most, mean * (1 - mean) / variance)


def _pairs(amounts: np.ndarray, clusters: np.ndarray, alike: Alike | None) -> float:
    """Return the sum of amounts[i] * amounts[j] over all pairs of one cluster or alike."""
    _, cluster = np.unique(clusters, return_inverse=True)
    total = np.bincount(cluster, amounts)
    found = float(total @ total)
    # Pairs that happen to disagree must not make an interval narrower than it is without them.
    return found if alike is None else found + max(0.0, alike.between(amounts))


def median(
    values: Float[np.ndarray, " q"],
    clusters: Int[np.ndarray, " q"] | None = None,
    alike: Alike | None = None,
) -> Metric:
    """Return the median with an interval from order statistics.

    Its ends are the values at the shares 1/2 -+ 1.96 / (2 sqrt n), where n is the number of
    clusters: cautious, because a cluster counts as one item. With `alike`, n is what an equal
    share of all items has as its effective number.
    """
    own = np.arange(len(values)) if clusters is None else clusters
    items, effective = len(np.unique(own)), float(len(np.unique(own)))
    if alike is not None:
        items = min(items, alike.groups)
        effective = 1.0 / _pairs(np.full(len(values), 1.0 / len(values)), own, alike)
        effective = min(effective, float(items))
    reach = Z95 / (2 * math.sqrt(effective))
    low = np.quantile(values, max(0.0, 0.5 - reach), method="lower")
    high = np.quantile(values, min(1.0, 0.5 + reach), method="higher")
    return Metric(float(np.median(values)), float(low), float(high), items)


def class_weights(labels: Int[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """Return weights under which every class that occurs counts alike."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]


def spread_out(candidates: Int[np.ndarray, " m"], count: int) -> list[int]:
    """Return at most `count` of the candidates, evenly spaced, always the same ones."""
    if len(candidates) <= count:
        return [int(c) for c in candidates]
    steps = np.linspace(0, len(candidates) - 1, count).round().astype(np.int64)
    return [int(c) for c in candidates[steps]]


def both_kinds(right: Bool[np.ndarray, " q"], count: int) -> list[int]:
    """Return at most `count` positions, right and wrong ones in turn, for examples."""
    good = spread_out(np.flatnonzero(right), count)
    bad = spread_out(np.flatnonzero(~right), count)
    most_good = max(count // 2, count - len(bad))
    good = spread_out(np.array(good, dtype=np.int64), most_good)
    bad = spread_out(np.array(bad, dtype=np.int64), count - len(good))
    turns = [pair for both in zip(good, bad, strict=False) for pair in both]
    shorter = min(len(good), len(bad))
    return turns + good[shorter:] + bad[shorter:]


def chosen(right: Bool[np.ndarray, " q"], count: int) -> list[int]:
    """Return at most `count` positions for examples.

    Half of them are evenly spread, whatever was answered, so that several models are seen on the
    same items; the rest are right and wrong ones in turn.
    """
    same = spread_out(np.arange(len(right)), count // 2)
    rest = np.setdiff1d(np.arange(len(right)), same)
    return same + [int(rest[at]) for at in both_kinds(right[rest], count - len(same))]
