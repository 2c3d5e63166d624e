"""Vectors of the cells of a patch grid: what an encoder gives, and a source of them, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from lift.errors import ConfigError, DataError
from lift.evals._encode import Images, check
from lift.terms import Encoder, ImageLike, Sample, Source

AT_ONCE = 16
"""Images whose cells are in memory at a time: 50 MB at 14 x 14 cells of 4,096 numbers."""


@dataclass(frozen=True)
class Patches:
    """The cells of images, row by row from the top left.

    Attributes:
        z: of unit length.
        frame: left, top, right, bottom of the part of each image that the grid covers, as shares
            of its width and height (upright).
    """

    z: Float32[np.ndarray, "n rows cols d"]
    frame: Float32[np.ndarray, "n 4"]


@runtime_checkable
class DenseEncoder(Encoder, Protocol):
    """An `Encoder` that also says what is where in an image."""

    def encode_patches(self, images: Sequence[ImageLike]) -> Patches:
        """Return the cells of each image, in order."""
        ...


def require_dense(encoder: Encoder, wanted_by: str) -> DenseEncoder:
    """Return the encoder. Raises ConfigError where it has no vectors of patches."""
    if isinstance(encoder, DenseEncoder):
        return encoder
    raise ConfigError(
        f"{encoder.name} has no `encode_patches`, which the {wanted_by} evaluation asks for the "
        "vectors of patches: leave the evaluation out, or take a tower of patches (vit)."
    )


class DenseImages(Images):
    """The images of a source, each with its cells; those that can't be read are counted.

    Iterate `cells` once and to the end; only then are the attributes of `Images` complete.
    """

    def cells(self) -> Iterator[tuple[int, Sample, Float32[np.ndarray, "rows cols d"], np.ndarray]]:
        """Yield (number in the source, sample, cells, frame [4]) of every image.

        Raises:
            DataError: the source is empty, no image can be read, or a vector is not of unit
                length.
            NotFinite: a vector holds NaN or infinity.
        """
        for read in self._pieces(AT_ONCE):
            for (number, sample), patches in self._with_patches(read):
                z = patches.z[0]
                names = [sample.key] * (z.shape[0] * z.shape[1])
                check(z.reshape(len(names), -1), names, self._encoder, "patch")
                self._take(number, sample)
                yield number, sample, z, patches.frame[0]

    def _with_patches(
        self, read: list[tuple[int, Sample]]
    ) -> Iterator[tuple[tuple[int, Sample], Patches]]:
        """Yield what can be decoded of some images, one by one."""
        encoder = self._encoder
        assert isinstance(encoder, DenseEncoder), "asked for before"
        if not read:
            return
        try:
            found = encoder.encode_patches([sample.image for _, sample in read])
        except DataError:
            pass  # at least one image is damaged: find out which
        else:
            for at, item in enumerate(read):
                yield item, Patches(found.z[at : at + 1], found.frame[at : at + 1])
            return
        for number, sample in read:
            try:
                own = encoder.encode_patches([sample.image])
            except DataError as error:
                self.unreadable.append(f"sample {sample.key!r}: {error}")
            else:
                yield (number, sample), own


def dense_images(encoder: Encoder, source: Source, wanted_by: str) -> DenseImages:
    """Return the images of a source. Raises ConfigError where the encoder has no patches."""
    return DenseImages(require_dense(encoder, wanted_by), source)


def centres(
    rows: int, cols: int, frame: Float[np.ndarray, " 4"]
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " cols"]]:
    """Return where the centres of cells lie, down and across, as shares of the image."""
    left, top, right, bottom = (float(end) for end in frame)
    down = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
    across = left + (np.arange(cols) + 0.5) / cols * (right - left)
    return down, across
