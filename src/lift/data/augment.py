"""Random views of an image: crop, colours, flip, erasing; all from one numpy generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from lift.errors import ConfigError

_LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
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


def recolour(
    view: UInt8[Tensor, "3 h w"], augment: Augment, rng: np.random.Generator
) -> UInt8[Tensor, "3 h w"]:
    """Change brightness, contrast, saturation and hue, or drop all colour.

    Each is linear in RGB (hue as a turn in the YIQ plane), so they are multiplied into one 3 x 3
    matrix with an offset and the image is touched, and clipped, once.
    """
    jitter_draw, bright, contrast, saturation, hue, grey_draw = rng.random(6).tolist()
    matrix, pivot = np.eye(3), 1.0
    if jitter_draw < augment.jitter:
        matrix = matrix * _factor(augment.brightness, bright)
        matrix = _saturation(_factor(augment.saturation, saturation)) @ matrix
        matrix = _hue((2 * hue - 1) * augment.hue) @ matrix
        pivot = _factor(augment.contrast, contrast)
    if grey_draw < augment.grey:
        matrix = _saturation(0.0) @ matrix
    if pivot == 1.0 and np.array_equal(matrix, np.eye(3)):
        return view
    pixels = view.reshape(3, -1).float()
    offset = None
    if pivot != 1.0:
        # Contrast pulls towards the mean grey of the image as it is after the other changes.
        mean = float(_LUMA @ (matrix @ pixels.mean(1).double().numpy()))
        offset = (1 - pivot) * mean
    return _apply(pixels, matrix * pivot, offset).view_as(view)


def _apply(
    pixels: Float32[Tensor, "3 n"], matrix: np.ndarray, offset: float | None
) -> UInt8[Tensor, "3 n"]:
    changed = torch.from_numpy(matrix.astype(np.float32)) @ pixels
    if offset is not None:
        changed += offset
    return changed.add_(0.5).clamp_(0, 255).to(torch.uint8)


def flip_and_erase(
    view: UInt8[Tensor, "3 h w"],
    augment: Augment,
    rng: np.random.Generator,
    fill: UInt8[Tensor, " 3"],
) -> UInt8[Tensor, "3 h w"]:
    """Flip left and right, then fill a random rectangle with the colour `fill`."""
    flip_draw, erase_draw, area_draw, aspect_draw, y_draw, x_draw = rng.random(6).tolist()
    if flip_draw < augment.flip:
        view = view.flip(2)
    if erase_draw < augment.erase:
        height, width = view.shape[1:]
        area = height * width * _between(_ERASE_AREA, area_draw)
        low, high = math.log(_ERASE_ASPECT[0]), math.log(_ERASE_ASPECT[1])
        aspect = math.exp(low + (high - low) * aspect_draw)
        box_w = min(width, max(1, round(math.sqrt(area * aspect))))
        box_h = min(height, max(1, round(math.sqrt(area / aspect))))
        top, left = int(y_draw * (height - box_h + 1)), int(x_draw * (width - box_w + 1))
        view = view.clone()
        view[:, top : top + box_h, left : left + box_w] = fill[:, None, None]
    return view


def _between(ends: tuple[float, ...], draw: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * draw


def _factor(strength: float, draw: float) -> float:
    return 1 + strength * (2 * draw - 1)


def _saturation(factor: float) -> np.ndarray:
    return factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1))


def _hue(turn: float) -> np.ndarray:
    if turn == 0:
        return np.eye(3)
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    return _RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _YIQ
