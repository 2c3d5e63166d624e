"""A vector as a sum of few words with weights above 0."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

_PASSES, _STILL = 200, 1e-6


def decomposed(
    z: Float32[np.ndarray, " d"],
    words: Float32[np.ndarray, "n d"],
    middle: Float32[np.ndarray, " d"] | None = None,
    *,
    penalty: float = 0.2,
) -> Float32[np.ndarray, " n"]:
    """Return the weight of each word in a sum of few of them that comes near to an image's vector.

    SpLiCE (Bhalla et al. 2024): min |W' a - x|^2 / 2 + penalty |a|_1 over a >= 0, where x is the
    image less the mean image and W the words less their mean, all of unit length, so that the gap
    between the kinds is no word. Solved by coordinate descent (Friedman et al. 2010).

    Args:
        z: unit length.
        words: unit length.
        middle: the mean of image vectors; None takes nothing off the image.
        penalty: a word that would explain less than this cosine of what is left is not used.
    """
    x = _unit(z.astype(np.float64) - (0.0 if middle is None else middle))
    w = words.astype(np.float64)
    if len(w) > 1:
        w = w - w.mean(axis=0)
    w = _unit(w)
    near, gram = w @ x, w @ w.T
    weights = np.zeros(len(w))
    left = near.copy()  # of each word's cosine with what is not explained yet
    for _ in range(_PASSES):
        moved = 0.0
        for at in np.flatnonzero((left > penalty) | (weights > 0)).tolist():
            new = max(0.0, weights[at] + left[at] - penalty)
            step = new - weights[at]
            if step:
                weights[at] = new
                left -= step * gram[at]
                moved = max(moved, abs(step))
        if moved < _STILL:
            break
    return weights.astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
