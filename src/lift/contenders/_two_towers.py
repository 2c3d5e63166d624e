"""An image tower of another library with whatever encodes the texts of its space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import nn

from lift.data.many import as_many, chunks
from lift.data.transform import Transform
from lift.efficiency import Efficiency, measured
from lift.image_tower import ImageTower
from lift.terms import ImageLike, unit

BATCH = 64
"""Images that go through a tower together."""


@runtime_checkable
class Texts(Protocol):
    """The texts of a contender."""

    @property
    def identity(self) -> str:
        """A digest of all that its rows depend on."""
        ...

    @property
    def networks(self) -> Sequence[nn.Module]:
        """What computes."""
        ...

    def rows(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one row a text, of any length."""
        ...

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than is taken."""
        ...

    def count(self, text: str) -> int:
        """Return the tokens of a text, special ones included, uncut."""
        ...


class Featured:
    """An `Encoder` whose image vectors are the features of its tower, brought to unit length."""

    def features(
        self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = BATCH
    ) -> Float32[np.ndarray, "n d"]:
        """Return a raw row for each image, whatever its length. Raises DataError."""
        raise NotImplementedError

    def encode_images(
        self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = BATCH
    ) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image; arguments as in `lift.Bundle.encode_images`.

        Raises:
            DataError: an image can't be read.
        """
        return unit(torch.from_numpy(self.features(images, batch_size=batch_size))).numpy()


class TwoTowers(Featured):
    """An `Encoder` of an image tower whose own vectors lie where its texts do.

    Attributes:
        name, saw: for tables; benchmarks whose captions it was trained on.
        tower: from pixels to raw vectors in the shared space.
    """

    def __init__(self, name: str, tower: ImageTower, texts: Texts, saw: Sequence[str] = ()) -> None:
        """Hold the two."""
        self.name, self.saw = name, tuple(saw)
        self.tower, self._texts = tower, texts

    @property
    def transform(self) -> Transform:
        """How pixels become what the tower sees."""
        return self.tower.transform

    @property
    def identity(self) -> str:
        """A digest of weights, pixels and texts: equal digests, equal vectors."""
        return digest(self.tower.space.fingerprint, self._texts.identity)

    def features(
        self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = BATCH
    ) -> Float32[np.ndarray, "n d"]:
        """Return what the tower makes of each image, before it is brought to unit length."""
        rows = [np.zeros((0, self.tower.space.dimensions), np.float32)]
        for chunk in chunks(as_many(images), batch_size):
            pixels = torch.stack([self.transform.evaluate(image) for image in chunk])
            rows.append(self.tower.features(pixels).numpy())
        return np.concatenate(rows)

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text."""
        several = [texts] if isinstance(texts, str) else list(texts)
        if not several:
            return np.zeros((0, self.tower.space.dimensions), np.float32)
        return unit(torch.from_numpy(self._texts.rows(several))).numpy()

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the text tower takes: their ends are lost."""
        return self._texts.cut(texts)

    def efficiency(self, *, texts: bool = True, batches: int = 5) -> Efficiency:
        """Measure what it costs on this machine.

        Args:
            texts: whether to measure those, too; not where they come from a cache.
            batches: that are timed.
        """
        return measured(
            dimensions=self.tower.space.dimensions,
            device=self.tower.device,
            precision="float32",
            encode_images=self.encode_images,
            image_weights=[self.tower.module],
            encode_texts=self.encode_texts if texts else None,
            text_weights=lambda: self._texts.networks,
            count_tokens=self._texts.count,
            batches=batches,
        )


def digest(*parts: str) -> str:
    """Return "sha256:..." of some texts, in order."""
    total = hashlib.sha256()
    for part in parts:
        total.update(f"{len(part)}:{part}".encode())
    return f"sha256:{total.hexdigest()}"
