"""Where in an image something is: the cells of its patch grid beside a text."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image

from lift.bundle import Bundle
from lift.data.image import decode
from lift.errors import ConfigError
from lift.scoring.painting import painted
from lift.terms import ImageLike


@dataclass(frozen=True, eq=False)
class Heatmap:
    """How near each cell of an image's patch grid is to a text.

    Attributes:
        values: the cosine of each cell with the text, less `mean`; rows from the top.
        mean: of the cosines over the cells. It says little: cells were never trained to lie near
            texts by themselves, and how near all of them are depends on the text more than on
            what is in the image. Only differences between cells are worth a look.
        frame: left, top, right, bottom of the part of the upright image that the grid covers, as
            shares of its width and height.
        text: what was asked.
    """

    values: Float32[np.ndarray, "rows cols"]
    mean: float
    frame: tuple[float, float, float, float]
    text: str

    @property
    def peak(self) -> tuple[float, float]:
        """The middle of the nearest cell, across and down, as shares of width and height."""
        rows, cols = self.values.shape
        row, col = divmod(int(self.values.argmax()), cols)
        left, top, right, bottom = self.frame
        return (
            left + (col + 0.5) / cols * (right - left),
            top + (row + 0.5) / rows * (bottom - top),
        )

    def overlay(self, image: ImageLike, *, side: int = 512) -> bytes:
        """Return a PNG of an image with the grid laid over it: bright where the text is near.

        Args:
            image: the one that the map was made of.
            side: pixels of the longer side, at most; images are not enlarged, but to the grid's
                own size.

        Raises:
            ConfigError: a side that is no size of a picture.
            DataError: the image can't be read.
        """
        if not 1 <= side <= 4096:
            raise ConfigError(f"side must be from 1 to 4096 pixels, not {side}.")
        picture = Image.fromarray(decode(image, at_least=side).permute(1, 2, 0).numpy())
        if max(picture.size) < max(self.values.shape):
            picture = picture.resize(self.values.shape[::-1])
        picture.thumbnail((side, side), Image.Resampling.BICUBIC)
        width, height = picture.size
        left, top, right, bottom = self.frame
        box = [
            round(left * width),
            round(top * height),
            round(right * width),
            round(bottom * height),
        ]
        size = (max(1, box[2] - box[0]), max(1, box[3] - box[1]))
        cells = Image.fromarray(self.values).resize(size, Image.Resampling.BICUBIC)
        heat = Image.fromarray(painted(np.asarray(cells)))
        picture = picture.convert("RGBA")
        picture.alpha_composite(heat, (min(box[0], width - 1), min(box[1], height - 1)))
        out = io.BytesIO()
        picture.convert("RGB").save(out, "PNG")
        return out.getvalue()


def heatmap(
    model: Bundle, image: ImageLike, text: str, *, z: Float32[np.ndarray, " d"] | None = None
) -> Heatmap:
    """Return which cells of an image are nearest to a text.

    Args:
        model: with a tower of patches.
        image: one image.
        text: a thing's name, best as a phrase ("a red scarf").
        z: the text's vector, where it is known.

    Raises:
        ConfigError: the model has no patches, or no text was given.
        DataError: the image can't be read.
        MissingPackage: the text encoder is not installed.
    """
    return heatmaps(model, image, [text], z=None if z is None else z[None])[0]


def heatmaps(
    model: Bundle,
    image: ImageLike,
    texts: list[str],
    *,
    z: Float32[np.ndarray, "n d"] | None = None,
) -> list[Heatmap]:
    """Return one map a text of one image, which goes through the tower once; see `heatmap`."""
    if not all(text.strip() for text in texts):
        raise ConfigError("A heatmap needs a text that says what to look for.")
    found = model.encode_patches([image])
    cosines = found.z[0] @ (model.encode_texts(texts) if z is None else z).T
    left, top, right, bottom = (float(end) for end in found.frame[0])
    means = cosines.mean(axis=(0, 1))
    return [
        Heatmap(
            (cosines[..., at] - means[at]).astype(np.float32),
            float(means[at]),
            (left, top, right, bottom),
            text,
        )
        for at, text in enumerate(texts)
    ]
