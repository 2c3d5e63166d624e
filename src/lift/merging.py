"""Photos and texts in one ranking: scores that compare, lists merged, and a line for no match.

Pure functions on cosines: evaluations and searching use them.

A query's cosine with a text and its cosine with an image are of two scales: the gap between the
kinds moves all of one below the other (Liang et al. 2022). A calibration turns either into the
log odds that the item is right, after which they compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

TIE = 1e-6
"""Cosines closer than this are equal: float32 rounds the cosine of two unit vectors that far."""

BINS = 8192
"""Of cosines from -1 to 1: a logistic curve moves less within a bin than samples of it do."""

_STEPS, _LEAST = 100, 1e-15
_FLAT = 1e-5
"""Cosines that vary less than this say nothing of who is right."""


class Seen:
    """How often a right and a wrong item had which cosine: all that a calibration is fitted on.

    Memory does not grow with the number of pairs.

    Attributes:
        right, wrong: how many, for each bin of cosines.
    """

    def __init__(self) -> None:
        self.right = np.zeros(BINS, np.int64)
        self.wrong = np.zeros(BINS, np.int64)
        self._low, self._high = np.inf, -np.inf

    def add(self, scores: Float[np.ndarray, "q n"], match: Bool[np.ndarray, "q n"]) -> None:
        """Take cosines, and which of them are of right items."""
        if not scores.size:
            return
        self._low = min(self._low, float(scores.min()))
        self._high = max(self._high, float(scores.max()))
        place = np.clip((scores + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
        both = np.bincount(place.ravel(), minlength=BINS)
        right = np.bincount(place[match], minlength=BINS)
        self.right += right
        self.wrong += both - right

    @property
    def varies(self) -> bool:
        """Whether there are right and wrong ones, and cosines could tell them apart."""
        return bool(self.right.any() and self.wrong.any()) and self._high - self._low > _FLAT


@dataclass(frozen=True)
class Calibration:
    """From a cosine to the log odds that the item is right: slope * cosine + offset."""

    slope: float
    offset: float

    def __call__(self, scores: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Return the log odds of cosines."""
        return self.slope * scores + self.offset


def calibrate(seen: Seen, share: float) -> Calibration:
    """Return the logistic curve of a kind of items, fitted as Platt (1999) does.

    His targets, (right + 1) / (right + 2) and 1 / (wrong + 2), keep it finite where the kinds part
    cleanly. A slope below 0 would turn the order within a kind around: then, and where cosines
    don't vary, the cosine says nothing and all items have the same odds.

    Args:
        seen: cosines of right and wrong items.
        share: of right ones among the items of all kinds: the odds where cosines say nothing.
    """
    flat = Calibration(0.0, math.log(share / (1 - share)) if 0 < share < 1 else 0.0)
    if not seen.varies:
        return flat
    used = np.flatnonzero(seen.right + seen.wrong)
    x = (used + 0.5) * (2 / BINS) - 1
    right, wrong = seen.right[used].astype(np.float64), seen.wrong[used].astype(np.float64)
    high, low = (right.sum() + 1) / (right.sum() + 2), 1 / (wrong.sum() + 2)
    count, target = right + wrong, right * high + wrong * low
    middle = float((count * x).sum() / count.sum())
    width = math.sqrt(float((count * np.square(x - middle)).sum() / count.sum())) or 1.0
    slope, offset = _newton((x - middle) / width, count, target)
    if slope <= 0:
        return flat
    return Calibration(slope / width, offset - slope * middle / width)


def _newton(
    x: Float[np.ndarray, " n"], count: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]
) -> tuple[float, float]:
    """Return slope and offset of least cross-entropy, by Newton's steps halved until they help."""

    def loss(a: float, b: float) -> float:
        return float((count * np.logaddexp(0.0, a * x + b) - target * (a * x + b)).sum())

    share = float(target.sum() / count.sum())
    a, b = 0.0, math.log(share / (1 - share))
    now = loss(a, b)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(a * x + b)))
        miss, bend = count * p - target, count * p * (1 - p) + 1e-12
        gradient = np.array([float((miss * x).sum()), float(miss.sum())])
        cross = float((bend * x).sum())
        hessian = np.array([[float((bend * x * x).sum()), cross], [cross, float(bend.sum())]])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        size = 1.0
        while size > _LEAST and loss(a - size * step[0], b - size * step[1]) >= now:
            size /= 2
        if size <= _LEAST:  # rounding is all that is left
            break
        a, b = float(a - size * step[0]), float(b - size * step[1])
        before, now = now, loss(a, b)
        if before - now <= 1e-10 * abs(now):
            break
    return a, b


def comparable(
    scores: Float[np.ndarray, "q n"],
    as_image: Bool[np.ndarray, " n"],
    image: Calibration,
    text: Calibration,
) -> Float32[np.ndarray, "q n"]:
    """Return scores that compare between images and texts: their log odds, on a cosine's scale.

    Divided by the larger slope, a difference of `TIE` means what it means for cosines.

    Args:
        scores: cosines of queries with items.
        as_image: which items are images.
        image, text: the calibrations of both kinds.
    """
    unit = max(image.slope, text.slope) or 1.0
    slope = np.where(as_image, image.slope, text.slope) / unit
    offset = np.where(as_image, image.offset, text.offset) / unit
    return (scores * slope + offset).astype(np.float32)


def ranks(scores: Float[np.ndarray, "q n"]) -> Float[np.ndarray, "q n"]:
    """Return the rank of each item for its query, from 1; tied ones share their mean rank."""
    found = np.empty(scores.shape, np.float64)
    for place, row in enumerate(-scores.astype(np.float64)):
        ordered = np.sort(row)
        ahead = np.searchsorted(ordered, row - TIE, side="left")
        upto = np.searchsorted(ordered, row + TIE, side="right")
        found[place] = (ahead + 1 + upto) / 2
    return found


def reciprocal(
    scores: Float[np.ndarray, "q n"], as_image: Bool[np.ndarray, " n"], k: int = 60
) -> Float32[np.ndarray, "q n"]:
    """Return scores of two lists merged by reciprocal rank fusion (Cormack et al. 2009).

    They are (k + 1) / (k + rank). Where every item stands in one list only, as here, images and
    texts take turns, whatever their cosines and whatever k.

    Args:
        scores: cosines of queries with items.
        as_image: which items are images; they are one list, the others the second.
        k: their constant.
    """
    found = np.empty(scores.shape, np.float32)
    for mine in (as_image, ~as_image):
        if mine.any():
            found[:, mine] = (k + 1) / (k + ranks(scores[:, mine]))
    return found


def threshold(top: Float[np.ndarray, " n"], share: float) -> float | None:
    """Return the score that the best item of a query without a match exceeds in `share` of cases.

    The order statistic of split conformal prediction (Vovk et al. 2005): over draws of the queries
    it is fitted on and of the next one, the share is at most the one stated. None where there are
    too few of them to state it: it takes 1 / share - 1.

    Args:
        top: the best score of each query that has no match.
        share: of them that may be taken for a match.
    """
    place = math.ceil((len(top) + 1) * (1 - share) - 1e-9)
    return None if place > len(top) else float(np.sort(top)[place - 1])
