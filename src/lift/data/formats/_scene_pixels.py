"""A scene as the bytes of a PNG, antialiased."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from lift.data.formats._scene_facts import COLOURS, GROUNDS, SHAPES, Dice, Scene, Thing

_FINER = 4
"""Masks are drawn this many times larger and averaged down."""

_RADIUS = {"small": 0.10, "large": 0.185}
_SPREAD = {
    1: ((0.0, 0.0),),
    2: ((-1.0, 0.0), (1.0, 0.0)),
    3: ((-1.0, 0.9), (1.0, 0.9), (0.0, -0.9)),
    4: ((-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)),
}


class Stamps(NamedTuple):
    """Where the shapes of a thing are: the left upper corner of each, and their radius, in pixels.

    A shape is 2 `radius` wide and high.
    """

    radius: int
    corners: tuple[tuple[int, int], ...]

    def box(self, resolution: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of all of them, as shares of the image."""
        wide = 2 * self.radius
        left, top = (max(0, min(ends)) for ends in zip(*self.corners, strict=True))
        right, bottom = (min(resolution, max(e) + wide) for e in zip(*self.corners, strict=True))
        return left / resolution, top / resolution, right / resolution, bottom / resolution


def paint(
    scene: Scene, dice: Dice, rng: np.random.Generator, resolution: int
) -> tuple[bytes, tuple[Stamps, ...]]:
    """Return a PNG of `resolution` x `resolution` pixels, and where each thing is in it.

    Equal dice give equal bytes.
    """
    image = _background(scene, dice, rng, resolution)
    alone = len(scene.things) == 1
    columns, rows = _centres(scene, dice)
    stamps = []
    for thing in scene.things:
        radius = max(2, round(_RADIUS[thing.size] * resolution))
        step = 1.18 * _RADIUS[thing.size] + (0.04 if alone else 0.0)
        colour = _shade(COLOURS[thing.colour], dice, 10)
        corners = []
        for dx, dy in _SPREAD[thing.number]:
            x = round((columns[thing.column] + step * dx) * resolution) - radius
            y = round((rows[thing.row] + step * dy) * resolution) - radius
            _stamp(image, thing, colour, x, y, radius)
            corners.append((x, y))
        stamps.append(Stamps(radius, tuple(corners)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), tuple(stamps)


def mask(scene: Scene, stamps: Sequence[Stamps], resolution: int) -> bytes:
    """Return a PNG of which shape is at each pixel: 1 + its place in SHAPES, 0 where none is."""
    image = Image.new("L", (resolution, resolution), 0)
    for thing, own in zip(scene.things, stamps, strict=True):
        whole = _mask(thing.shape, own.radius).point(_INSIDE)
        for corner in own.corners:
            image.paste(1 + SHAPES.index(thing.shape), corner, whole)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


_INSIDE = [255 * (value > 127) for value in range(256)]
"""From how much of a pixel a shape covers to whether it is the pixel's."""


def _centres(scene: Scene, dice: Dice) -> tuple[list[float], list[float]]:
    """Return where columns and rows lie; a scene of one column or row has it near the middle."""
    axes = []
    for places in ([t.column for t in scene.things], [t.row for t in scene.things]):
        slack = (dice.below(2001) - 1000) / 1000
        if max(places) == 0:
            several = any(t.number > 1 and t.size == "large" for t in scene.things)
            axes.append([0.5 + slack * (0.03 if several else 0.18)])
        else:
            axes.append([0.26 + 0.02 * slack, 0.74 + 0.02 * slack])
    return axes[0], axes[1]


def _shade(colour: tuple[int, int, int], dice: Dice, most: int) -> tuple[int, int, int]:
    red, green, blue = (
        min(255, max(0, value + dice.below(2 * most + 1) - most)) for value in colour
    )
    return red, green, blue


def _background(scene: Scene, dice: Dice, rng: np.random.Generator, resolution: int) -> Image.Image:
    colour = _shade(GROUNDS[scene.ground], dice, 6)
    size = (resolution, resolution)
    if scene.background == "plain":
        return Image.new("RGB", size, colour)
    away = -1 if sum(colour) > 380 else 1
    if scene.background == "noisy":
        grain = rng.integers(0, 36, (resolution, resolution, 1), dtype=np.int16) - 18
        pixels = np.clip(np.array(colour, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
        return Image.fromarray(pixels)
    red, green, blue = (min(255, max(0, value + away * 44)) for value in colour)
    if scene.background == "fading":
        mask = _ramp(resolution, dice.below(4))
    else:
        mask = _board(resolution, 4 + dice.below(5))
    image = Image.new("RGB", size, colour)
    image.paste((red, green, blue), (0, 0), mask)
    return image


@functools.lru_cache(maxsize=16)
def _ramp(resolution: int, turns: int) -> Image.Image:
    ramp = np.linspace(0, 255, resolution).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.rot90(np.tile(ramp, (resolution, 1)), turns)))


@functools.lru_cache(maxsize=16)
def _board(resolution: int, cells: int) -> Image.Image:
    place = np.arange(resolution) * cells // resolution
    odd = (place[:, None] + place[None, :]) % 2
    return Image.fromarray((odd * 255).astype(np.uint8))


def _stamp(
    image: Image.Image, thing: Thing, colour: tuple[int, int, int], x: int, y: int, radius: int
) -> None:
    image.paste(colour, (x, y), _mask(thing.shape, radius))
    if thing.texture != "plain":
        bright = sum(colour) > 330
        ink = (40, 30, 30) if bright else (250, 245, 240)
        image.paste(ink, (x, y), _inked(thing.shape, thing.texture, radius))


@functools.lru_cache(maxsize=256)
def _inked(shape: str, texture: str, radius: int) -> Image.Image:
    return ImageChops.multiply(_mask(shape, radius), _texture(texture, radius))


@functools.lru_cache(maxsize=64)
def _mask(shape: str, radius: int) -> Image.Image:
    """Return an 8-bit mask of side 2 radius: 255 inside the shape."""
    middle = radius * _FINER
    image = Image.new("L", (2 * middle, 2 * middle), 0)
    pen = ImageDraw.Draw(image)
    if shape in ("circle", "ring"):
        pen.ellipse(_box(middle, 0.95), fill=255)
        if shape == "ring":
            pen.ellipse(_box(middle, 0.48), fill=0)
    elif shape == "square":
        pen.rectangle(_box(middle, 0.82), fill=255)
    elif shape == "cross":
        pen.rectangle((middle * 0.05, middle * 0.68, middle * 1.95, middle * 1.32), fill=255)
        pen.rectangle((middle * 0.68, middle * 0.05, middle * 1.32, middle * 1.95), fill=255)
    elif shape == "heart":
        pen.polygon(_heart(middle), fill=255)
    else:
        pen.polygon(_corners(shape, middle), fill=255)
    return image.reduce(_FINER)


def _box(middle: int, share: float) -> tuple[float, float, float, float]:
    low, high = middle * (1 - share), middle * (1 + share)
    return low, low, high, high


def _corners(shape: str, middle: int) -> list[tuple[float, float]]:
    """Return the corners of a triangle, diamond or star; the first points up."""
    number = {"triangle": 3, "diamond": 4, "star": 10}[shape]
    points = []
    for corner in range(number):
        angle = 2 * math.pi * corner / number - math.pi / 2
        length = 0.42 if shape == "star" and corner % 2 else 0.98
        width = 0.72 if shape == "diamond" else 1.0
        points.append(
            (
                middle + middle * width * length * math.cos(angle),
                middle + middle * length * math.sin(angle),
            )
        )
    return points


def _heart(middle: int) -> list[tuple[float, float]]:
    """Return the classical heart curve (16 sin^3 t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t)."""
    points = []
    for step in range(48):
        t = 2 * math.pi * step / 48
        across = 16 * math.sin(t) ** 3
        up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((middle + middle * across / 17, middle - middle * (up + 2.5) / 16))
    return points


@functools.lru_cache(maxsize=64)
def _texture(texture: str, radius: int) -> Image.Image:
    """Return an 8-bit mask of side 2 radius: 255 where the texture has ink."""
    side = 2 * radius * _FINER
    image = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(image)
    period = max(3.4, 2 * radius / 5) * _FINER
    for number in range(math.ceil(side / period)):
        start = (number + 0.25) * period
        if texture == "striped":
            pen.rectangle((0, start, side, start + 0.42 * period), fill=255)
        elif texture == "dotted":
            for other in range(math.ceil(side / period)):
                left = (other + 0.25) * period
                pen.ellipse((left, start, left + 0.55 * period, start + 0.55 * period), fill=255)
        else:
            width = 0.26 * period
            pen.rectangle((0, start, side, start + width), fill=255)
            pen.rectangle((start, 0, start + width, side), fill=255)
    return image.reduce(_FINER)
