"""`Transform`: the frozen value that turns images into tensors, saved with every model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from lift.data import augment
from lift.data.augment import Augment, View
from lift.data.image import Picture, picture
from lift.errors import ConfigError
from lift.terms import ImageLike

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_SPARE = 2
"""A JPEG decoded at a fraction keeps this many times the side needed, for the resize to smooth."""


@dataclass(frozen=True)
class Transform:
    """How pixels reach a model, in training and after it.

    Both go image -> canvas -> model; training crops the canvas at random. What evaluation sees of
    an image does not depend on whether it comes as a file, as bytes, as an array or from PIL.

    Attributes:
        resolution: side of the square that the model sees, in pixels.
        canvas: side of a square that is decoded once and can be stored; None crops straight from
            the decoded image.
        mean, std: of each channel, for values in [0, 1]; the defaults are OpenAI CLIP's.
        interpolation: always with antialiasing.
        background: RGB below transparent pixels.
        resize: how a rectangle becomes a square: its central square, or squashed.
        augment: random changes in training.
    """

    resolution: int = 224
    canvas: int | None = None
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    background: tuple[int, ...] = (255, 255, 255)
    resize: Literal["center_crop", "squash"] = "center_crop"
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= 4096:
            raise ConfigError(f"resolution must be from 1 to 4096 pixels, not {self.resolution}.")
        if self.canvas is not None and not self.resolution <= self.canvas <= 8192:
            raise ConfigError(
                f"canvas must be from {self.resolution} (the resolution) to 8192 pixels, "
                f"not {self.canvas}."
            )
        for name in ("mean", "std", "background"):
            if len(getattr(self, name)) != 3:
                raise ConfigError(f"{name} needs three values, one a channel.")
        if min(self.std) <= 0:
            raise ConfigError(f"std must be above 0, not {self.std}.")
        if not all(0 <= value <= 255 for value in self.background):
            raise ConfigError(f"background must be from 0 to 255, not {self.background}.")

    def canvas_of(self, image: ImageLike, *, whole: bool = False) -> UInt8[Tensor, "3 h w"]:
        """Decode an image to the pixels that `train` and `from_canvas` start from.

        With `canvas` set that is a square of its side, else the image as it is (a JPEG possibly
        smaller, but never so small that a crop would have to be enlarged for it).

        Args:
            image: a path, bytes, an array or a PIL image.
            whole: decode large JPEGs in full instead of at a fraction that is large enough.

        Raises:
            DataError: the image can't be read.
        """
        return self.canvas_from(self.pixels_of(self.opened(image), whole=whole))

    def pixels_of(self, image: Picture, *, whole: bool = False) -> UInt8[Tensor, "3 h w"]:
        """Decode what `canvas_from` starts from.

        Raises:
            BrokenSample: the image is damaged.
        """
        short, enough = min(image.height, image.width), _SPARE * self._needed_side()
        return image.pixels(1 if whole else _fraction(short, enough))

    def canvas_from(self, pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 ch cw"]:
        """Return the canvas of a decoded image."""
        return pixels if self.canvas is None else self._square(pixels, self.canvas)

    def train(
        self, canvas: UInt8[Tensor, "3 h w"], rng: np.random.Generator
    ) -> UInt8[Tensor, "3 r r"]:
        """Return one random view of a canvas; equal generators give equal views."""
        view = self.draw(canvas.shape[1], canvas.shape[2], rng)
        return self.finish(view, cut(canvas, view.box))

    def draw(self, height: int, width: int, rng: np.random.Generator) -> View:
        """Return a random view of a picture of this size; equal generators give equal views."""
        return augment.draw_view(height, width, self.resolution, self.augment, rng)

    def opened(self, image: ImageLike) -> Picture:
        """Return an image that is not decoded yet.

        Raises:
            BrokenSample: it is none.
        """
        return picture(image, background=self._background)

    def shrink(self, view: View) -> int:
        """Return at which fraction (1/1, 1/2, 1/4, 1/8) a JPEG may be decoded for a view.

        The view is drawn before anything is decoded: a large JPEG is decoded smaller, but never so
        small that the crop would lose sharpness.
        """
        return _fraction(min(view.box[2:]), _SPARE * self.resolution)

    def finish(self, view: View, crop: UInt8[Tensor, "3 ch cw"]) -> UInt8[Tensor, "3 r r"]:
        """Return a view from its crop: resized, recoloured, flipped, with a rectangle filled."""
        return augment.finish(view, self._resized(crop, self.resolution), self.fill)

    @property
    def fill(self) -> UInt8[Tensor, " 3"]:
        """The colour of erased rectangles: the mean, which is 0 after `normalise`."""
        return torch.tensor([round(255 * value) for value in self.mean], dtype=torch.uint8)

    def from_canvas(self, canvas: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 r r"]:
        """Return what evaluation sees of a canvas made by `canvas_of`."""
        return self._square(canvas, self.resolution)

    def evaluate(self, image: ImageLike) -> UInt8[Tensor, "3 r r"]:
        """Return what evaluation sees of an image.

        Raises:
            DataError: the image can't be read.
        """
        return self.from_canvas(self.canvas_of(image, whole=True))

    def framed(
        self, image: ImageLike
    ) -> tuple[UInt8[Tensor, "3 r r"], tuple[float, float, float, float]]:
        """Return what `evaluate` does, and which part of the image that is.

        The part is left, top, right, bottom, as shares of the upright image's width and height.

        Raises:
            DataError: the image can't be read.
        """
        found = self.opened(image)
        pixels = self.from_canvas(self.canvas_from(self.pixels_of(found, whole=True)))
        if self.resize != "center_crop":
            return pixels, (0.0, 0.0, 1.0, 1.0)
        height, width = found.height, found.width
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        return pixels, (
            left / width,
            top / height,
            (left + short) / width,
            (top + short) / height,
        )

    def normalise(self, images: UInt8[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 3 h w"]:
        """Return `(images / 255 - mean) / std` on the device that `images` are on."""
        shape = (1, 3, 1, 1)
        mean = torch.tensor(self.mean, dtype=torch.float32, device=images.device).view(shape)
        std = torch.tensor(self.std, dtype=torch.float32, device=images.device).view(shape)
        return images.float().sub_(mean * 255).div_(std * 255)

    @property
    def _background(self) -> tuple[int, int, int]:
        red, green, blue = self.background
        return red, green, blue

    def _needed_side(self) -> int:
        """Return the shorter side below which decoding would cost sharpness."""
        if self.canvas is not None:
            return self.canvas
        return math.ceil(self.resolution / self.augment.smallest_side())

    def _square(self, pixels: UInt8[Tensor, "3 h w"], side: int) -> UInt8[Tensor, "3 s s"]:
        if self.resize == "center_crop":
            # Crop first: enlarging the shorter side of a 1 x 60,000 strip would fill the memory.
            height, width = pixels.shape[1:]
            short = min(height, width)
            top, left = (height - short) // 2, (width - short) // 2
            pixels = pixels[:, top : top + short, left : left + short]
        return self._resized(pixels, side)

    def _resized(self, pixels: UInt8[Tensor, "3 h w"], side: int) -> UInt8[Tensor, "3 s s"]:
        if pixels.shape[1:] == (side, side):
            return pixels.contiguous()
        return F.interpolate(
            pixels[None], size=(side, side), mode=self.interpolation, antialias=True
        )[0]


def _fraction(short: int, enough: int) -> int:
    """Return the largest divisor that leaves `enough` pixels of the shorter side."""
    return next(s for s in (8, 4, 2, 1) if s == 1 or short // s >= enough)


def scaled(view: View, image: Picture, height: int, width: int) -> View:
    """Return a view of a picture in the coordinates of its pixels at `height` x `width`."""
    down, across = height / image.height, width / image.width
    top, left, tall, wide = view.box
    box = int(top * down), int(left * across), int(tall * down), int(wide * across)
    return view._replace(box=(box[0], box[1], max(1, box[2]), max(1, box[3])))


def cut(pixels: UInt8[Tensor, "3 h w"], box: tuple[int, int, int, int]) -> Tensor:
    """Return a crop as uint8 [3 h w] with RGB side by side in memory.

    Resizing is three times faster in that order than channel by channel, and half as fast again
    from a copy as from a view (torch 2.13, AVX-512; `benchmarks/loader.py`).
    """
    top, left, height, width = box
    crop = pixels.permute(1, 2, 0)[top : top + height, left : left + width]
    return crop.contiguous().permute(2, 0, 1)
