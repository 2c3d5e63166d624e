"""What a codec in `cache/codecs/` does: rows to fixed-size Arrow lists, and back on any device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from lift.errors import CacheError


class Codec(ABC):
    """How rows of one width are stored. Encoding never fails silently; decoding has a bound.

    A file in `cache/codecs/` builds one with `build(config, dimensions)`. Decoding is written once,
    in torch, so that stored bytes can travel to the device that needs the rows.

    Attributes:
        name: the file in `cache/codecs`.
        dimensions: length `d` of a row.
        exact: whether decoding gives back every bit.
        coarse: whether cosines of decoded rows can't stand for those of the rows themselves.
        needs_matryoshka: whether rows may only come from an encoder whose prefixes of rows are
            usable rows; the writer refuses others.
        length_error: how far the length of a decoded row may be from the row's own, as a share
            of it: what an audit of unit rows has to allow.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = False
    coarse: ClassVar[bool] = False
    needs_matryoshka: bool = False
    length_error: float = 0.0

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    @property
    @abstractmethod
    def type(self) -> pa.FixedSizeListType:
        """The Arrow type of a stored row."""

    @abstractmethod
    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return the stored form of `rows`. Raises CacheError on a value it can't hold."""

    @abstractmethod
    def decode_on(self, stored: Shaped[Tensor, "n w"]) -> Float32[Tensor, "n d"]:
        """Return rows from stored ones, computed on the device where those are."""

    @abstractmethod
    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return the declared largest |decode(encode(rows)) - rows|, value by value."""

    @property
    def bytes_per_row(self) -> int:
        """Bytes of a stored row."""
        return self.type.list_size * self.type.value_type.bit_width // 8

    def empty(self, count: int) -> np.ndarray:
        """Return room [count w] for stored rows."""
        return np.empty((count, self.type.list_size), self.type.value_type.to_pandas_dtype())

    def stored(self, column: pa.FixedSizeListArray) -> np.ndarray:
        """Return a column as an array [n w], a view of Arrow's buffer without a copy."""
        return as_array(column)

    def decode(self, stored: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return rows from (some of) what `stored` gave."""
        # torch takes no read-only memory, and the views of a mapped shard are that.
        own = stored if stored.flags.writeable else stored.copy()
        return self.decode_on(torch.from_numpy(own)).numpy()


def require_storable(rows: np.ndarray, name: str, largest: float) -> None:
    """Refuse values that a codec can't hold.

    Raises:
        CacheError: NaN, infinity, or a magnitude above `largest`.
    """
    top = float(np.abs(rows).max(initial=0.0))
    if top <= largest:
        return
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise CacheError(
            f"{int((~finite).sum())} of {len(rows)} rows hold NaN or infinity (first row "
            f"{int(np.argmin(finite))}), which the codec {name} does not store; check the encoder."
        )
    raise CacheError(
        f"The codec {name} holds values up to {largest:.6g}, but a row has {top:.6g}; "
        "use codec float32."
    )


def as_lists(values: np.ndarray) -> pa.FixedSizeListArray:
    """Return an array [n w] as fixed-size lists, without a copy where it is contiguous."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def as_array(column: pa.FixedSizeListArray) -> np.ndarray:
    """Return fixed-size lists as an array [n w] over the same memory."""
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
