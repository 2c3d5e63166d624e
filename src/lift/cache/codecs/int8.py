"""Rows of 8-bit integers with one scale a row: d + 4 bytes, next to nothing lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from lift.cache.codec import Codec, require_storable
from lift.cache.codecs._scaled import join, row_type, split

LARGEST = 1e38
"""Above it, 127 times a rounded scale could pass the largest float32."""

STEPS = 127
_SUBNORMAL = np.float32(2**-142)
"""127 steps of a scale that is itself rounded to a multiple of 2^-149."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config, dimensions: int) -> Int8Codec:
    """Return the codec for rows of `dimensions` numbers."""
    return Int8Codec(dimensions)


class Int8Codec(Codec):
    """Value = integer * scale, the integers from -127 to 127, scale = largest |value| / 127.

    Symmetrical, rounded to nearest; each value errs by at most half a scale, 1/254 of the row's
    largest value. See `Codec`.
    """

    name = "int8"

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self.length_error = math.sqrt(dimensions) / (2 * STEPS)

    @property
    def type(self) -> pa.FixedSizeListType:
        """fixed_size_list<uint8>[d + 4]: d two's-complement integers, one float32."""
        return row_type(self.dimensions)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return integers and scales of `rows`.

        Raises:
            CacheError: NaN, or a value above 1e38.
        """
        require_storable(rows, self.name, LARGEST)
        scales = np.abs(rows).max(axis=1, initial=0.0) / np.float32(STEPS)
        steps = rows / np.where(scales > 0, scales, np.float32(1))[:, None]
        # A subnormal scale is rounded so much that a value may lie beyond 127 of them.
        codes = np.rint(steps).clip(-STEPS, STEPS).astype(np.int8)
        return join(codes.view(np.uint8), scales)

    def decode_on(self, stored: UInt8[Tensor, "n w"]) -> Float32[Tensor, "n d"]:
        """Return integers times scales."""
        codes, scales = split(stored)
        return codes.view(torch.int8).float() * scales

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return half a scale for every value of a row, with 1e-4 of it for rounding."""
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
        half = largest * np.float32(1.0001 / (2 * STEPS)) + _SUBNORMAL
        return np.broadcast_to(half, rows.shape).astype(np.float32)
