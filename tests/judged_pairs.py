"""A source that every evaluation can be asked of, and encoders whose figures are known."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import re

import numpy as np
from PIL import Image

from lift.evals._dense import Patches
from lift.terms import Caption, Foil, Region, Sample

IMAGES, CLASSES = 300, 6  # more images than one chunk holds


@functools.cache
def striped(number: int) -> bytes:
    """Return a PNG whose upper stripes are the bits of a number, which stands behind it, too."""
    rows = np.repeat([255 * (number >> bit & 1) for bit in range(9)] + [128] * 3, 2)
    return png(np.tile(rows[:, None, None], (1, 8, 3))) + f" image {number}".encode()


@functools.cache
def mask(number: int) -> bytes:
    """Return a mask that is of one class everywhere."""
    return png(np.full((4, 4), number))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def number_of(image: bytes) -> int:
    """Return the number of a striped image, whatever was done to it that leaves its stripes."""
    if told := re.search(rb" image (\d+)$", image):
        return int(told[1])
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("L"))
    return sum(int(pixels[2 * bit, 3] > 128) << bit for bit in range(9))


class Pairs:
    """A source in memory that every evaluation can use."""

    name = "pairs"
    names = json.dumps([f"class {number}" for number in range(CLASSES)])

    def __init__(self, images: int = IMAGES) -> None:
        self.groups = (images,)

    def __len__(self) -> int:
        return self.groups[0]

    def read(self, index: int) -> Sample:
        right, wrong = f"caption 0 of {index}", f"foil of {index}"
        return Sample(
            key=f"image-{index}",
            image=striped(index),
            captions=tuple(
                Caption(f"caption {k} of {index}", language=("en", "de")[k]) for k in range(2)
            ),
            fields={
                "class_name": f"class {index % CLASSES}",
                "pair": f"{index // 2}",
                "sentence": f"caption 0 of {index - index % 2}",
                "label": "no" if index % 2 else "yes",
                "mask_classes": self.names,
            },
            regions=(Region(right, (0.0, 0.0, 0.5, 0.5)),),
            mask=mask(index % CLASSES),
            foils=(Foil("add", right, wrong), Foil("swap", right, f"other {wrong}")),
        )

    def texts(self):
        return ((self.read(i).key, self.read(i).captions) for i in range(len(self)))


def patches(z: np.ndarray) -> Patches:
    """Return 2 x 2 cells an image that cover it."""
    frame = np.tile(np.array([0, 0, 1, 1], np.float32), (len(z), 1))
    return Patches(z.reshape(len(z), 2, 2, -1), frame)


class Oracle:
    """Sees the number of the image in its bytes, and knows what every text means."""

    name, saw = "oracle", ()

    def encode_images(self, images):
        numbers = [number_of(image) for image in images]
        return np.stack([self._at(n, IMAGES + n % CLASSES) for n in numbers])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_patches(self, images):
        """Say the class everywhere, and the image's own caption in the first of 2 x 2 cells."""
        whole = self.encode_images(images)
        other = np.stack([self._at(IMAGES + number_of(image) % CLASSES) for image in images])
        return patches(np.stack([whole, other, other, other], 1))

    def with_pixels(self, mean, std):
        return self

    def encode_texts(self, texts):
        return np.stack([self._meaning(text) for text in texts])

    def _meaning(self, text: str) -> np.ndarray:
        number = int(re.findall(r"\d+", text)[-1])
        if "foil" in text:
            return -self._at(number)
        return self._at(IMAGES + number if "class" in text else number)

    @staticmethod
    def _at(*places: int) -> np.ndarray:
        row = np.zeros(IMAGES + CLASSES, np.float32)
        row[list(places)] = 1 / np.sqrt(len(places))
        return row


class Constant:
    """One direction for everything; wide, so that float32 sums round differently."""

    name, saw = "constant", ()
    row = np.random.default_rng(3).standard_normal(1000).astype(np.float32)

    def encode_images(self, images):
        return np.repeat(self.row[None] / np.linalg.norm(self.row), len(images), axis=0)

    encode_texts = encode_images

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_patches(self, images):
        return patches(np.repeat(self.encode_images(images)[:, None], 4, 1))

    def with_pixels(self, mean, std):
        return self


class Random:
    """A direction for each input that has nothing to do with it."""

    name, saw = "random", ()

    def encode_images(self, images):
        return np.stack([self._row(image) for image in images])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_texts(self, texts):
        return self.encode_images([text.encode() for text in texts])

    def encode_patches(self, images):
        cells = [self.encode_images([bytes([at]) + image for image in images]) for at in range(4)]
        return patches(np.stack(cells, 1))

    def with_pixels(self, mean, std):
        other = copy.copy(self)
        other.salt = self.salt + b"px"
        return other

    salt = b""

    def _row(self, content: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(self.salt + content, digest_size=8).digest())
        row = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
        return row / np.linalg.norm(row)


class Altered(Random):
    """A random encoder whose image rows are multiplied by something."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def encode_images(self, images):
        return super().encode_images(images) * np.float32(self.factor)

    def encode_texts(self, texts):
        return super().encode_images([text.encode() for text in texts])
