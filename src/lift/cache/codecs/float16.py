"""Rows in half precision: 2 bytes a value, an error of at most 2^-11 of each value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from lift.cache.codec import as_array, as_lists
from lift.errors import CacheError

LARGEST = 65504.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config) -> Float16Codec:
    """Return the codec."""
    return Float16Codec()


class Float16Codec:
    """IEEE 754 binary16, rounded to nearest; see `Codec`."""

    name = "float16"

    def type(self, dimensions: int) -> pa.DataType:
        """Return fixed_size_list<halffloat>[dimensions]."""
        return pa.list_(pa.float16(), dimensions)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return `rows` rounded to half precision.

        Raises:
            CacheError: a value above 65504, which would become infinite.
        """
        largest = float(np.abs(rows).max(initial=0.0))
        if largest > LARGEST:
            raise CacheError(
                f"The codec float16 holds values up to {LARGEST:.0f}, but a row has {largest:.6g}; "
                "use codec float32."
            )
        return as_lists(rows.astype(np.float16))

    def stored(self, column: pa.FixedSizeListArray) -> np.ndarray:
        """Return the float16 values [n d] of a column, not copied."""
        return as_array(column)

    def decode(self, stored: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return the values widened to float32, which is exact."""
        return stored.astype(np.float32)

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return 2^-11 of each value (11 bits of significand), 2^-25 where it is subnormal."""
        return np.maximum(np.abs(rows) * np.float32(2**-11), np.float32(2**-25))
