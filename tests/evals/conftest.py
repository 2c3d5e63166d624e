"""Small sources and encoders for the tests of the evaluations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from lift.terms import Sample


class ListSource:
    """Samples in a list."""

    name = "list"

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)
        self.groups = (len(self.samples),)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> Sample:
        self.reads += 1
        return self.samples[index]

    def texts(self):
        return ((sample.key, sample.captions) for sample in self.samples)


class Vectors:
    """An encoder with a stated vector for some inputs and a direction of its own for the others."""

    name, saw = "vectors", ()

    def __init__(self, known: dict, width: int = 16) -> None:
        self.known, self.width = known, width
        self.calls: list[int] = []

    def encode_images(self, images):
        self.calls.append(len(images))
        return np.stack([self._row(image) for image in images])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_texts(self, texts):
        return np.stack([self._row(text) for text in texts])

    def _row(self, content: bytes | str) -> np.ndarray:
        if content in self.known:
            row = np.asarray(self.known[content], np.float32)
        else:
            raw = content if isinstance(content, bytes) else content.encode()
            seed = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())
            row = np.random.default_rng(seed).standard_normal(self.width).astype(np.float32)
        return row / np.linalg.norm(row)


@pytest.fixture
def list_source():
    return ListSource


@pytest.fixture
def vectors():
    return Vectors
