"""Spherical k-means over stored rows: centres from a sample, then every row to its nearest."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64

from lift.data.dice import generator
from lift.errors import ConfigError
from lift.terms import unit

SAMPLED = 100_000
"""Rows that centres are made from: 154 MB at 384 numbers."""

_STARTS, _DRAWN = 21, 22
"""Purposes of the dice: the first centres; which rows are sampled."""

_BLOCK = 1 << 22
"""Cosines in memory at a time."""

_SEEDED_FROM = 16_384
"""Rows that first centres are chosen among, at least eight for each centre."""


def sampled(count: int, seed: int, most: int = SAMPLED) -> Int64[np.ndarray, " n"]:
    """Return ascending numbers below `count`: all, or about `most` drawn by `seed`."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    drawn = generator(seed, _DRAWN).integers(0, count, size=most)
    return np.unique(drawn).astype(np.int64)


def fit(
    rows: Float32[np.ndarray, "n d"], clusters: int, seed: int, rounds: int = 25
) -> Float32[np.ndarray, "k d"]:
    """Return the centres of clusters, of unit length; equal arguments, equal bits.

    k-means++ (Arthur and Vassilvitskii 2007) gives the first ones. A centre that loses all its
    rows starts anew at the row farthest from its own centre.

    Args:
        rows: what to cluster, of any length; directions are compared.
        clusters: how many centres.
        seed: of the first ones.
        rounds: at most so many; it ends earlier where no row changes its cluster.

    Raises:
        ConfigError: fewer distinct rows than clusters.
    """
    if clusters < 1:
        raise ConfigError(f"clusters must be at least 1, not {clusters}.")
    z = unit(torch.from_numpy(rows))
    centres = _first(z, clusters, seed)
    before = np.full(len(rows), -1, np.int32)
    for _ in range(rounds):
        owner, cosine = _nearest(z, centres)
        if (owner == before).all():
            break
        before = owner
        sums = torch.zeros(clusters, z.shape[1], dtype=torch.float64)
        sums.index_add_(0, torch.from_numpy(owner).long(), z.double())
        empty = np.flatnonzero(np.bincount(owner, minlength=clusters) == 0)
        if len(empty):
            farthest = np.argsort(cosine, kind="stable")[: len(empty)]
            sums[torch.from_numpy(empty)] = z[torch.from_numpy(farthest)].double()
        centres = unit(sums.float())
    return centres.numpy()


def assign(
    rows: Float32[np.ndarray, "n d"], centres: Float32[np.ndarray, "k d"]
) -> Int32[np.ndarray, " n"]:
    """Return the number of each row's nearest centre; of equally near ones, the first."""
    return _nearest(unit(torch.from_numpy(rows)), torch.from_numpy(centres))[0]


def _nearest(z: torch.Tensor, centres: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centre of every row, and the cosine with it."""
    owner, cosine = np.empty(len(z), np.int32), np.empty(len(z), np.float32)
    step = max(1, _BLOCK // len(centres))
    for start in range(0, len(z), step):
        best = (z[start : start + step] @ centres.T).numpy()
        nearest = best.argmax(axis=1)
        owner[start : start + step] = nearest
        cosine[start : start + step] = best[np.arange(len(best)), nearest]
    return owner, cosine


def _first(z: torch.Tensor, clusters: int, seed: int) -> torch.Tensor:
    """Return first centres by k-means++, among an even draw of the rows."""
    dice = generator(seed, _STARTS)
    most = max(_SEEDED_FROM, 8 * clusters)
    if len(z) > most:
        z = z[torch.from_numpy(np.sort(dice.permutation(len(z))[:most]))]
    chosen = [int(dice.integers(len(z)))] if len(z) else []
    far = np.full(len(z), np.inf)
    while chosen and len(chosen) < clusters:
        cosine = (z @ z[chosen[-1]]).numpy().astype(np.float64)
        far = np.minimum(far, 2 - 2 * np.minimum(cosine, 1.0))
        far[far < 1e-6] = 0.0  # the same row but for rounding
        sums = np.cumsum(far)
        if sums[-1] == 0:
            break
        point = min(dice.random() * sums[-1], np.nextafter(sums[-1], 0.0))
        chosen.append(int(np.searchsorted(sums, point, side="right")))
    if len(chosen) < clusters:
        raise ConfigError(
            f"There are {len(chosen)} distinct rows for {clusters} clusters; ask for fewer."
        )
    return z[chosen].clone()
