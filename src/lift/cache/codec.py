"""What a codec in `cache/codecs/` does: rows to fixed-size Arrow lists and back."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32


@runtime_checkable
class Codec(Protocol):
    """How a row is stored. Encoding never fails silently; decoding has a declared error.

    Attributes:
        name: the file in `cache/codecs`.
    """

    name: str

    def type(self, dimensions: int) -> pa.DataType:
        """Return the Arrow type of a stored row."""
        ...

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return the stored form of `rows`. Raises CacheError on a value it can't hold."""
        ...

    def stored(self, column: pa.FixedSizeListArray) -> np.ndarray:
        """Return a column as an array [n w], a view of Arrow's buffer without a copy."""
        ...

    def decode(self, stored: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return rows from (some of) what `stored` gave."""
        ...

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return the declared largest |decode(encode(rows)) - rows|, value by value."""
        ...


def as_lists(values: np.ndarray) -> pa.FixedSizeListArray:
    """Return an array [n w] as fixed-size lists, without a copy where it is contiguous."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def as_array(column: pa.FixedSizeListArray) -> np.ndarray:
    """Return fixed-size lists as an array [n w] over the same memory."""
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
