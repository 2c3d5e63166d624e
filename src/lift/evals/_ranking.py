"""Average precision of ranked answers, as its expectation over all orders of tied items."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from lift.evals._metrics import TIE


def average_precision(
    scores: Float32[np.ndarray, "q n"], match: Bool[np.ndarray, "q n"]
) -> Float[np.ndarray, " q"]:
    """Return for each query the mean, over its right items, of the precision at their rank.

    Where scores tie, it is the expectation over all orders of the tied items, in closed form
    (McSherry and Najork 2008, "Computing information retrieval performance measures efficiently
    in the presence of tied scores"). Without ties it is the usual one. Items tie within `TIE`.

    Args:
        scores: of every item for every query.
        match: which items are right; every query has one.
    """
    assert match.any(axis=1).all(), "a query without a right item has no precision"
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, scores.shape[1] + 1))])
    return np.array(
        [_of_one(row, row[own], harmonic) for row, own in zip(scores, match, strict=True)]
    )


def _of_one(
    scores: Float32[np.ndarray, " n"],
    right: Float32[np.ndarray, " r"],
    harmonic: Float[np.ndarray, " m"],
) -> float:
    """Return the average precision of one query.

    Args:
        scores: of all items.
        right: those of the right ones.
        harmonic: the first harmonic numbers, 0 among them.
    """
    right = np.sort(right)
    ahead, tied = _around(scores, right)
    right_ahead, right_tied = _around(right, right)
    # A right item stands at place i of its ties with the chance 1 / tied, and so many of the
    # other right ones stand before it: (i - 1) (right_tied - 1) / (tied - 1).
    step = (right_tied - 1) / np.maximum(tied - 1, 1)
    sums = harmonic[ahead + tied] - harmonic[ahead]
    # The sum over i of (right_ahead + 1 + (i - 1) step) / (ahead + i).
    several = step + (right_ahead + 1 - step * (ahead + 1)) * sums / tied
    alone = (right_ahead + 1) / (ahead + 1)
    return min(1.0, float(np.where(tied == 1, alone, several).mean()))


def _around(
    scores: Float32[np.ndarray, " n"], at: Float32[np.ndarray, " r"]
) -> tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"]]:
    """Return how many scores are higher than each of some, and how many tie with it."""
    if len(at) <= _FEW:
        higher = (scores > at[:, None] + np.float32(TIE)).sum(axis=1)
        below = (scores < at[:, None] - np.float32(TIE)).sum(axis=1)
    else:
        ordered = np.sort(scores)
        higher = len(scores) - np.searchsorted(ordered, at + np.float32(TIE), side="right")
        below = np.searchsorted(ordered, at - np.float32(TIE), side="left")
    return higher, len(scores) - higher - below


_FEW = 8
"""Up to so many right items, counting twice is quicker than sorting all scores."""
