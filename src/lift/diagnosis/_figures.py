"""Means and other figures of pairs with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from lift.evals._metrics import TIE

_Z95 = 1.959963984540054
_T9 = 2.262157162740992
"""Two-sided 95% points of the normal distribution and of Student's with 9 degrees of freedom."""

GROUPS = 10
MOST = 1_000
"""Rows that figures over pairs of rows, and spectra, are taken on."""


class Figure(NamedTuple):
    """A figure with its 95% interval.

    Attributes:
        value: in its own unit.
        low, high: ends of the interval.
        items: independent items that it is over.
    """

    value: float
    low: float
    high: float
    items: int


def mean(
    values: Float[np.ndarray, " n"], clusters: Int64[np.ndarray, " n"] | None = None
) -> Figure:
    """Return the mean of at least one value with a normal interval over clusters.

    Args:
        values: of the items.
        clusters: a number for each, equal where items belong together; None: all independent.
    """
    value = float(values.mean(dtype=np.float64))
    number = np.arange(len(values)) if clusters is None else clusters
    _, at = np.unique(number, return_inverse=True)
    sums = np.bincount(at, (values - value) / len(values))
    count = len(sums)
    if count < 2:
        return Figure(value, -math.inf, math.inf, count)
    reach = _Z95 * math.sqrt(float(sums @ sums) * count / (count - 1))
    return Figure(value, value - reach, value + reach, count)


def jackknife(statistic: Callable[[Int64[np.ndarray, " k"]], float], count: int) -> Figure:
    """Return a statistic of `count` items with its interval, by leaving out a tenth at a time.

    The delete-a-group jackknife (Kott 2001): no seed, eleven evaluations, Student's t.

    Args:
        statistic: of the items with these numbers.
        count: items, at least 20.
    """
    everything = np.arange(count)
    value = statistic(everything)
    left = [statistic(everything[everything % GROUPS != g]) for g in range(GROUPS)]
    return from_groups(value, left, count)


def from_groups(value: float, without: list[float], items: int) -> Figure:
    """Return a figure whose value without each tenth of the items is known."""
    left = np.array(without)
    square = (GROUPS - 1) / GROUPS * float(((left - left.mean()) ** 2).sum())
    reach = _T9 * math.sqrt(square)
    return Figure(value, value - reach, value + reach, items)


def few(count: int, most: int = MOST) -> Int64[np.ndarray, " k"]:
    """Return at most `most` of the numbers below `count`, evenly spaced."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def eigenvalues(z: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " k"]:
    """Return the eigenvalues of the covariance of rows; k is the smaller of n and d."""
    centred = z.astype(np.float64) - z.mean(axis=0, dtype=np.float64)
    gram = centred @ centred.T if len(z) < z.shape[1] else centred.T @ centred
    return np.maximum(np.linalg.eigvalsh(gram) / len(z), 0.0)


def placed(
    z_query: Float[np.ndarray, "n d"], z_item: Float[np.ndarray, "n d"]
) -> Float64[np.ndarray, " n"]:
    """Return for each query the share of the other items that lie further than its own, ties half.

    Query i belongs to item i. Guessing gives one half on average, a constant encoder exactly.
    """
    count = len(z_query)
    found = np.empty(count, np.float64)
    for start in range(0, count, 512):
        scores = z_query[start : start + 512] @ z_item.T
        own = np.arange(len(scores))
        right = scores[own, start + own][:, None]
        below = (scores < right - TIE).sum(axis=1)
        tied = (np.abs(scores - right) <= TIE).sum(axis=1) - 1
        found[start : start + 512] = (below + tied / 2) / (count - 1)
    return found
