"""Encoders made of encoders: texts that a cache already has, work that several processes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lift.cache.addresses import content_hash
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.ranks import Ranks
from lift.terms import BESIDE, Encoder, ImageLike, unit

REMEMBERED = 200_000
"""Rows of live texts kept by `CachedTexts`: 0.3 GB at 384 numbers, 3 GB at 4096."""


class Wrapped:
    """An Encoder made of another: what it does not do itself, the other does.

    Attributes:
        name, saw: those of the encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.saw = encoder.name, encoder.saw
        self._encoder = encoder
        for name in BESIDE:  # as its own, for a protocol asks for no less
            if name == "identity":  # reads all weights: only when somebody asks
                continue
            if hasattr(encoder, name) and not hasattr(type(self), name):
                setattr(self, name, getattr(encoder, name))

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return what the encoder returns."""
        return self._encoder.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return what the encoder returns."""
        return self._encoder.encode_texts(texts)

    def __getattr__(self, name: str) -> Any:
        if name == "_encoder":  # not there yet: of an object that is being copied
            raise AttributeError(name)
        return getattr(self._encoder, name)


class Shared(Wrapped):
    """An Encoder whose work several processes share: each computes its part, all get all vectors.

    Every process has to make the same calls. Decoding images is part of the work.

    Attributes:
        name, saw: those of the encoder.
    """

    def __init__(self, encoder: Encoder, ranks: Ranks) -> None:
        super().__init__(encoder)
        self._ranks = ranks
        if hasattr(encoder, "features"):
            self.features = self._features

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image, as the encoder would alone."""
        return self._each(self._encoder.encode_images, images)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text, as the encoder would alone."""
        return self._each(self._encoder.encode_texts, texts)

    def _features(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n width"]:
        return self._each(self._encoder.features, images)  # type: ignore[attr-defined]

    def _each(
        self, encode: Callable[[Any], np.ndarray], items: Sequence[Any]
    ) -> Float32[np.ndarray, "n d"]:
        if self._ranks.size == 1:
            return encode(items)
        own = np.array_split(np.arange(len(items)), self._ranks.size)[self._ranks.worker.rank]
        with self._ranks.together():  # an image that can't be read is one that none can read
            rows = torch.from_numpy(encode([items[int(at)] for at in own]))
        return self._ranks.gather(rows).numpy()


class CachedTexts(Wrapped):
    """An Encoder whose texts come from a cache where it has them, else from the encoder itself.

    The caller has to know that both are one `TextSpace`. Rows of the encoder are remembered, so
    that an evaluation repeated during training pays for its prompts and foils once.

    Attributes:
        name, saw: those of the encoder.
        notes: what a coarse codec of the cache does to the queries, for every result.
        from_cache, live: texts taken from the cache, and put through the encoder, so far.
    """

    def __init__(self, encoder: Encoder, cache: EmbeddingCache) -> None:
        super().__init__(encoder)
        self.from_cache = 0
        self.live = 0
        self._cache = cache
        self._remembered: dict[str, np.ndarray] = {}
        self.notes: tuple[str, ...] = ()
        if cache.codec.coarse:
            found = cache.fidelity
            near = f", mean cosine {found.mean_cosine:.4f} to the true rows" if found else ""
            self.notes = (f"texts from a cache in codec {cache.codec.name}{near}",)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text; the encoder only gets those without a stored row."""
        rows = self._cache.find(texts)
        self.from_cache += int((rows >= 0).sum())
        new = {text: None for text, row in zip(texts, rows, strict=True) if row < 0}
        asked = [text for text in new if text not in self._remembered]
        if len(self._remembered) + len(asked) > REMEMBERED:
            self._remembered.clear()
            asked = list(new)
        if asked:
            self.live += len(asked)
            z_asked = self._encoder.encode_texts(asked)
            self._remembered.update(zip(asked, z_asked, strict=True))
        z = np.empty((len(texts), self._cache.dimensions), np.float32)
        stored = rows >= 0
        z[stored] = unit(torch.from_numpy(self._cache.take(rows[stored]))).numpy()
        for at in np.flatnonzero(~stored):
            z[at] = self._remembered[texts[int(at)]]
        return z

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"] | None:
        """Return which texts were cut before they were embedded, or would be; None if unknown."""
        if self._cache.part.name == "vectors":
            return None  # somebody else's vectors: nobody knows how they read the texts
        rows = self._cache.find(texts)
        stored = rows >= 0
        found = np.zeros(len(texts), np.bool_)
        found[stored] = self._cache.truncated(rows[stored])
        if not stored.all():
            tell = getattr(self._encoder, "cut", None)
            told = None
            if tell is not None:
                told = tell([texts[int(at)] for at in np.flatnonzero(~stored)])
            if told is None:
                return None
            found[~stored] = told
        return found


class CachedImages(Wrapped):
    """An Encoder whose images' features come from a cache where it has them: no pixel is decoded.

    The caller has to know that the encoder's tower is the one that made them. Images are known by
    the content of their files, so only those given as bytes are looked up.

    Attributes:
        name, saw: those of the encoder.
        from_cache, live: images taken from the cache, and put through the tower, so far.
    """

    def __init__(self, encoder: Encoder, features: FeatureCache) -> None:
        super().__init__(encoder)
        self.from_cache = 0
        self.live = 0
        self._features = features

    def features(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n width"]:
        """Return what the tower makes of each image, raw."""
        return self._each(images, lambda h: h, getattr(self._encoder, "features"))  # noqa: B009

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image."""
        finish = getattr(self._encoder, "encode_features", None)
        return self._each(images, finish, self._encoder.encode_images)

    def _each(
        self,
        images: Sequence[ImageLike],
        finish: Callable[[np.ndarray], np.ndarray] | None,
        live: Callable[[Sequence[ImageLike]], np.ndarray],
    ) -> np.ndarray:
        """Return rows made of stored features where there are some, else of pixels."""
        rows = np.full(len(images), -1, np.int64)
        if finish is not None:
            own = {at: image for at, image in enumerate(images) if isinstance(image, bytes)}
            hashes = [content_hash(content).hex() for content in own.values()]
            rows[list(own)] = self._features.find_images(hashes)
        stored = rows >= 0
        self.from_cache += int(stored.sum())
        self.live += int((~stored).sum())
        new = [image for image, known in zip(images, stored, strict=True) if not known]
        if len(new) == len(images) or finish is None:
            return live(images)
        known = finish(self._features.take(rows[stored]))
        z = np.empty((len(images), known.shape[1]), np.float32)
        z[stored] = known
        if new:
            z[~stored] = live(new)
        return z
