"""Images with labels: their vectors, which of them teach, and how right the answers are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from lift.errors import DataError, unknown
from lift.evals import _metrics as metrics
from lift.evals._encode import Images
from lift.terms import Encoder, ImageLike, Metric, Sample, Source, unit

KS = (1, 5)
TOP = 5
"""Answers kept of each example."""

Of = Literal["tower", "vector"]
"""Which vectors of an image: what the tower gives, before the head, or the place in text space."""

OF_WORDS = {"tower": "features of the tower", "vector": "image vectors"}


@runtime_checkable
class FeatureEncoder(Encoder, Protocol):
    """An `Encoder` that also tells what its tower gives, before the head."""

    def features(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n width"]:
        """Return a raw float32 row for each image, in order."""
        ...


class _Tower:
    """An encoder whose image vectors are the features of its tower, scaled to unit length."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        self.name, self.saw = encoder.name, encoder.saw
        self._encoder = encoder
        self.encode_texts = encoder.encode_texts

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        return unit(torch.from_numpy(self._encoder.features(images))).numpy()


def seen_as(encoder: Encoder, of: Of) -> tuple[Encoder, tuple[str, ...]]:
    """Return the encoder whose image vectors are those that are asked for, and a note."""
    if of == "vector":
        return encoder, ()
    if isinstance(encoder, FeatureEncoder):
        return _Tower(encoder), ()
    return encoder, (f"{encoder.name} tells no features of its tower: image vectors instead",)


def label_of(sample: Sample, source: Source, label: str) -> str:
    """Return what a sample's field, or its caption of that role, says; "" for nothing.

    Raises:
        DataError: it has no such field or role.
    """
    # A table of classes has no other text: its class column then is the caption column too.
    known = {caption.role: caption.text for caption in sample.captions} | dict(sample.fields)
    if label not in known:
        raise unknown(f"field of {source.name} (sample {sample.key!r}):", label, known, DataError)
    return known[label].strip()


class Labelled:
    """The images of a source that have a label, as vectors, chunk by chunk.

    Iterate once and to the end; only then are the attributes complete.

    Attributes:
        name: of the source.
        labels, keys, numbers: of every such image, in the order of the source.
        content: a digest of the bytes of each.
    """

    def __init__(self, encoder: Encoder, source: Source, label: str) -> None:
        self.name = source.name
        self.labels: list[str] = []
        self.keys: list[str] = []
        self.numbers: list[int] = []
        self.content: list[bytes] = []
        self._source, self._label = source, label
        self._images = Images(encoder, source, look=self._look)

    def __iter__(self) -> Iterator[tuple[Float32[np.ndarray, "k d"], list[str]]]:
        """Yield (vectors, their labels).

        Raises:
            DataError: no image can be read, none has a label, or a vector is not of unit length.
            NotFinite: a vector holds NaN or infinity.
        """
        for numbers, samples, vectors in self._images:
            found = [label_of(sample, self._source, self._label) for sample in samples]
            kept = [place for place, label in enumerate(found) if label]
            labels = [found[place] for place in kept]
            self.labels += labels
            self.keys += [samples[place].key for place in kept]
            self.numbers += [numbers[place] for place in kept]
            self.content += [_digest(samples[place].image) for place in kept]
            if kept:
                yield vectors[kept], labels
        if not self.labels:
            raise DataError(f"{self.name} has an empty {self._label!r} for every image.")

    def all(self) -> Float32[np.ndarray, "n d"]:
        """Return all vectors at once."""
        return np.concatenate([vectors for vectors, _ in self])

    @property
    def digest(self) -> str:
        """32 hex digits for the samples encoded so far, those without a label among them."""
        return self._images.digest

    def clusters(self) -> Int64[np.ndarray, " n"] | None:
        """Return a number for each image, equal where the bytes are; None where all differ."""
        place: dict[bytes, int] = {}
        found = [place.setdefault(digest, len(place)) for digest in self.content]
        return None if len(place) == len(found) else np.array(found, dtype=np.int64)

    def counts(self) -> dict[str, int]:
        """Return how many images were left out, where any were."""
        without = len(self._images.numbers) - len(self.labels)
        return ({"images without a label": without} if without else {}) | self._images.counts()

    def notes(self) -> tuple[str, ...]:
        """Return a sentence that names the first unreadable images, where any were."""
        return self._images.notes()

    def _look(self, samples: Sequence[Sample]) -> None:
        """Refuse a missing field before the images of a chunk are encoded."""
        for sample in samples:
            label_of(sample, self._source, self._label)


def _digest(image: bytes) -> bytes:
    return hashlib.blake2b(image, digest_size=16).digest()


def numbered(labels: Sequence[str]) -> tuple[list[str], Int64[np.ndarray, " n"]]:
    """Return the distinct labels in order, and the number of each label among them."""
    classes = sorted(set(labels))
    place = {label: number for number, label in enumerate(classes)}
    return classes, np.array([place[label] for label in labels], dtype=np.int64)


def places_among(
    labels: Sequence[str], classes: Sequence[str], data: str, train: str
) -> Int64[np.ndarray, " n"]:
    """Return the number of each label among the classes that were taught.

    Raises:
        DataError: a label that is none of them.
    """
    place = {label: number for number, label in enumerate(classes)}
    absent = sorted(set(labels) - place.keys())
    if absent:
        raise DataError(
            f"{len(absent)} classes of {data} have no image in {train}, the first is "
            f"{absent[0]!r}: what nobody taught can't be told; give more of train=, or less data."
        )
    return np.array([place[label] for label in labels], dtype=np.int64)


def parts_of(
    truth: Int64[np.ndarray, " n"], content: Sequence[bytes], count: int
) -> Int64[np.ndarray, " n"]:
    """Return which of `count` parts each image is in.

    The bytes of an image decide, whatever the order of the source, and equal bytes stay together.
    Each class is spread evenly, and so are all images.
    """
    of: dict[bytes, int] = {}
    for digest, label in zip(content, truth.tolist(), strict=True):
        of[digest] = min(label, of.get(digest, label))
    ordered = sorted(of, key=lambda digest: (of[digest], digest))
    part = {digest: at % count for at, digest in enumerate(ordered)}
    return np.array([part[digest] for digest in content], dtype=np.int64)


def require_several(truth: np.ndarray, part: np.ndarray, classes: Sequence[str], data: str) -> None:
    """Raise DataError for a class that lies in one part only: nothing would teach it there."""
    kinds = np.unique(np.stack([truth, part]), axis=1)[0]
    alone = np.flatnonzero(np.bincount(kinds, minlength=len(classes)) < 2)
    if len(alone):
        raise DataError(
            f"{len(alone)} classes of {data} have one image only, the first is "
            f"{classes[int(alone[0])]!r}, so no other image teaches them: give train=SOURCE."
        )


# --- figures ------------------------------------------------------------------------------------


def figures(
    spot: metrics.Places, truth: np.ndarray, classes: int, clusters: np.ndarray | None
) -> dict[str, Metric]:
    """Return the figures; pictures with the same bytes (`clusters`) count as one in intervals."""
    found = {
        f"top-{k}": metrics.share(metrics.recall_at_k(spot, k), clusters=clusters)
        for k in KS
        if k < classes or k == 1
    }
    weights = metrics.class_weights(truth)
    found["mean per class"] = metrics.share(metrics.recall_at_k(spot, 1), weights, clusters)
    return found


def surely_first(spot: metrics.Places) -> Bool[np.ndarray, " q"]:
    """Return whose right answer is the first one, and no other answer ties with it."""
    return (spot.ahead == 0) & (spot.tied == 1)


def example(
    key: str, index: int, scores: np.ndarray, truth: int, classes: Sequence[str]
) -> dict[str, Any]:
    """Return one image with its best classes, as plain JSON values."""
    top = [
        {"label": classes[c], "score": round(float(scores[c]), 4), "right": bool(c == truth)}
        for c in np.argsort(-scores, kind="stable")[:TOP]
    ]
    return {"key": key, "index": index, "label": classes[truth], "top": top}
