"""Rotated rows of 1 bit a value with one scale a row: ceil(d / 8) + 4 bytes, for search only."""

from __future__ import annotations

from dataclasses import dataclass

from lift.cache.codecs._rotated import RotatedCodec


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config, dimensions: int) -> BinaryCodec:
    """Return the codec for rows of `dimensions` numbers."""
    return BinaryCodec(dimensions)


class BinaryCodec(RotatedCodec):
    """The signs of the rotated row. Its cosine with the row is about sqrt(2 / pi) = 0.80.

    A decoded row is shorter than the row by as much: the scale is that of least squares.
    """

    name = "binary"
    length_error = 1.0
    _levels = (-1.0, 1.0)
