"""Figures of a set of rows: how they spread, how near neighbours are, what prefixes keep.

All of them are taken on unit rows, since directions are all that training and search use, and in
float64. They describe a sample: ranks and nearest cosines grow with the number of captions, so
they compare only between encoders that were given the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from lift.errors import NotFinite

SAME = 1e-5
"""Rows closer than this are one row: batches alone move a unit row by about 1e-6 in float32."""

_BLOCK = 512
_NULL = 1e-12
"""Eigenvalues below this share of the largest are rounding: no row reaches their directions."""


@dataclass(frozen=True)
class Spread:
    """How rows fill the sphere.

    Attributes:
        rows, dimensions: size of the sample.
        mean_cosine: mean cosine over all pairs of different rows, exact, not drawn.
        cosine_deviation: standard deviation of the same cosines.
        mean_norm: length of the mean row; 1 where all rows are one, 0 where they cancel.
        partition_ratio: min Z(c) / max Z(c), Z(c) = sum_i exp(c . z_i), over the eigenvectors c
            of Z^T Z with either sign (Mu and Viswanath 2018, "All-but-the-Top", section 2.2). 1
            is the same in every direction; e^-2 = 0.135 is all rows at one point.
        effective_rank: exp of the entropy of the eigenvalues of Z^T Z / n, scaled to sum to 1
            (Roy and Vetterli 2007).
        participation: (sum of eigenvalues)^2 / sum of their squares. IsoScore (Rudman et al. 2022)
            is (participation - 1) / (dimensions - 1) of the centred rows, so it is not repeated.
        centred_rank, centred_participation: the same of the rows less their mean; the mean is one
            direction that every row shares and that tells none apart.
        spectrum, centred_spectrum: singular values of the rows over sqrt(n), largest first.
    """

    rows: int
    dimensions: int
    mean_cosine: float
    cosine_deviation: float
    mean_norm: float
    partition_ratio: float
    effective_rank: float
    participation: float
    centred_rank: float
    centred_participation: float
    spectrum: tuple[float, ...]
    centred_spectrum: tuple[float, ...]


@dataclass(frozen=True)
class Nearest:
    """The nearest other row of every row.

    Attributes:
        cosine: with it.
        index: its number.
        collisions: rows that equal another one but for rounding (`SAME`).
    """

    cosine: Float64[np.ndarray, " n"]
    index: Int64[np.ndarray, " n"]
    collisions: int


def unit_rows(rows: np.ndarray, texts: list[str]) -> Float64[np.ndarray, "n d"]:
    """Return rows scaled to unit length in float64.

    Args:
        rows: as an encoder returned them [n d].
        texts: what each is of, for the sentence.

    Raises:
        NotFinite: a row with NaN, infinity, or nothing but zeros.
    """
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    good = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
    if not good.all():
        raise NotFinite(
            f"The encoder returned NaN, infinity or only zeros for {int((~good).sum())} "
            f"caption(s), first for {texts[int(np.argmin(good))]!r}; check its weights."
        )
    wide /= lengths
    return wide


def spread(z: Float64[np.ndarray, "n d"]) -> Spread:
    """Return how unit rows fill the sphere; at least two rows."""
    count, dimensions = z.shape
    assert count > 1, "the spread of a single row"
    mean = z.mean(axis=0)
    values, vectors = _directions(z)
    centred, _ = _directions(z - mean)
    pairs = count * (count - 1)
    mean_cosine = (count**2 * float(mean @ mean) - count) / pairs
    # sum over i, j of cos^2 is the squared Frobenius norm of Z^T Z.
    square = (count**2 * float(values @ values) - count) / pairs
    return Spread(
        rows=count,
        dimensions=dimensions,
        mean_cosine=mean_cosine,
        cosine_deviation=float(np.sqrt(max(0.0, square - mean_cosine**2))),
        mean_norm=float(np.sqrt(mean @ mean)),
        partition_ratio=_partition_ratio(z, vectors),
        effective_rank=effective_rank(values),
        participation=participation(values),
        centred_rank=effective_rank(centred),
        centred_participation=participation(centred),
        spectrum=tuple(np.sqrt(values).tolist()),
        centred_spectrum=tuple(np.sqrt(centred).tolist()),
    )


def effective_rank(eigenvalues: Float64[np.ndarray, " k"]) -> float:
    """Return exp of the entropy of the eigenvalues as shares (Roy and Vetterli 2007); 0 of none."""
    whole = eigenvalues.sum()
    if whole <= 0:
        return 0.0
    part = eigenvalues[eigenvalues > 0] / whole
    return float(np.exp(-(part * np.log(part)).sum()))


def participation(eigenvalues: Float64[np.ndarray, " k"]) -> float:
    """Return (sum)^2 / sum of squares: how many equal eigenvalues would spread alike; 0 of none."""
    square = float(eigenvalues @ eigenvalues)
    return float(eigenvalues.sum() ** 2 / square) if square > 0 else 0.0


def nearest(z: Float64[np.ndarray, "n d"]) -> Nearest:
    """Return the nearest other row of every row of at least two; a block of cosines at a time."""
    count = len(z)
    assert count > 1, "a single row has no neighbour"
    index = np.empty(count, np.int64)
    for start in range(0, count, _BLOCK):
        # float32 can't tell rows 1e-7 apart from rows 5e-4 apart.
        cosines = z[start : start + _BLOCK] @ z.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        index[start : start + _BLOCK] = cosines.argmax(axis=1)
    apart = distances(z, z[index])
    return Nearest(1.0 - apart**2 / 2.0, index, int((apart <= SAME).sum()))


def distances(
    a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "n d"]
) -> Float64[np.ndarray, " n"]:
    """Return |a_i - b_i| by differences: cosines near 1 would lose half of the digits."""
    return np.sqrt(((a - b) ** 2).sum(axis=1))


def prefix_agreement(
    z: Float64[np.ndarray, "n d"], width: int, *, top: int = 10, queries: int = 1_000
) -> float:
    """Return which share of the `top` nearest rows is kept when rows are cut to `width` values.

    Args:
        z: unit rows, more than `top`.
        width: values kept; the cut rows are scaled to unit length again.
        top: neighbours of each query, itself left out.
        queries: the first rows, so many at most, searched among all.
    """
    count = len(z)
    assert count > top, "fewer rows than neighbours asked for"
    whole = z.astype(np.float32)
    cut = z[:, :width]
    lengths = np.sqrt((cut * cut).sum(axis=1, keepdims=True))
    short = (cut / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    kept = 0
    asked = min(queries, count)
    for start in range(0, asked, _BLOCK):
        end = min(start + _BLOCK, asked)
        same = _marked(whole, start, end, top) & _marked(short, start, end, top)
        kept += int(same.sum())
    return kept / (asked * top)


def _marked(rows: np.ndarray, start: int, end: int, top: int) -> np.ndarray:
    """Return [end - start, n]: whether each row is among the `top` nearest of each query."""
    cosines = rows[start:end] @ rows.T
    own = np.arange(end - start)
    cosines[own, start + own] = -np.inf
    best = np.argpartition(-cosines, top - 1, axis=1)[:, :top]
    marks = np.zeros(cosines.shape, bool)
    np.put_along_axis(marks, best, True, axis=1)
    return marks


def _directions(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues of Z^T Z / n, largest first, and those of its eigenvectors [d k]
    that the rows reach. Where there are fewer rows than values, the smaller Z Z^T gives both."""
    count, dimensions = z.shape
    wide = dimensions > count
    values, vectors = np.linalg.eigh((z @ z.T if wide else z.T @ z) / count)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    reached = values > _NULL * values[0]
    vectors = vectors[:, reached]
    if wide:
        vectors = (z.T @ vectors) / np.sqrt(count * values[reached])
    return values, vectors


def _partition_ratio(z: np.ndarray, vectors: np.ndarray) -> float:
    """Return min Z(c) / max Z(c) over both signs of the eigenvectors."""
    plus, minus = np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for start in range(0, len(z), _BLOCK):
        along = np.exp(z[start : start + _BLOCK] @ vectors)
        plus += along.sum(axis=0)
        minus += (1.0 / along).sum(axis=0)
    sums = np.concatenate([plus, minus])
    if vectors.shape[1] < z.shape[1]:  # a direction that no row reaches: every term is exp(0)
        sums = np.append(sums, len(z))
    return float(sums.min() / sums.max())
