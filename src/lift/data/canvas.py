"""Decoded canvases kept for the run: decoding a small data set every epoch costs more than a step.

They lie in anonymous shared memory: forked workers see each other's, and it goes with the run.
"""

from __future__ import annotations

import mmap

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


class CanvasStore:
    """`count` squares of uint8 pixels, each written at most a few times with the same bytes."""

    def __init__(self, count: int, side: int) -> None:
        shape = (count, 3, side, side)
        self._pixels = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
        self._held = np.frombuffer(mmap.mmap(-1, count), np.bool_)

    @classmethod
    def fitting(cls, count: int, side: int | None, most_bytes: int) -> CanvasStore | None:
        """Return a store for `count` canvases, or None where they have no fixed side or are more
        than `most_bytes`."""
        if side is None or count * 3 * side * side > most_bytes:
            return None
        return cls(count, side)

    def get(self, number: int) -> UInt8[Tensor, "3 s s"] | None:
        """Return the canvas, a view that must not be written to, or None if it is not held."""
        if not self._held[number]:
            return None
        return torch.from_numpy(self._pixels[number])

    def put(self, number: int, canvas: UInt8[Tensor, "3 s s"]) -> None:
        """Hold a canvas; the mark is set after the pixels, so no reader sees half of it."""
        self._pixels[number] = canvas.numpy()
        self._held[number] = True

    def __getstate__(self) -> dict[str, tuple[int, int]]:
        count, _, side, _ = self._pixels.shape
        return {"shape": (count, side)}  # a spawned process starts a store of its own

    def __setstate__(self, state: dict[str, tuple[int, int]]) -> None:
        self.__init__(*state["shape"])
