"""What solvers share: sums that can be solved at all, eigenvalues without rounding's negatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from lift.errors import ConfigError, DataError
from lift.linear import Sums, total

_ROUNDING = 1e-24
"""Variance over squared length below which vectors are equal but for the rounding of float64."""


def centred(sums: Sums, intercept: bool) -> Sums:
    """Return the sums that a solver works on.

    Args:
        sums: of all pairs.
        intercept: whether the map has a bias; without, products are about zero.

    Raises:
        DataError: one pair, or vectors that are all equal.
    """
    if sums.images < 2 or sums.weight <= 0:
        what = "1 pair" if sums.images == 1 else f"{sums.images} pairs"
        raise DataError(
            f"A map can't be fitted on {what if sums.weight > 0 else 'pairs without weight'}: "
            "give at least two pairs that differ."
        )
    if intercept:
        for products, mean, what in (
            (sums.hh, sums.mean_h, "vectors that come in"),
            (sums.tt, sums.mean_t, "vectors to be reached"),
        ):
            if np.trace(products) <= _ROUNDING * sums.weight * float(mean @ mean):
                raise DataError(
                    f"All {sums.images:,} {what} are equal, so no map can be fitted on them; look "
                    "at where they come from (`lift audit`)."
                )
        return sums
    whole = sums.raw()
    if not (np.trace(whole.hh) > 0 and np.trace(whole.tt) > 0):
        raise DataError("All vectors of one side are zero, so no map can be fitted on them.")
    return whole


def bias_of(
    weight: Float64[np.ndarray, "d w"], sums: Sums, intercept: bool
) -> Float64[np.ndarray, " d"]:
    """Return the bias that takes mean to mean, zeros where there is to be none."""
    zero = np.zeros(len(weight))
    return sums.mean_t - weight @ sums.mean_h if intercept else zero


def axes(
    products: Float64[np.ndarray, "n n"],
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, "n n"]]:
    """Return eigenvalues, none below 0, and eigenvectors as columns, the largest first."""
    values, vectors = np.linalg.eigh((products + products.T) / 2)
    return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1])


def rank(values: Float64[np.ndarray, " n"]) -> int:
    """Return how many eigenvalues of products are more than rounding."""
    return int((values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps).sum())


def notes_on(sums: Sums, width: int, reached: int) -> tuple[str, ...]:
    """Return what to say of pairs that don't fill the space they come from."""
    if sums.images <= width:
        return (
            f"{sums.images:,} pairs are fewer than the {width:,} numbers of a vector: the map "
            "leans on its regularisation.",
        )
    if reached < width:
        return (
            f"The vectors that come in vary along {reached:,} of {width:,} axes only (constant or "
            "repeated columns); the others are left out of the map.",
        )
    return ()


def held_out(folds: Sequence[Sums], wanted_by: str) -> list[tuple[Sums, Sums]]:
    """Return (the sums of all other folds, those of the fold) for each fold that holds pairs.

    Raises:
        ConfigError: fewer than two folds do.
    """
    filled = [fold for fold in folds if fold.images]
    if len(filled) < 2:
        raise ConfigError(
            f"{wanted_by} needs at least two folds with pairs, there are {len(filled)}: give more "
            "pairs or more folds, or choose another way."
        )
    found = []
    for place, fold in enumerate(filled):
        rest = total(other for n, other in enumerate(filled) if n != place)
        found.append((rest, fold))
    return found
