"""Lay what patches of an image have in common with a text over its picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from lift.scoring.painting import painted as painted

Heatmaps = Callable[
    [str, str, int, str], "tuple[Float32[np.ndarray, 'rows cols'], Sequence[float]] | None"
]
"""From the name of a model, the name of the data, an image's number in it and a text to the cosine
of every cell of the patch grid with that text, and the part of the image that the grid covers
(left, top, right, bottom as shares of its width and height, as in `lift.evals._dense.Patches`);
None where the model has no patches to ask."""

MOST_CELLS = 256
"""Rows or columns of a grid; a finer one is not drawn."""


@dataclass(frozen=True)
class Heat:
    """A grid as a picture to lay over another; places in percent of that one's width and height."""

    uri: str
    left: float
    top: float
    width: float
    height: float
    low: str
    high: str
    text: str


def heat_of(heatmaps: Heatmaps | None, model: str, data: str, index: int, text: str) -> Heat | None:
    """Return the overlay for an image and a text, or None where there is none."""
    found = None if heatmaps is None else heatmaps(model, data, index, text)
    if found is None:
        return None
    grid = found[0]
    left, top, right, bottom = map(float, found[1])
    sizes = min(grid.shape) > 0 and max(grid.shape) <= MOST_CELLS and right > left and bottom > top
    if not sizes or not np.isfinite(grid).all():
        return None
    return Heat(
        uri=_png(painted(grid)),
        left=round(100 * left, 2),
        top=round(100 * top, 2),
        width=round(100 * (right - left), 2),
        height=round(100 * (bottom - top), 2),
        low=f"{float(grid.min()):.2f}",
        high=f"{float(grid.max()):.2f}",
        text=text,
    )


def _png(pixels: UInt8[np.ndarray, "rows cols 4"]) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
