"""Send a source through an encoder in bounded pieces, and check what comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from lift.errors import DataError, NotFinite
from lift.terms import Encoder, Sample, Source

CHUNK = 256
"""Images in memory at a time, still encoded as files."""

BLOCK = 1 << 22
"""Scores in memory at a time."""

NAMED = 3
"""Unreadable images that a note names; all are counted."""


class Images:
    """The images of a source as vectors, chunk by chunk, without those that can't be read.

    Iterate once and to the end; only then are the attributes complete.

    Args:
        encoder, source: what encodes what.
        look: called with the samples of each chunk before they are encoded; may raise.

    Attributes:
        numbers: of every image encoded so far, in the source.
        content: a number for each of them, equal where the bytes of the images are.
        unreadable: why each image that was left out was.
    """

    def __init__(
        self,
        encoder: Encoder,
        source: Source,
        look: Callable[[list[Sample]], None] | None = None,
    ) -> None:
        self._encoder, self._source, self._look = encoder, source, look
        self._contents: dict[bytes, int] = {}
        self._judged = hashlib.blake2b(digest_size=16)
        self.numbers: list[int] = []
        self.content: list[int] = []
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[tuple[list[int], list[Sample], np.ndarray]]:
        """Yield (numbers in the source, samples, their image vectors [k d]).

        Raises:
            DataError: the source is empty, no image can be read, or a vector is not of unit
                length.
            NotFinite: a vector holds NaN or infinity.
        """
        for read in self._pieces(CHUNK):
            kept, vectors = self._encode(read)
            if not kept:
                continue
            numbers, samples = [number for number, _ in kept], [sample for _, sample in kept]
            check(vectors, [sample.key for sample in samples], self._encoder, "image")
            for number, sample in zip(numbers, samples, strict=True):
                self._take(number, sample)
            yield numbers, samples, vectors

    @property
    def digest(self) -> str:
        """32 hex digits for the samples encoded so far: images, captions, labels and foils."""
        return self._judged.hexdigest()

    def clusters(self) -> np.ndarray | None:
        """Return a number for each image, equal where the bytes are; None where all differ."""
        distinct = len(self._contents) == len(self.content)
        return None if distinct else np.array(self.content, dtype=np.int64)

    def counts(self) -> dict[str, int]:
        """Return how many images were left out, where any were."""
        return {"unreadable images": len(self.unreadable)} if self.unreadable else {}

    def notes(self) -> tuple[str, ...]:
        """Return a sentence that names the first images left out, where any were."""
        if not self.unreadable:
            return ()
        named = " ".join(self.unreadable[:NAMED])
        more = len(self.unreadable) - NAMED
        rest = f" (and {more} more)" if more > 0 else ""
        return (f"{len(self.unreadable)} unreadable images left out: {named}{rest}",)

    def _take(self, number: int, sample: Sample) -> None:
        """Remember an image that was encoded."""
        digest = hashlib.blake2b(sample.image, digest_size=16).digest()
        self.numbers.append(number)
        self.content.append(self._contents.setdefault(digest, len(self._contents)))
        self._judged.update(digest + _words_of(sample))

    def _pieces(self, size: int) -> Iterator[list[tuple[int, Sample]]]:
        """Yield (number, sample) of what can be read, so many at a time, looked at.

        Raises:
            DataError: the source is empty, or in the end no image was taken.
        """
        total = len(self._source)
        if total == 0:
            raise DataError(f"{self._source.name} holds no images: there is nothing to evaluate.")
        for start in range(0, total, size):
            read = self._read(range(start, min(start + size, total)))
            if self._look is not None:
                self._look([sample for _, sample in read])
            yield read
        if not self.numbers:
            raise DataError(
                f"None of the {total} images of {self._source.name} can be read; the first: "
                f"{self.unreadable[0]}"
            )

    def _read(self, numbers: range) -> list[tuple[int, Sample]]:
        found = []
        for number in numbers:
            try:
                found.append((number, self._source.read(number)))
            except DataError as error:  # names the sample
                self.unreadable.append(str(error))
        return found

    def _encode(
        self, read: list[tuple[int, Sample]]
    ) -> tuple[list[tuple[int, Sample]], np.ndarray]:
        """Return what can be decoded of a chunk, and its vectors."""
        none = np.empty((0, 0), np.float32)
        if not read:
            return [], none
        try:
            return read, self._encoder.encode_images([sample.image for _, sample in read])
        except DataError:
            pass  # at least one image is damaged: find out which
        kept, rows = [], []
        for number, sample in read:
            try:
                rows.append(self._encoder.encode_images([sample.image]))
            except DataError as error:
                self.unreadable.append(f"sample {sample.key!r}: {error}")
            else:
                kept.append((number, sample))
        return kept, np.concatenate(rows) if rows else none


def _words_of(sample: Sample) -> bytes:
    """Return all that is said of a sample, and its mask, as bytes that differ where they do."""
    said = [
        sample.key,
        sample.captions,
        sample.foils,
        sample.regions,
        sorted(sample.fields.items()),
    ]
    return json.dumps(said, default=list).encode() + hashlib.blake2b(sample.mask).digest()


def encode_distinct(
    encoder: Encoder, texts: Sequence[str]
) -> tuple[Float32[np.ndarray, "u d"], Int64[np.ndarray, " n"]]:
    """Return the vectors of the distinct texts and, for each text, which of them is its own.

    Raises:
        DataError: a vector is not of unit length.
        NotFinite: a vector holds NaN or infinity.
    """
    place: dict[str, int] = {}
    index = np.array([place.setdefault(text, len(place)) for text in texts], dtype=np.int64)
    distinct = list(place)
    vectors = encoder.encode_texts(distinct)
    check(vectors, distinct, encoder, "text")
    return vectors, index


def cut_of(encoder: Encoder, texts: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return a count and a note of the texts that were cut; empty where none was, or nobody knows.

    Nobody knows of an encoder without `cut` (see `lift.terms.BESIDE`).
    """
    tell = getattr(encoder, "cut", None)
    told = None if tell is None else tell(list(texts))
    if told is None or not (cut := int(np.count_nonzero(told))):
        return {}, ()
    note = f"{cut} of {len(texts)} captions are longer than the text encoder takes and were cut"
    return {"captions cut": cut}, (note,)


def blocks(queries: int, items: int) -> Iterator[slice]:
    """Yield slices of the queries such that each block has about `BLOCK` scores."""
    step = max(1, BLOCK // max(items, 1))
    for start in range(0, queries, step):
        yield slice(start, min(start + step, queries))


def check(vectors: np.ndarray, names: Sequence[str], encoder: Encoder, what: str) -> None:
    """Refuse what would give wrong figures in silence: NaN ranks first, long rows rank high."""
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise DataError(
            f"{encoder.name} returned an array of shape {vectors.shape} for {len(names)} {what}s; "
            "an encoder returns one row for each."
        )
    lengths = np.linalg.norm(vectors, axis=1)
    broken = np.flatnonzero(~np.isfinite(lengths))
    if len(broken):
        raise NotFinite(
            f"{encoder.name} returned NaN or infinity for {len(broken)} {what}(s), the first is "
            f"{names[int(broken[0])]!r}: the model is damaged."
        )
    off = (np.abs(lengths - 1) > 1e-3) & (lengths > 0)  # a zero row is what `unit` makes of zeros
    if off.any():
        first = int(np.flatnonzero(off)[0])
        raise DataError(
            f"{encoder.name} returned {off.sum()} {what} row(s) not of unit length (the first has "
            f"{lengths[first]:.4g}, {names[first]!r}); scale rows with `lift.terms.unit`."
        )
