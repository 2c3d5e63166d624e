"""What some columns need besides the samples: stored rows, encoders, task texts, languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from lift.cache.reader import EmbeddingCache
from lift.curation.visual import NOT_VISUAL, VISUAL
from lift.data.spilled import Spilled
from lift.errors import ConfigError, DataError
from lift.terms import Encoder, unit
from lift.text.encoder import TextEncoder, build_encoder
from lift.text.keys import KEY, KeyIndex, keys_of


@dataclass(frozen=True, kw_only=True)
class Means:
    """What columns are computed with; a column that lacks its means is refused.

    Attributes:
        role: of the caption that columns are about; "" for a sample's first.
        cache: stored rows of the captions.
        encoder: the live encoder of the cache's space; None builds it where it is needed.
        judge: an earlier model, for `alignment`.
        task: texts of the task, for `similarity`.
        clusters: how many, for `cluster`.
        seed: of the clusters.
    """

    role: str = ""
    cache: EmbeddingCache | None = None
    encoder: TextEncoder | None = None
    judge: Encoder | None = None
    task: tuple[str, ...] = ()
    clusters: int = 0
    seed: int = 0

    def require(self, column: str) -> None:
        """Raise ConfigError unless there is what a column needs."""
        lacks = {
            "cluster": (self.cache is None or not self.clusters, "a cache and clusters=N"),
            "visualness": (self.cache is None, "a cache (its rows are compared)"),
            "similarity": (self.cache is None or not self.task, "a cache and task texts"),
            "alignment": (self.judge is None, "a judge (a model that was trained earlier)"),
        }
        missing, what = lacks.get(column, (False, ""))
        if missing:
            raise ConfigError(f"The column {column} needs {what}.")


class Texts:
    """Text rows of unit length: of the cache where it has them, else of the encoder."""

    def __init__(self, cache: EmbeddingCache, encoder: TextEncoder | None) -> None:
        """Hold both to one space.

        Raises:
            SpaceMismatch: encoder and cache are not of one space.
        """
        if encoder is not None:
            cache.space.require_same(encoder.space, ours="the cache", theirs="the encoder")
        self._cache, self._encoder = cache, encoder

    def stored(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return the rows that the cache holds. Raises MissingRows where it lacks one."""
        return self.of_rows(self._cache.require(texts))

    def of_rows(self, rows: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return the rows of these numbers."""
        return unit(torch.from_numpy(self._cache.take(rows))).numpy()

    def any(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return rows of texts that the cache may lack.

        Raises:
            MissingPackage: the encoder is not installed.
        """
        rows = self._cache.find(texts)
        z = np.empty((len(texts), self._cache.dimensions), np.float32)
        z[rows >= 0] = self.of_rows(rows[rows >= 0])
        if (rows < 0).any():
            self._encoder = self._encoder or self._built()
            new = [text for text, row in zip(texts, rows, strict=True) if row < 0]
            live = self._encoder.encode(new, precision=self._cache.precision).rows
            z[rows < 0] = unit(torch.from_numpy(live)).numpy()
        return z

    def prototypes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the visual sentences and of the others."""
        return self.any(VISUAL), self.any(NOT_VISUAL)

    def _built(self) -> TextEncoder:
        encoder = build_encoder(self._cache.part)
        self._cache.space.require_same(encoder.space, ours="the cache", theirs="the encoder")
        return encoder


class Alignment:
    """The cosine between image and caption, by a judge.

    Captions come from the cache only where it has the judge's own space; else the judge encodes
    them.
    """

    def __init__(self, judge: Encoder, cache: EmbeddingCache | None) -> None:
        self._judge = judge
        space = getattr(judge, "space", None)
        one = cache is not None and space is not None and space == cache.space
        self._texts = Texts(cache, None) if one and cache is not None else None

    def of(self, images: Sequence[bytes], captions: Sequence[str | None]) -> list[float | None]:
        """Return the cosine of each pair, None where there is no caption or no picture."""
        told = [at for at, caption in enumerate(captions) if caption is not None]
        found: list[float | None] = [None] * len(images)
        seen = self._seen([images[at] for at in told])
        pairs = [(at, z, str(captions[at])) for at, z in zip(told, seen, strict=True)]
        pairs = [pair for pair in pairs if pair[1] is not None]
        if not pairs:
            return found
        texts = [text for _, _, text in pairs]
        z_texts = self._texts.stored(texts) if self._texts else self._judge.encode_texts(texts)
        for (at, z_image, _), z_text in zip(pairs, z_texts, strict=True):
            found[at] = float(np.dot(z_image, z_text))
        return found

    def _seen(self, images: list[bytes]) -> list[Any]:
        if not images:
            return []
        try:
            return list(self._judge.encode_images(images))
        except DataError:  # at least one is damaged: find out which
            if len(images) == 1:
                return [None]
        return [row for image in images for row in self._seen([image])]


class Languages:
    """The language of a caption as a cache's links say it; 18 bytes on disk a link that says one.

    Where links of one caption say several, the first counts.
    """

    def __init__(self, cache: EmbeddingCache) -> None:
        codes = Spilled(np.int16)
        place: dict[str, int] = {}

        def told() -> Any:
            for table in cache.links():
                names = table.column("language").combine_chunks().dictionary_decode().to_pylist()
                kept = np.array([bool(name) for name in names], bool)
                if not kept.any():
                    continue
                number = [place.setdefault(name, len(place)) for name in names if name]
                codes.append(np.array(number, np.int16))
                yield np.array(table.column("caption").to_pylist(), KEY)[kept]

        self._index = KeyIndex.on_disk(told())
        self._codes, self._names = codes.mapped(), list(place)

    def of(self, cleaned: Sequence[str]) -> list[str | None]:
        """Return the language of captions that `clean` has been through, None where unknown."""
        rows = self._index.find(keys_of(cleaned))
        return [self._names[self._codes[row]] if row >= 0 else None for row in rows.tolist()]
