"""Send a source through an encoder in bounded pieces, and check what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from lift.errors import DataError, NotFinite
from lift.terms import Encoder, Sample, Source

CHUNK = 256
"""Images in memory at a time, still encoded as files."""

BLOCK = 1 << 22
"""Scores in memory at a time."""


def encoded(encoder: Encoder, source: Source) -> Iterator[tuple[int, list[Sample], np.ndarray]]:
    """Yield (number of the first, samples, their image vectors [k d]) for a whole source.

    Raises:
        DataError: the source is empty, a sample can't be read, or a vector is not of unit length.
        NotFinite: a vector holds NaN or infinity.
    """
    if len(source) == 0:
        raise DataError(f"{source.name} holds no images: there is nothing to evaluate.")
    for start in range(0, len(source), CHUNK):
        samples = [source.read(i) for i in range(start, min(start + CHUNK, len(source)))]
        vectors = encoder.encode_images([sample.image for sample in samples])
        _check(vectors, [sample.key for sample in samples], encoder, "image")
        yield start, samples, vectors


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
    _check(vectors, distinct, encoder, "text")
    return vectors, index


def blocks(queries: int, items: int) -> Iterator[slice]:
    """Yield slices of the queries such that each block has about `BLOCK` scores."""
    step = max(1, BLOCK // max(items, 1))
    for start in range(0, queries, step):
        yield slice(start, min(start + step, queries))


def _check(vectors: np.ndarray, names: Sequence[str], encoder: Encoder, what: str) -> None:
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
