"""Rows as they are: 4 bytes a value, nothing lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from lift.cache.codec import as_array, as_lists


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config) -> Float32Codec:
    """Return the codec."""
    return Float32Codec()


class Float32Codec:
    """The identity; see `Codec`."""

    name = "float32"

    def type(self, dimensions: int) -> pa.DataType:
        """Return fixed_size_list<float>[dimensions]."""
        return pa.list_(pa.float32(), dimensions)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return `rows` as lists."""
        return as_lists(rows)

    def stored(self, column: pa.FixedSizeListArray) -> np.ndarray:
        """Return the float32 values [n d] of a column, not copied."""
        return as_array(column)

    def decode(self, stored: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return the values as they are."""
        return stored.astype(np.float32, copy=False)

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return zeros: the round trip is exact."""
        return np.zeros_like(rows)
