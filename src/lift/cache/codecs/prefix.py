"""The first values of a row in half precision, for encoders trained to put the most there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float16, Float32, Float64
from torch import Tensor, nn

from lift.cache.codec import Codec, as_lists, require_storable
from lift.errors import ConfigError

LARGEST = 65504.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """How much of a row is kept.

    Attributes:
        dimensions: values kept, from the front.
        force: keep a prefix of rows whose encoder was not trained for it. Look at docs/codecs.md
            first: half of MiniLM's width keeps 81% of the nearest neighbours, int8 99.5%.
    """

    dimensions: int
    force: bool = False


def build(config: Config, dimensions: int) -> PrefixCodec:
    """Return the codec for rows of `dimensions` numbers.

    Raises:
        ConfigError: a prefix of no values, or longer than the row.
    """
    if not 1 <= config.dimensions <= dimensions:
        raise ConfigError(
            f"codec prefix can keep 1 to {dimensions} of {dimensions} values, not "
            f"{config.dimensions}; change its option dimensions."
        )
    return PrefixCodec(dimensions, config.dimensions, config.force)


class PrefixCodec(Codec):
    """2 bytes for each value kept; the others are decoded as zeros, so the space stays the same.

    The prefix is stretched to the length of the whole row: a unit row stays one, and its product
    with a whole row is in proportion to that of the prefixes (Kusupati et al. 2022, "Matryoshka
    representation learning"). See `Codec`.
    """

    coarse = True

    name = "prefix"
    length_error = 2**-11

    def __init__(self, dimensions: int, kept: int, force: bool) -> None:
        super().__init__(dimensions)
        self.kept = kept
        self.needs_matryoshka = not force

    @property
    def type(self) -> pa.FixedSizeListType:
        """fixed_size_list<halffloat>[kept]."""
        return pa.list_(pa.float16(), self.kept)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return the stretched prefixes of `rows`, rounded to half precision.

        Raises:
            CacheError: NaN, or a value above 65504 after stretching.
        """
        require_storable(rows, self.name, float(np.finfo(np.float32).max))
        stretched = self._stretched(rows)
        require_storable(stretched, self.name, LARGEST)
        return as_lists(stretched.astype(np.float16))

    def decode_on(self, stored: Float16[Tensor, "n k"]) -> Float32[Tensor, "n d"]:
        """Return the prefixes with zeros behind them."""
        return nn.functional.pad(stored.float(), (0, self.dimensions - self.kept))

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return what stretching and dropping change, and 2^-11 of the stretched values."""
        stretched = self._stretched(rows)
        bounds = np.abs(rows).astype(np.float64)
        rounding = np.maximum(np.abs(stretched) * 2**-11, 2**-25)
        bounds[:, : self.kept] = np.abs(stretched - rows[:, : self.kept]) + rounding
        return np.nextafter(bounds.astype(np.float32), np.float32(np.inf))

    def _stretched(self, rows: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        """Return prefixes as long as their rows; a prefix of zeros stays one."""
        whole = np.linalg.norm(rows.astype(np.float64), axis=1)
        prefix = rows[:, : self.kept].astype(np.float64)
        own = np.linalg.norm(prefix, axis=1)
        return prefix * (whole / np.where(own > 0, own, 1.0))[:, None]
