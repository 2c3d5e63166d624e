"""Pictures to compare a model and its export on: the user's, or made ones of many shapes."""

from __future__ import annotations

import functools
import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from lift.data.image import picture
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError
from lift.terms import Source

SHAPES = ((375, 500), (500, 333), (240, 240), (64, 64), (97, 61), (40, 300), (480, 853), (31, 32))
"""Height and width of the made pictures: photographs, squares, strips, smaller than a tower's."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MOST = 64
"""Of the user's pictures at most."""


def made() -> list[UInt8[np.ndarray, "h w 3"]]:
    """Return a picture of every shape, between photographs and drawings; always the same ones.

    Noise whose power falls with the square of the frequency, as in photographs, below hard-edged
    boxes and fine stripes, which tell ways of resizing apart.
    """
    return [one.copy() for one in _made()]


@functools.cache
def _made() -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
    rng = np.random.default_rng(0)
    return tuple(_picture(height, width, rng) for height, width in SHAPES)


def of_source(words: str, most: int = MOST) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Return the first readable pictures of a data source, or of files, decoded.

    Args:
        words: a pattern of image files, a folder of them (captions are not asked for), or as for
            `lift.data.source.open_source`.
        most: pictures that are read.

    Raises:
        ConfigError: an unknown layout.
        DataError: no source there, or no picture in it that can be read.
    """
    found = []
    first: BrokenSample | None = None
    for given in itertools.islice(_images(words), 4 * most):
        if len(found) == most:
            break
        try:
            one = given if isinstance(given, Path) else given[0].read(given[1]).image
            image = picture(one, background=(255, 255, 255))
            found.append(np.ascontiguousarray(image.pixels().permute(1, 2, 0).numpy()))
        except BrokenSample as error:
            first = first or error
    if not found:
        raise DataError(f"{words} holds no picture that can be read ({first}); give other images.")
    return found


def _images(words: str) -> Iterator[Path | tuple[Source, int]]:
    """Yield files, in order, where there are some; else places in a data source."""
    files = _files(words)
    if (file := next(files, None)) is not None:
        yield file
        yield from files
        return
    source = open_source(words)
    yield from ((source, number) for number in range(len(source)))


def _files(words: str) -> Iterator[Path]:
    """Yield the image files that a pattern or a folder has, folder by folder."""
    place = os.path.expanduser(words)
    if not os.path.isdir(place):
        yield from (Path(p) for p in sorted(glob.glob(place)) if p.lower().endswith(SUFFIXES))
        return
    for folder, below, names in os.walk(place):
        below.sort()
        yield from (Path(folder, n) for n in sorted(names) if n.lower().endswith(SUFFIXES))


def _picture(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    pixels = _noise(height, width, rng)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(1, height // 2 + 2), rng.integers(1, width // 2 + 2)
        pixels[top : top + tall, left : left + wide] = rng.random(3)
    period = int(rng.integers(2, 9))
    striped = (rows > height * 0.7) & (columns > width * 0.5)
    pixels[striped & ((rows + columns) // period % 2 == 0)] = rng.random(3)
    return np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)


def _noise(height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
    """Return noise of amplitude 1 / frequency in [0, 1], its channels alike but not equal."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(down, across), 1 / max(height, width))
    waves = np.fft.rfft2(rng.standard_normal((2, height, width))) * falling
    light, colour = np.fft.irfft2(waves, (height, width))
    mixed = light[..., None] + colour[..., None] * rng.uniform(-0.5, 0.5, 3)
    return np.clip(0.5 + mixed / (5 * mixed.std() + 1e-9), 0, 1)


def in_words(pictures: Sequence[np.ndarray]) -> str:
    """Return in words what the pictures are ("8 pictures of 31 x 32 to 720 x 1280 pixels")."""
    sizes = sorted((p.shape[0] * p.shape[1], p.shape[:2]) for p in pictures)
    (low, high), (tall, wide) = sizes[0][1], sizes[-1][1]
    largest = "" if (low, high) == (tall, wide) else f" to {tall} x {wide}"
    return f"{len(pictures)} pictures of {low} x {high}{largest} pixels"
