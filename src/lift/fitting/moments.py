"""Sums over pairs of vectors, gathered in one pass: memory grows with their widths, not with n."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt64

from lift.errors import NotFinite
from lift.fitting.sampling import fold_of
from lift.linear import Sums, total
from lift.ranks import Ranks

FOLDS = 5

_FLUSH = 1_024
"""Rows of a fold that are kept until they are multiplied: one product of many rows is faster."""


class Moments:
    """Weight, images, means and products of pairs (h, t) in float64, for each fold.

    A pair belongs to a fold by its key, so choices by cross-validation need no second pass. Each
    block's products are taken about its own mean and joined with the rest's (Chan, Golub and
    LeVeque 1979), so a mean far from zero costs no digits.

    Attributes:
        width, dimensions: of h and of t.
    """

    def __init__(self, width: int, dimensions: int, folds: int = FOLDS) -> None:
        """Start empty.

        Args:
            width: of what comes in.
            dimensions: of what is to be reached.
            folds: parts that pairs are divided into.
        """
        self.width, self.dimensions = width, dimensions
        self._folds = [Sums.none(width, dimensions) for _ in range(folds)]
        self._held: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(folds)]

    def add(
        self,
        h: Float[np.ndarray, "b w"],
        t: Float[np.ndarray, "b d"],
        weight: Float[np.ndarray, " b"] | None = None,
        *,
        key: UInt64[np.ndarray, " b"] | None = None,
        within: Float[np.ndarray, " b"] | None = None,
        number: Int64[np.ndarray, " b"] | None = None,
    ) -> None:
        """Add pairs.

        Args:
            h: what comes in.
            t: what is to be reached: of several captions their mean, see `targets`.
            weight: how much each pair counts, 0 or more; all alike if not given.
            key: 64 bits that stand for each pair, which decide its fold; one fold if not given.
            within: the mean squared distance of a pair's captions from `t`.
            number: of each sample, for the message.

        Raises:
            NotFinite: a vector or weight with NaN or infinity; the message names the sample.
        """
        weight = np.ones(len(h)) if weight is None else weight.astype(np.float64)
        within = np.zeros(len(h)) if within is None else within.astype(np.float64)
        require_finite(h, "image vector", number)
        require_finite(t, "caption vector", number)
        require_finite(weight[:, None], "weight", number)
        fold = np.zeros(len(h), np.int64) if key is None else fold_of(key, len(self._folds))
        for place in np.unique(fold).tolist():
            mine = fold == place
            self._held[place].append((h[mine], t[mine], weight[mine], within[mine]))
            if sum(len(rows[0]) for rows in self._held[place]) >= _FLUSH:
                self._flush(place)

    @property
    def folds(self) -> list[Sums]:
        """The sums of each fold."""
        for place in range(len(self._folds)):
            self._flush(place)
        return list(self._folds)

    @property
    def total(self) -> Sums:
        """The sums of all pairs."""
        return total(self.folds)

    def __len__(self) -> int:
        """Return how many pairs were added."""
        return sum(fold.images for fold in self.folds)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of pairs."""
        assert len(self._folds) == len(other._folds), "both have to have the same folds"
        joined = Moments(self.width, self.dimensions, len(self._folds))
        joined._folds = [a + b for a, b in zip(self.folds, other.folds, strict=True)]
        return joined

    def over(self, ranks: Ranks) -> Moments:
        """Return the moments of the pairs of all processes, the same on each."""
        if ranks.size == 1:
            return self
        joined = Moments(self.width, self.dimensions, len(self._folds))
        joined._folds = [_over(fold, ranks) for fold in self.folds]
        return joined

    def _flush(self, place: int) -> None:
        if not self._held[place]:
            return
        parts = zip(*self._held[place], strict=True)
        h, t, weight, within = (np.concatenate(part).astype(np.float64) for part in parts)
        self._held[place].clear()
        whole = float(weight.sum())
        share = weight / whole if whole > 0 else weight
        mean_h, mean_t = share @ h, share @ t
        root = np.sqrt(weight)[:, None]
        h, t = (h - mean_h) * root, (t - mean_t) * root
        block = Sums(
            whole, len(h), mean_h, mean_t, h.T @ h, h.T @ t, t.T @ t, float(weight @ within)
        )
        self._folds[place] = self._folds[place] + block


def _over(own: Sums, ranks: Ranks) -> Sums:
    """Return the sums of all processes: first their means, then products about the common one."""

    def sum_of(values: np.ndarray) -> np.ndarray:
        return ranks.sum(torch.from_numpy(np.ascontiguousarray(values))).numpy()

    counts = sum_of(np.array([own.weight, own.images, own.within], np.float64))
    whole = float(counts[0])
    mean_h, mean_t = (
        sum_of(own.weight * mean) / (whole or 1.0) for mean in (own.mean_h, own.mean_t)
    )
    here = own.about(mean_h, mean_t)
    hh, ht, tt = (sum_of(value) for value in (here.hh, here.ht, here.tt))
    return Sums(whole, round(counts[1]), mean_h, mean_t, hh, ht, tt, float(counts[2]))


def targets(
    t: Float[np.ndarray, "c d"],
    owner: Int64[np.ndarray, " c"],
    weight: Float[np.ndarray, " c"],
    count: int,
) -> tuple[Float64[np.ndarray, "b d"], Float64[np.ndarray, " b"]]:
    """Return the weighted mean of each image's captions, and their mean squared distance from it.

    With a_j the captions' weights divided by their sum,

        sum_j a_j |t_j - f|^2 = |mean - f|^2 + sum_j a_j |t_j - mean|^2,

    so the map with the least error over the means is the one with the least error over all pairs of
    an image and a caption, each with its share of the image's weight. Every image counts alike,
    however many captions it has; captions that all have weight 0 count alike, too.

    Args:
        t: caption vectors.
        owner: the image of each, ascending; every image has at least one.
        weight: of each, 0 or more.
        count: how many images there are.
    """
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    assert len(starts) == count, "every image needs a caption, and captions stand by image"
    if len(t) == count:
        return t.astype(np.float64), np.zeros(count)
    share = weight.astype(np.float64)
    sums = np.add.reduceat(share, starts)
    share = np.where(sums[owner] > 0, share, 1.0)
    share = share / np.add.reduceat(share, starts)[owner]
    wide = t.astype(np.float64)
    mean = np.add.reduceat(wide * share[:, None], starts, axis=0)
    apart = wide - mean[owner]
    return mean, np.add.reduceat((apart * apart).sum(axis=1) * share, starts)


def require_finite(
    rows: Float[np.ndarray, "n d"], what: str, number: Sequence[int] | np.ndarray | None = None
) -> None:
    """Raise NotFinite that names the first row with NaN or infinity.

    Args:
        rows: to look at.
        what: to call one of them.
        number: of each one's sample.
    """
    finite = np.isfinite(rows).all(axis=1)
    if finite.all():
        return
    place = int(np.argmin(finite))
    name = f"sample number {int(number[place])}" if number is not None else f"row {place}"
    raise NotFinite(
        f"The {what} of {name} (counted from 0) holds NaN or infinity, and so do "
        f"{int((~finite).sum()) - 1} of {len(rows)} around it: look at where it comes from with "
        "`lift audit`, and embed it again."
    )
