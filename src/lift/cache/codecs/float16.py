"""Rows in half precision: 2 bytes a value, an error of at most 2^-11 of each value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float16, Float32
from torch import Tensor

from lift.cache.codec import Codec, as_lists, require_storable

LARGEST = 65504.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config, dimensions: int) -> Float16Codec:
    """Return the codec for rows of `dimensions` numbers."""
    return Float16Codec(dimensions)


class Float16Codec(Codec):
    """IEEE 754 binary16, rounded to nearest; see `Codec`."""

    name = "float16"
    length_error = 2**-11

    @property
    def type(self) -> pa.FixedSizeListType:
        """fixed_size_list<halffloat>[d]."""
        return pa.list_(pa.float16(), self.dimensions)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return `rows` rounded to half precision.

        Raises:
            CacheError: NaN, or a value above 65504, which would become infinite.
        """
        require_storable(rows, self.name, LARGEST)
        return as_lists(rows.astype(np.float16))

    def decode_on(self, stored: Float16[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """Return the values widened to float32, which is exact."""
        return stored.float()

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return 2^-11 of each value (11 bits of significand), 2^-25 where it is subnormal."""
        return np.maximum(np.abs(rows) * np.float32(2**-11), np.float32(2**-25))
