"""Codecs that rotate a row, then keep a few bits of each value: shared by `int4` and `binary`."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from lift.cache.codec import Codec, require_storable
from lift.cache.codecs._rotation import Rotation
from lift.cache.codecs._scaled import join, row_type, split

LARGEST = 1e30
"""Room for sums of a row's values in float32."""

_DEVIATIONS = 8.0
"""Errors of a rotated row spread over its values like noise: one beyond 8 deviations has a
probability of 1e-15."""

_BLOCK = 4_096
"""Rows encoded at once in float64."""


class RotatedCodec(Codec):
    """Codes into a table of levels for a standard Gaussian, times one scale a row.

    The row is padded with zeros to whole bytes, rotated and divided by its root mean square. Each
    value gets the nearest level; the scale stored is that of least squares for these levels.
    Encoding computes in float64, so that codes don't depend on how a machine orders its sums.
    """

    coarse = True

    _levels: tuple[float, ...]
    """Ascending; a power of two of them."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self._bits = round(math.log2(len(self._levels)))
        self._in_byte = 8 // self._bits
        self._bytes = -(-dimensions // self._in_byte)
        self._rotation = Rotation(self._bytes * self._in_byte)
        levels = torch.tensor(self._levels, dtype=torch.float64)
        self._table = levels
        self._edges = (levels[1:] + levels[:-1]) / 2
        # The values of all codes in a byte, looked up at once.
        codes = torch.arange(256)[:, None] >> (self._bits * torch.arange(self._in_byte))
        self._of_byte = levels[codes & (len(levels) - 1)].float()
        self._on: dict[torch.device, Tensor] = {}

    @property
    def type(self) -> pa.FixedSizeListType:
        """fixed_size_list<uint8>[w + 4]: codes, the first in the lowest bits; one float32."""
        return row_type(self._bytes)

    def encode(self, rows: Float32[np.ndarray, "n d"]) -> pa.FixedSizeListArray:
        """Return codes and scales of `rows`.

        Raises:
            CacheError: NaN, or a value above 1e30.
        """
        require_storable(rows, self.name, LARGEST)
        packed = np.empty((len(rows), self._bytes), np.uint8)
        scales = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            codes, scale, _ = self._quantise(rows[block])
            codes = codes.reshape(len(codes), self._bytes, self._in_byte)
            bits = codes << (self._bits * np.arange(self._in_byte, dtype=np.uint8))
            packed[block] = np.bitwise_or.reduce(bits, axis=2)
            scales[block] = scale
        return join(packed, scales)

    def decode_on(self, stored: UInt8[Tensor, "n w"]) -> Float32[Tensor, "n d"]:
        """Return levels times scales, turned back."""
        codes, scales = split(stored)
        if codes.device not in self._on:
            self._on[codes.device] = self._of_byte.to(codes.device)
        levels = torch.nn.functional.embedding(codes.int(), self._on[codes.device])
        rotated = levels.flatten(1) * scales
        return self._rotation.restore(rotated)[:, : self.dimensions].contiguous()

    def bound(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return, for every value of a row, what its error can be.

        The length of a row's error is known exactly, and no value errs by more. With the scale of
        least squares the error is the row itself, shrunk by a known share, and something at right
        angles to it; that spreads over a long row, where 8 of its deviations bound a value with a
        probability of 1 - 1e-15.
        """
        bounds = np.empty_like(rows)
        share = min(1.0, _DEVIATIONS / math.sqrt(self._rotation.width))
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            error = self._quantise(rows[block])[2][:, None]
            wide = np.abs(rows[block].astype(np.float64))
            length = np.linalg.norm(wide, axis=1, keepdims=True)
            shrunk = (error / np.where(length > 0, length, 1.0)) ** 2 * wide
            # Decoding rounds to float32: some 1e-7 of the row's length.
            slack = 1e-6 * length + 2**-140
            bounds[block] = np.minimum(error, shrunk + share * error) + slack
        return bounds

    def _quantise(
        self, rows: Float32[np.ndarray, "n d"]
    ) -> tuple[UInt8[np.ndarray, "n w"], Float32[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Return codes, scales, and the length of each row's error."""
        largest = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
        unit = np.where(largest > 0, largest, 1.0)  # no square over- or underflows
        padded = np.zeros((len(rows), self._rotation.width))
        padded[:, : self.dimensions] = rows / unit[:, None]
        y = self._rotation.rotate(torch.from_numpy(padded))
        scale = (y * y).mean(dim=1, keepdim=True).sqrt()
        # Choosing both again and again would bring the mean cosine from 0.99531 to 0.99541.
        codes = torch.bucketize(y / torch.where(scale > 0, scale, 1.0), self._edges)
        levels = torch.take(self._table, codes)
        scale = (y * levels).sum(dim=1, keepdim=True) / (levels * levels).sum(dim=1, keepdim=True)
        error = torch.linalg.vector_norm(y - scale * levels, dim=1).numpy() * unit
        scales = (scale[:, 0].numpy() * unit).astype(np.float32)
        return codes.to(torch.uint8).numpy(), scales, error
