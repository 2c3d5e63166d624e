"""What questions are asked of: the vectors of a sample of pairs, and the encoder that made them."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64

from lift.diagnosis._pixels import Trial, trials
from lift.errors import ConfigError, DataError, MissingPackage, MissingRows, ServerError
from lift.evals._encode import Images, encode_distinct
from lift.evals._labelled import label_of
from lift.evals._pairs import collect, of_images
from lift.terms import Caption, Encoder, Sample, Source

LIMIT = 2_000
"""Images at most: enough for a share within 2%, and little memory for any width of vectors."""

CAPTIONS = 5
"""Captions of an image at most: as many as COCO and Flickr have."""

ENOUGH = 30
"""Pairs below which a figure over pairs is not given."""

ALIKE = 0.02
"""Image vectors spread by less than this share of the captions' spread are one vector.

Spread is 1 - mean cosine of two. Healthy models: 0.9 to 1.4; a model that stands in another domain
than it was trained in: 0.6; shifted four lengths away from the captions: 0.06.
"""

ONE_TEXT = 1e-3
"""Captions spread by less than this are one vector."""


@dataclass(frozen=True)
class Chosen:
    """One pair an image: no two of equal captions, no two of equal image files.

    Attributes:
        image: the image of each pair, as a place in `Measured.keys` [m].
        text: its caption, as a place in `Measured.texts` [m].
        z_image, z_text: their vectors [m d].
    """

    image: Int64[np.ndarray, " m"]
    text: Int64[np.ndarray, " m"]
    z_image: Float32[np.ndarray, "m d"]
    z_text: Float32[np.ndarray, "m d"]

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A sample of pairs as vectors.

    Attributes:
        encoder: what made them; it may be asked for more.
        source: where the pairs are.
        numbers: of the images in the source [n], in its order.
        keys: of the images.
        content: a number for each, equal where the files are [n].
        z_image: unit rows of the images.
        texts: distinct captions, cleaned.
        z_text: unit rows of those.
        caption: for each caption of an image, which text it is [c].
        owner: and whose it is, as a place in `keys` [c].
        labels: the class of each image, "" for none; None where nobody asked for classes.
        scale: what the model multiplies cosines with; None where it tells none.
        images: in the source that have a caption; `keys` are drawn of them by hash of key.
        notes: what has to be known of the sample, in sentences.
    """

    encoder: Encoder
    source: Source
    numbers: list[int]
    keys: list[str]
    content: Int64[np.ndarray, " n"]
    z_image: Float32[np.ndarray, "n d"]
    texts: list[str]
    z_text: Float32[np.ndarray, "u d"]
    caption: Int64[np.ndarray, " c"]
    owner: Int64[np.ndarray, " c"]
    labels: list[str] | None = None
    scale: float | None = None
    images: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def pairs(self) -> Chosen:
        """One pair an image, without those whose caption or file an earlier one has.

        Of an image's captions the first that is left is taken. Duplicates have a question of their
        own and move no other.
        """
        texts: set[int] = set()
        files: set[int] = set()
        done: set[int] = set()
        places: list[tuple[int, int]] = []
        for text, image in zip(self.caption.tolist(), self.owner.tolist(), strict=True):
            file = int(self.content[image])
            if image in done or file in files or text in texts:
                continue
            done.add(image)
            files.add(file)
            texts.add(text)
            places.append((image, text))
        image, text = np.array(sorted(places), np.int64).reshape(-1, 2).T
        return Chosen(image, text, self.z_image[image], self.z_text[text])

    @cached_property
    def image_cosine(self) -> float:
        """Mean cosine of two images of different pairs."""
        return mean_cosine(self.pairs.z_image)

    @cached_property
    def text_cosine(self) -> float:
        """Mean cosine of two captions of different pairs."""
        return mean_cosine(self.pairs.z_text)

    @property
    def flat_texts(self) -> bool:
        """Whether all captions have one vector, so that nothing can be found by them."""
        return len(self.texts) > 1 and 1 - mean_cosine(self.z_text) < ONE_TEXT

    @property
    def flat_images(self) -> bool:
        """Whether all images have about one vector."""
        if len(self.pairs) < 2 or self.flat_texts:
            return False
        return 1 - self.image_cosine < ALIKE * (1 - self.text_cosine)

    def unfit(self, *, texts_only: bool = False) -> str:
        """Return why figures over pairs can't be given, "" where they can."""
        if self.flat_texts:
            return "All captions have one vector; see uniformity."
        if not texts_only and self.flat_images:
            return "All images have about one vector; see images alike."
        if len(self.pairs) < ENOUGH:
            return (
                f"{len(self.pairs)} pairs of distinct images and captions are too few; "
                f"{ENOUGH} are needed."
            )
        return ""

    def rows_of(self, texts: Sequence[str]) -> Float32[np.ndarray, "k d"] | str:
        """Return unit rows of texts that may be new to the encoder, or why it has none.

        Raises:
            DataError, NotFinite: rows that are none.
        """
        try:
            rows, index = encode_distinct(self.encoder, texts)
        except (MissingRows, MissingPackage, ServerError, ConfigError) as error:
            return f"New texts have no vectors here: {error}"
        return rows[index]

    @cached_property
    def trials(self) -> list[Trial]:
        """How well images are told apart if their pixels are prepared in other ways."""
        pairs = self.pairs
        return trials(self.encoder, self._file, pairs.z_text)

    def _file(self, place: int) -> bytes:
        """Return the image file of a pair."""
        return self.source.read(self.numbers[int(self.pairs.image[place])]).image


def measure(
    encoder: Encoder,
    source: Source,
    *,
    label: str = "",
    limit: int = LIMIT,
) -> Measured:
    """Return the vectors of at most `limit` images and of at most five captions of each.

    Which images is decided by the hash of their keys alone, so it is the same for every model.

    Args:
        encoder: what is looked at.
        source: pairs.
        label: field or role that holds the class of an image; "" where there are no classes.
        limit: images at most.

    Raises:
        ConfigError: a limit below two.
        DataError: no pairs, no readable image, or no such label.
        NotFinite: a vector holds NaN or infinity.
    """
    if limit < 2:
        raise ConfigError(f"The images to look at must be 2 or more, not {limit}.")
    sample = _Sampled(source, limit)
    images = Images(encoder, sample)
    parts: list[np.ndarray] = []
    labels: list[str] = []
    for _, samples, z in images:
        parts.append(z)
        labels += [label_of(s, source, label) for s in samples] if label else []
    pairs, _ = of_images(collect(sample, None, False), images.numbers, sample)
    first = np.unique(pairs.same, return_index=True)[1]
    texts = [pairs.texts[int(at)] for at in first]
    z_text, _ = encode_distinct(encoder, texts)
    scale = getattr(encoder, "scale", None)
    return Measured(
        encoder=encoder,
        source=source,
        numbers=[sample.numbers[place] for place in images.numbers],
        keys=pairs.keys,
        content=np.array(images.content, np.int64),
        z_image=np.concatenate(parts),
        texts=texts,
        z_text=z_text,
        caption=pairs.same,
        owner=pairs.owner,
        labels=labels if label else None,
        scale=float(scale) if scale is not None and math.isfinite(scale) else None,
        images=sample.images,
        notes=(*sample.notes(), *images.notes()),
    )


def mean_cosine(z: np.ndarray) -> float:
    """Return the mean cosine of two different rows of unit length, exact; 1 for a single one."""
    count = len(z)
    if count < 2:
        return 1.0
    whole = z.astype(np.float64).sum(axis=0)
    return float((whole @ whole - count) / (count * (count - 1)))


class _Sampled:
    """The samples of a source with captions whose keys have the smallest hashes.

    Attributes:
        name, groups: as of any source.
        numbers: of the samples in the source, in its order.
        images: how many samples of the source have a caption.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self.name, self._source = source.name, source
        self.whereabouts = getattr(source, "whereabouts", "")
        self.images = self._cut = 0
        kept: list[tuple[int, int, str, tuple[Caption, ...]]] = []
        for number, (key, captions) in enumerate(source.texts()):
            if not captions:
                continue
            self.images += 1
            digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
            # A heap gives its smallest: the largest hash has to be the smallest number.
            entry = (-int.from_bytes(digest), number, key, captions)
            if len(kept) < limit:
                heapq.heappush(kept, entry)
            else:
                heapq.heappushpop(kept, entry)
        if not kept:
            raise DataError(f"{source.name} holds no captions: there is nothing to look at.")
        kept.sort(key=lambda entry: entry[1])
        self.numbers = [number for _, number, _, _ in kept]
        self._cut = sum(len(captions) > CAPTIONS for *_, captions in kept)
        self._texts = [(key, captions[:CAPTIONS]) for _, _, key, captions in kept]
        self.groups = (len(kept),)

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, index: int) -> Sample:
        return self._source.read(self.numbers[index])

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        return iter(self._texts)

    def notes(self) -> tuple[str, ...]:
        """Return what was left out, in sentences."""
        found = []
        if self.images > len(self):
            found.append(
                f"{len(self):,} of {self.images:,} images were looked at, drawn by the hash of "
                "their keys."
            )
        if self._cut:
            found.append(f"Of {self._cut:,} images only the first {CAPTIONS} captions were taken.")
        return tuple(found)
