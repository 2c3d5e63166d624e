"""A grid of numbers as colours to lay over a picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

_FAR, _NEAR = np.array([8, 14, 60, 200]), np.array([255, 190, 0, 150])
"""Colour and opacity of the least and the largest value; between them the picture is plain.

Dark blue and bright amber are told apart in black and white, and by eyes that see no red."""


def painted(grid: Float32[np.ndarray, "rows cols"]) -> UInt8[np.ndarray, "rows cols 4"]:
    """Return a colour and opacity for each cell: dark where it is least, bright where it is most.

    A grid of one value is left plain: nothing stands out.
    """
    low, high = float(grid.min()), float(grid.max())
    place = np.full(grid.shape, 0.5) if high <= low else (grid - low) / (high - low)
    away = np.abs(2 * place - 1)  # from the middle, where nothing is laid over the picture
    colours = np.where((place < 0.5)[..., None], _FAR, _NEAR).astype(np.float64)
    colours[..., 3] *= away
    return colours.round().astype(np.uint8)
