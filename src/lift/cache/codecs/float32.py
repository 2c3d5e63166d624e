"""Rows as they are: 4 bytes a value, nothing lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from torch import Tensor

from lift.cache.codec import Codec, as_lists, require_storable

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config, dimensions: int) -> Float32Codec:
    """Return the codec for rows of `dimensions` numbers."""
    return Float32Codec(dimensions)


class Float32Codec(Codec):
    """The identity; see `Codec`."""

    name = "float32"
    exact = True

    @property
    def type(self) -> pa.FixedSizeListType:
        """fixed_size_list<float>[d]."""
        return pa.list_(pa.float32(), self.dimensions)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return `rows` as lists. Raises CacheError on NaN and infinity."""
        require_storable(rows, self.name, LARGEST)
        return as_lists(rows)

    def decode_on(self, stored: Float32[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """Return the values as they are."""
        return stored

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return zeros: the round trip is exact."""
        return np.zeros_like(rows)
