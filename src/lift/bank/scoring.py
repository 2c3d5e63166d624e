"""How the rows of a class make one score: pure functions, on arrays and on tensors."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

Reduce = Literal["mean", "max", "logsumexp"]
"""mean: the cosine with the unit vector of the weighted mean row (Radford et al. 2021, section
3.1.4); max: the cosine of the nearest row; logsumexp: t log(sum w exp(cosine / t) / sum w), which
is between the two and gives a class no advantage for having more rows."""

BLOCK = 1 << 22
"""Cosines in memory at a time."""


def class_vectors(
    rows: Float32[np.ndarray, "n d"],
    owner: Int64[np.ndarray, " n"],
    weights: Float32[np.ndarray, " n"],
    classes: int,
) -> Float32[np.ndarray, "classes d"]:
    """Return the unit vector of each class's weighted mean row.

    Args:
        rows, owner, weights: of the bank, ordered by owner; every class owns a row.
        classes: how many there are.
    """
    starts = np.searchsorted(owner, np.arange(classes))
    # Row by row: a copy of all in float64 would be twice the bank.
    parts = rows if (weights == 1).all() else rows * weights[:, None].astype(np.float64)
    sums = np.add.reduceat(parts, starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-12)).astype(np.float32)


def reduced(
    cosines: Float[np.ndarray, "q n"],
    owner: Int64[np.ndarray, " n"],
    weights: Float32[np.ndarray, " n"],
    classes: int,
    reduce: Reduce,
    temperature: float,
) -> Float[np.ndarray, "q classes"]:
    """Return the score of each class from the cosines with all rows; not for "mean"."""
    starts = np.searchsorted(owner, np.arange(classes))
    counted = np.where(weights > 0, cosines, -np.inf)
    best = np.maximum.reduceat(counted, starts, axis=1)
    if reduce == "max":
        return best
    powers = np.exp((cosines - best[:, owner]) / temperature) * weights
    sums = np.add.reduceat(powers, starts, axis=1) / np.add.reduceat(weights, starts)
    return (best + temperature * np.log(sums)).astype(cosines.dtype)


def logits_of(
    z: Float[Tensor, "b d"],
    rows: Float[Tensor, "n d"],
    owner: Int64[Tensor, " n"],
    weights: Float[Tensor, " n"],
    classes: int,
    reduce: Reduce,
    temperature: float,
) -> Float[Tensor, "b classes"]:
    """Return the same scores of all classes with a gradient at the rows, in any order of them."""
    if reduce == "mean":
        sums = rows.new_zeros((classes, rows.shape[1]))
        sums = sums.index_add(0, owner, rows * weights[:, None])
        return z @ torch.nn.functional.normalize(sums, dim=1, eps=1e-12).T
    cosines = z @ rows.T
    best = cosines.new_full((len(z), classes), -torch.inf)
    counted = cosines.masked_fill(weights == 0, -torch.inf)
    best = best.scatter_reduce(1, owner.expand(len(z), -1), counted, "amax")
    if reduce == "max":
        return best
    shift = best.detach()
    powers = ((cosines - shift[:, owner]) / temperature).exp() * weights
    sums = cosines.new_zeros((len(z), classes)).index_add(1, owner, powers)
    total = weights.new_zeros(classes).index_add(0, owner, weights)
    return shift + temperature * (sums / total).log()


def shares(
    cosines: Float[np.ndarray, " n"],
    weights: Float32[np.ndarray, " n"],
    reduce: Reduce,
    temperature: float,
) -> Float[np.ndarray, " n"]:
    """Return the part of each row of one class in its score; together 1.

    For "mean" these are the parts of the sum of weighted cosines, of which some may be negative;
    for "max" the nearest row has it all; for "logsumexp" they are the softmax.
    """
    if reduce == "mean":
        parts = weights * cosines.astype(np.float64)
        total = float(parts.sum())
        return parts / total if abs(total) > 1e-12 else np.zeros(len(parts))
    counted = np.where(weights > 0, cosines, -np.inf)
    if reduce == "max":
        parts = (counted == counted.max()).astype(np.float64)
    else:
        parts = weights * np.exp((counted - counted.max()) / temperature)
    return parts / parts.sum()
