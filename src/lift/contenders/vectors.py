"""Stored vectors alone: images and texts that somebody embedded, and no model at run time.

    vectors:images=features,texts=captions
    vectors:images=[img.npy,texts=keys.txt],texts=[txt.npy,texts=captions.txt],data=pairs.csv

Each side is a folder that `lift embed` made, or files in a layout of the text encoder `vectors`.
An image is known by the content of its file. Files that name images by their keys need the data
whose keys these are. Rows are scaled to unit length, as everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lift import plugins
from lift.cache import manifest as records
from lift.cache.addresses import content_hash
from lift.cache.features import FeatureCache
from lift.cache.opened import OpenedCache
from lift.cache.place import place_of
from lift.cache.reader import EmbeddingCache
from lift.contenders._two_towers import digest
from lift.data.many import as_many
from lift.data.pictures import Pictures
from lift.data.source import open_source, parse_part
from lift.efficiency import Efficiency, measured
from lift.errors import BrokenSample, ConfigError, MissingRows
from lift.terms import ImageLike, unit
from lift.text.encoder import ROOM as TEXTS
from lift.text.encoders import vectors as files
from lift.text.encoders._layout import file_hash

_NAME = "contenders/vectors"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        images: folder of a cache of image features, or files of vectors with their options, in
            brackets (`[img.npy,texts=keys.txt]`): with keys of `data`, or with hashes of content
            (`lift.cache.addresses.content_hash`, 32 hex digits) in place of texts.
        texts: folder of a cache of captions, or files of vectors with their options.
        data: pairs whose keys name the vectors of images.
        name: for tables.
        saw: benchmarks whose captions were seen by what made them.
    """

    images: str
    texts: str
    data: str = ""
    name: str = "vectors"
    saw: tuple[str, ...] = ()


def build(config: Config, device: torch.device) -> StoredVectors:
    """Open both sides.

    Raises:
        CacheError, ConfigError, DataError: they can't be read, or are not as wide as each other.
    """
    del device  # nothing computes
    images = _images(config)
    texts = _Cached(EmbeddingCache.open(config.texts)) if _is_cache(config.texts) else None
    texts = texts or _Files(_opened(config.texts, {}))
    if images.dimensions != texts.dimensions:
        raise ConfigError(
            f"{_NAME}: the vectors of images in {config.images} have {images.dimensions} values, "
            f"those of texts in {config.texts} have {texts.dimensions}; both have to be of one "
            "space (features of a tower need its head: judge the model and give --cache)."
        )
    return StoredVectors(config, images, texts)


@runtime_checkable
class _Rows(Protocol):
    """Vectors of one side by what they are known by: a hash of content, or a text."""

    dimensions: int
    identity: str

    def known(self, names: Sequence[str]) -> Bool[np.ndarray, " n"]: ...

    def take(self, names: Sequence[str]) -> Float32[np.ndarray, "n d"]: ...


class StoredVectors:
    """An `Encoder` that computes nothing.

    Attributes:
        name, saw: for tables; benchmarks whose captions were seen.
        identity: a digest of the stored rows.
        space: the text space, where texts come from a cache of ours.
    """

    def __init__(self, config: Config, images: _Rows, texts: _Rows) -> None:
        """Use `build` instead."""
        self.name, self.saw = config.name, config.saw
        self._config, self._images, self._texts = config, images, texts
        self.identity = digest(images.identity, texts.identity)
        if isinstance(texts, _Cached):
            self.space = texts.cache.space

    def encode_images(self, images: ImageLike | Iterable[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return the unit-length row of each image, given as bytes of its file or as a path.

        Raises:
            MissingRows: images without a vector: how many, and the first.
            DataError: an image that is no file, or can't be read.
        """
        hashes = [content_hash(_content(image)).hex() for image in as_many(images)]
        return self._rows(self._images, hashes, "images", self._config.images)

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return the unit-length row of each text.

        Raises:
            MissingRows: texts without a vector: how many, and the first.
        """
        several = [texts] if isinstance(texts, str) else list(texts)
        return self._rows(self._texts, several, "texts", self._config.texts)

    def _rows(
        self, side: _Rows, names: Sequence[str], what: str, where: str
    ) -> Float32[np.ndarray, "n d"]:
        if not names:
            return np.zeros((0, side.dimensions), np.float32)
        lacking = np.flatnonzero(~side.known(names))
        if len(lacking):
            named = "the first has the content hash" if what == "images" else "the first is"
            raise MissingRows(
                f"{len(lacking):,} of {len(names):,} {what} have no vector in {where}, {named} "
                f"{names[int(lacking[0])]!r}: embed them, too, or judge on data that was embedded."
            )
        return unit(torch.from_numpy(side.take(names))).numpy()

    def efficiency(self, *, texts: bool = True, batches: int = 5) -> Efficiency:
        """Return what is known: the bytes of a vector. Nothing is computed here."""
        del texts, batches
        return measured(
            dimensions=self._images.dimensions,
            device=torch.device("cpu"),
            precision="float32",
            notes=["The vectors were computed elsewhere: what that cost is not known here."],
        )


class _Cached:
    """Rows of a cache; see `_Rows`."""

    def __init__(self, cache: OpenedCache) -> None:
        self.cache: Any = cache
        self.dimensions = cache.dimensions
        shards = [shard.sha256 for _, shard in cache.files()]
        self.identity = digest(self.cache.space.fingerprint, *shards)

    def _find(self, names: Sequence[str]) -> np.ndarray:
        images = isinstance(self.cache, FeatureCache)
        return self.cache.find_images(names) if images else self.cache.find(names)

    def known(self, names: Sequence[str]) -> Bool[np.ndarray, " n"]:
        return self._find(names) >= 0

    def take(self, names: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        return self.cache.take(self._find(names))


class _Files:
    """Rows of files; see `_Rows`."""

    def __init__(self, encoder: files.VectorsEncoder, joined: str = "") -> None:
        self._encoder = encoder
        self.dimensions = encoder.space.dimensions
        self.identity = digest(joined, *(file_hash(file) for file in encoder.files))

    def known(self, names: Sequence[str]) -> Bool[np.ndarray, " n"]:
        return self._encoder.knows(names)

    def take(self, names: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        return self._encoder.encode(names).rows


def _images(config: Config) -> _Rows:
    if _is_cache(config.images):
        return _Cached(FeatureCache.open(config.images))
    encoder = _opened(config.images, {"join": "key"} if config.data else {})
    if not encoder.joins_keys:
        return _Files(encoder)
    if not config.data:
        raise ConfigError(
            f"{_NAME}: the vectors in {config.images} are named by keys of samples, which nobody "
            "sees who is given an image: give data=PAIRS, whose keys these are."
        )
    pairs = [(found.key, found.image) for found in Pictures([open_source(config.data)]).images()]
    encoder.join(pairs)
    return _Files(encoder, digest(*(f"{key}\0{image}" for key, image in pairs)))


def _opened(words: str, more: dict[str, str]) -> files.VectorsEncoder:
    """Return files of vectors as rows of any length, whatever made them."""
    part = parse_part(TEXTS, f"vectors:{words},model=somebody's")
    options = {"normalised": False, **part.options, **more}
    return files.build(plugins.configure(type(part)(TEXTS, "vectors", options)), trusted=True)


def _is_cache(words: str) -> bool:
    return os.path.isdir(words) and records.read_plan(place_of(words)) is not None


def _content(image: ImageLike) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise BrokenSample("unreadable file", f"{image} can't be read ({error}).") from error
    raise BrokenSample(
        "not a file",
        f"A {type(image).__name__} has no stored vector: images are known by the bytes of their "
        "files.",
    )
