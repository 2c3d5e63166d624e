"""Hashes of images: equal files, and pictures that look alike."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from lift.data.image import Picture

ALIKE_BITS = 6
"""Pictures whose looks differ in at most this many of 64 bits pass for copies. Photos saved again
or resized differ in 0 to 4, three of five that lost 5% at the edges in at most 6; of 2,600 other
photos no two come nearer than 8, the mean is 32 (`tests/data/test_likeness.py`). Pictures of one
thing on a white ground come as near by chance: see `lift.leaks`."""

_ROWS, _COLUMNS = 8, 9
_ENOUGH = 40
"""Pixels of the shorter side from which on a JPEG's own reduction leaves the look as it is."""

_RISE = 0.5
"""Grey levels that count as a rise. Without it the bits of a plain ground are those of rounding:
half of a set of drawn pictures then differed from their resized copies in more than 6."""

_GREY = np.array((0.299, 0.587, 0.114), np.float32)
_BLOCK = 1 << 16


def file_hash(content: bytes) -> int:
    """Return 63 bits (BLAKE2b, never 0) of an image file: equal files, equal numbers."""
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 or 1


def look_at(picture: Picture) -> int:
    """Return the look of a picture that is not decoded yet, from as few pixels as it takes.

    Raises:
        BrokenSample: the image is damaged.
    """
    short = min(picture.height, picture.width)
    shrink = next(s for s in (8, 4, 2, 1) if s == 1 or short // s >= _ENOUGH)
    return look_of(picture.pixels(shrink))


def look_of(pixels: UInt8[Tensor, "3 h w"]) -> int:
    """Return 64 bits (signed) of how a picture looks: the difference hash of its grey values.

    Bit (r, c) says whether the mean grey rises from column c to c + 1 of row r in a grid of 8 rows
    and 9 columns (Krawetz 2013, dHash). Cells are exact areas, also of a fraction of a pixel: a
    picture of another size has the same cells.
    """
    grey = pixels.permute(1, 2, 0).numpy().astype(np.float32) @ _GREY
    cells = _shares(grey.shape[0], _ROWS) @ grey @ _shares(grey.shape[1], _COLUMNS).T
    bits = (cells[:, 1:] - cells[:, :-1] > _RISE).reshape(-1)
    return int(np.packbits(bits).view(np.int64)[0])


def _shares(pixels: int, cells: int) -> Float32[np.ndarray, "cells pixels"]:
    """Return the share that each pixel of a line has in the mean of each cell."""
    edges = np.arange(cells + 1) * pixels / cells
    at = np.arange(pixels)
    begin, end = np.maximum(edges[:-1, None], at), np.minimum(edges[1:, None], at + 1)
    return (np.maximum(end - begin, 0) * cells / pixels).astype(np.float32)


def differing_bits(
    one: Int64[np.ndarray, " n"], other: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """Return for each look of `one` in how many bits its nearest of `other` differs; 64 of none."""
    nearest = np.full(len(one), 64, dtype=np.int64)
    for start in range(0, len(other), _BLOCK):
        block = other[start : start + _BLOCK].view(np.uint64)
        differs, bits = np.empty_like(block), np.empty(len(block), np.uint8)
        for place, look in enumerate(one.view(np.uint64)):
            np.bitwise_xor(block, look, out=differs)
            nearest[place] = min(nearest[place], np.bitwise_count(differs, out=bits).min())
    return nearest
