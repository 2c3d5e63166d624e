"""How alike two spaces are before anything is fitted between them: CKA and common neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64

from lift.fitting.sampling import SAMPLE
from lift.linear import Sums
from lift.terms import unit

NEIGHBOURS = 10


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How much of what one side says of its pairs the other says, too.

    Attributes:
        cka: linear CKA over all pairs (Kornblith et al. 2019): 0 nothing in common, 1 the same but
            for rotation and scale. Its value grows where pairs are few for the widths.
        cka_debiased: the same from estimates without that bias, over the sample.
        knn: share of a pair's nearest images that are also its nearest texts (mutual k-NN, Huh et
            al. 2024, arXiv 2405.07987), over the sample.
        chance: what `knn` would be for spaces with nothing in common.
        neighbours: k.
        pairs: in the sample.
    """

    cka: float
    cka_debiased: float
    knn: float
    chance: float
    neighbours: int
    pairs: int

    def __str__(self) -> str:
        return (
            f"CKA {self.cka:.3f} (debiased {self.cka_debiased:.3f}), {self.knn:.1%} of the "
            f"{self.neighbours} nearest images are among the nearest texts (chance "
            f"{self.chance:.1%}, {self.pairs:,} pairs)"
        )


def agreement(
    sums: Sums, h: Float32[np.ndarray, "n w"], t: Float32[np.ndarray, "n d"]
) -> Agreement:
    """Return how alike the two sides of pairs are.

    Args:
        sums: over all pairs.
        h, t: both sides of a sample of at least two pairs; of more than 4,096 the first are taken.
    """
    h, t = h[:SAMPLE], t[:SAMPLE]
    k = min(NEIGHBOURS, len(h) - 1)
    return Agreement(
        cka=cka(sums),
        cka_debiased=cka_debiased(h, t),
        knn=mutual_knn(h, t, k),
        chance=k / (len(h) - 1),
        neighbours=k,
        pairs=len(h),
    )


def cka(sums: Sums) -> float:
    """Return |C_ht|^2 / (|C_hh| |C_tt|) with Frobenius norms; 0 where a side has no variance."""
    sizes = float(np.linalg.norm(sums.hh) * np.linalg.norm(sums.tt))
    return float(np.sum(sums.ht * sums.ht)) / sizes if sizes > 0 else 0.0


def cka_debiased(h: Float[np.ndarray, "n w"], t: Float[np.ndarray, "n d"]) -> float:
    """Return CKA from unbiased estimates of its three parts (Song et al. 2012, eq. 5).

    It is about 0 for sides with nothing in common, however few pairs there are, and may be a bit
    below. 0 for fewer than four pairs, or where a side has no variance.
    """
    if len(h) < 4:
        return 0.0
    a, b = (_gram(rows) for rows in (h, t))
    sizes = _hsic(a, a) * _hsic(b, b)
    return _hsic(a, b) / sizes**0.5 if sizes > 0 else 0.0


def _gram(rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n n"]:
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    products = centred @ centred.T
    np.fill_diagonal(products, 0.0)
    return products


def _hsic(a: Float64[np.ndarray, "n n"], b: Float64[np.ndarray, "n n"]) -> float:
    n = len(a)
    rows_a, rows_b = a.sum(axis=0), b.sum(axis=0)
    whole = float(np.vdot(a, b)) + float(rows_a.sum() * rows_b.sum()) / ((n - 1) * (n - 2))
    return (whole - 2.0 * float(rows_a @ rows_b) / (n - 2)) / (n * (n - 3))


def mutual_knn(
    h: Float32[np.ndarray, "n w"], t: Float32[np.ndarray, "n d"], k: int = NEIGHBOURS
) -> float:
    """Return the mean share of the k nearest by cosine on one side that are so on the other."""
    near = []
    for rows in (h, t):
        z = unit(torch.from_numpy(np.ascontiguousarray(rows))).numpy()
        cosine = z @ z.T
        np.fill_diagonal(cosine, -np.inf)
        near.append(np.argpartition(-cosine, k - 1, axis=1)[:, :k])
    member = np.zeros((len(h), len(h)), np.bool_)
    np.put_along_axis(member, near[0], True, axis=1)
    return float(np.take_along_axis(member, near[1], axis=1).mean())
