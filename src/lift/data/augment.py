"""Random views of an image: crop, colours, flip, erasing; all from one numpy generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.errors import ConfigError

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey."""

_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = np.linalg.inv(_YIQ)
_ERASE_AREA = (0.02, 0.33)
_ERASE_ASPECT = (0.3, 3.3)


@dataclass(frozen=True)
class Augment:
    """How strong each random change is; the defaults are the paper's: a crop and nothing else.

    Attributes:
        scale: share of the area that a crop takes, from and to.
        aspect: width over height of a crop, from and to, drawn evenly on a log scale.
        flip: probability of a left-right flip. Captions that say left or right forbid it.
        jitter: probability that the colours are changed at all.
        brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x].
        hue: the turn of hue is drawn from [-x, x] of a full turn, at most 0.5.
        grey: probability of losing all colour.
        erase: probability that a rectangle (2-33% of the area; Zhong et al. 2020) is filled with
            the mean colour.
    """

    scale: tuple[float, ...] = (0.9, 1.0)
    aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("scale", 1.0), ("aspect", math.inf)):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
                raise ConfigError(
                    f"augment.{name} must be two numbers above 0, the smaller first, not {value}."
                )
        for name in ("flip", "jitter", "grey", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"augment.{name} is a probability from 0 to 1, not {getattr(self, name)}."
                )
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(
                    f"augment.{name} must be from 0 to {most}, not {getattr(self, name)}."
                )

    def smallest_side(self) -> float:
        """Return the shortest side that a crop of a unit square can have."""
        return math.sqrt(self.scale[0] / max(self.aspect[1], 1 / self.aspect[0]))


def crop_box(
    height: int, width: int, augment: Augment, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop (Szegedy et al. 2015, inception crop).

    Ten tries to fit the drawn area and aspect, then the largest central crop whose aspect is in
    range.
    """
    low, high = math.log(augment.aspect[0]), math.log(augment.aspect[1])
    for area_draw, aspect_draw, y_draw, x_draw in rng.random((10, 4)).tolist():
        area = height * width * _between(augment.scale, area_draw)
        aspect = math.exp(low + (high - low) * aspect_draw)
        crop_w, crop_h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_w <= width and 0 < crop_h <= height:
            top = int(y_draw * (height - crop_h + 1))
            left = int(x_draw * (width - crop_w + 1))
            return top, left, crop_h, crop_w
    crop_w = max(1, min(width, round(height * augment.aspect[1])))
    crop_h = max(1, min(height, round(width / augment.aspect[0])))
    return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


class View(NamedTuple):
    """Every random choice about one view of an image, made before a pixel is touched.

    Attributes:
        box: top, left, height and width of the crop.
        colour: 3 x 3 matrix by which RGB is multiplied, None where no colour changes.
        contrast: factor of the distance to the mean grey, applied after `colour`.
        flip: whether left and right are swapped.
        erased: top, left, height and width of what is filled afterwards, None for nothing.
    """

    box: tuple[int, int, int, int]
    colour: np.ndarray | None = None
    contrast: float = 1.0
    flip: bool = False
    erased: tuple[int, int, int, int] | None = None


def draw_view(
    height: int, width: int, side: int, augment: Augment, rng: np.random.Generator
) -> View:
    """Return a random view of an image of `height` x `width` at `side` x `side` pixels.

    Equal generators give equal views, whatever the pixels are and wherever they are changed.
    """
    box = crop_box(height, width, augment, rng)
    colour, contrast = _colour(augment, rng)
    flip_draw, erase_draw, *where = rng.random(6).tolist()
    erased = _erased(side, *where) if erase_draw < augment.erase else None
    return View(box, colour, contrast, flip_draw < augment.flip, erased)


def finish(view: View, pixels: UInt8[Tensor, "3 h w"], fill: UInt8[Tensor, " 3"]) -> Tensor:
    """Return resized pixels with the view's colours, flip and filled rectangle (uint8 [3 h w])."""
    if view.colour is not None:
        pixels = _recolour(pixels, view.colour, view.contrast)
    if view.flip:
        pixels = pixels.flip(2)
    if view.erased is not None:
        top, left, height, width = view.erased
        pixels = pixels.clone()
        pixels[:, top : top + height, left : left + width] = fill[:, None, None]
    return pixels


def _colour(augment: Augment, rng: np.random.Generator) -> tuple[np.ndarray | None, float]:
    """Return the matrix (None for none) and the contrast of a view.

    Brightness, contrast, saturation and hue are linear in RGB (hue as a turn in the YIQ plane), so
    they are multiplied into one matrix with an offset: an image is touched, and clipped, once.
    """
    jitter_draw, bright, contrast, saturation, hue, grey_draw = rng.random(6).tolist()
    if jitter_draw >= augment.jitter and grey_draw >= augment.grey:
        return None, 1.0
    matrix, factor = np.eye(3), 1.0
    if jitter_draw < augment.jitter:
        matrix = matrix * _factor(augment.brightness, bright)
        matrix = _saturation(_factor(augment.saturation, saturation)) @ matrix
        matrix = _hue((2 * hue - 1) * augment.hue) @ matrix
        factor = _factor(augment.contrast, contrast)
    if grey_draw < augment.grey:
        matrix = _saturation(0.0) @ matrix
    if factor == 1.0 and np.array_equal(matrix, np.eye(3)):
        return None, 1.0
    return matrix, factor


def _recolour(
    view: UInt8[Tensor, "3 h w"], colour: np.ndarray, contrast: float
) -> UInt8[Tensor, "3 h w"]:
    pixels = view.reshape(3, -1).float()
    changed = torch.from_numpy((colour * contrast).astype(np.float32)) @ pixels
    if contrast != 1.0:
        # Contrast pulls towards the mean grey of the image as it is after the other changes.
        changed += (1 - contrast) * float(LUMA @ (colour @ pixels.mean(1).double().numpy()))
    return changed.add_(0.5).clamp_(0, 255).to(torch.uint8).view_as(view)


def _erased(
    side: int, area_draw: float, aspect_draw: float, y_draw: float, x_draw: float
) -> tuple[int, int, int, int]:
    area = side * side * _between(_ERASE_AREA, area_draw)
    low, high = math.log(_ERASE_ASPECT[0]), math.log(_ERASE_ASPECT[1])
    aspect = math.exp(low + (high - low) * aspect_draw)
    box_w = min(side, max(1, round(math.sqrt(area * aspect))))
    box_h = min(side, max(1, round(math.sqrt(area / aspect))))
    return int(y_draw * (side - box_h + 1)), int(x_draw * (side - box_w + 1)), box_h, box_w


def _between(ends: tuple[float, ...], draw: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * draw


def _factor(strength: float, draw: float) -> float:
    return 1 + strength * (2 * draw - 1)


def _saturation(factor: float) -> np.ndarray:
    return factor * np.eye(3) + (1 - factor) * np.tile(LUMA, (3, 1))


def _hue(turn: float) -> np.ndarray:
    if turn == 0:
        return np.eye(3)
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    return _RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _YIQ
