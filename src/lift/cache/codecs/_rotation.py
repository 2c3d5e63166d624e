"""A fixed orthonormal rotation that makes the values of any row look like Gaussian noise."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 2
"""One leaves a row with a single large value on a grid; after two its values look Gaussian."""


class _Round(NamedTuple):
    """What one round multiplies by: signs [w], then matrices of the two factors of w."""

    signs: Tensor
    outer: Tensor
    inner: Tensor


class Rotation:
    """Rounds of: flip fixed random signs, then transform by a Kronecker product of two DCT-II.

    With w = a b and a, b near sqrt(w), a row costs 2 rounds x w (a + b) multiplications instead
    of w^2. It is a function of w alone: the signs are SHAKE-256 of a fixed text, the matrices are
    computed in float64. (Random signs before a fast orthonormal transform: Ailon & Chazelle 2009,
    "The fast Johnson-Lindenstrauss transform".)

    Attributes:
        width: `w`.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        small = max(n for n in range(1, math.isqrt(width) + 1) if width % n == 0)
        outer, inner = dct(small), dct(width // small)
        self._rounds = [_Round(_signs(width, number), outer, inner) for number in range(ROUNDS)]
        self._copies: dict[tuple[torch.device, torch.dtype], list[_Round]] = {}

    def rotate(self, x: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
        """Return `x` rotated, in its own dtype."""
        for step in self._on(x):
            x = (x * step.signs).view(len(x), len(step.outer), len(step.inner))
            x = (x @ step.inner.T).transpose(1, 2).contiguous()
            x = (x @ step.outer.T).view(len(x), self.width)
        return x

    def restore(self, y: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
        """Return what `rotate` turned into `y`."""
        # Under autocast the products would lose more than the codes themselves do.
        with torch.autocast(y.device.type, enabled=False):
            for step in reversed(self._on(y)):
                y = y.view(len(y), len(step.inner), len(step.outer)) @ step.outer
                y = (y.transpose(1, 2).contiguous() @ step.inner).view(len(y), self.width)
                y = y * step.signs
        return y

    def _on(self, like: Tensor) -> list[_Round]:
        """Return the rounds with the device and dtype of a tensor."""
        place = like.device, like.dtype
        if place not in self._copies:
            self._copies[place] = [_Round(*(t.to(like) for t in step)) for step in self._rounds]
        return self._copies[place]


def dct(size: int) -> Float[Tensor, "size size"]:
    """Return the orthonormal DCT-II as a float64 matrix."""
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size) + 0.5
    matrix = torch.cos(math.pi / size * k * n) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def _signs(width: int, number: int) -> Float[Tensor, " w"]:
    """Return fixed random signs of one round."""
    text = f"lift rotation 1: width {width}, round {number}".encode("ascii")
    drawn = hashlib.shake_256(text).digest(-(-width // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8), count=width)
    return torch.from_numpy(1.0 - 2.0 * bits)
