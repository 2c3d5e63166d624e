"""Captions with their vectors in two text spaces, as pairs: from two caches, or encoded live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lift import plugins
from lift.cache.probes import Probes
from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.data.remote import is_url
from lift.data.source import Captions, open_source, parse_part
from lift.data.stored_pairs import PairBlock
from lift.errors import DataError
from lift.ranks import ALONE, Ranks
from lift.terms import unit
from lift.text.encoder import ROOM, build_encoder, clean
from lift.text.keys import KeySet, keys_of
from lift.text.space import TextSpace

_CHUNK = 1_024
_BLOCK = 4_096

Encode = Callable[[Sequence[str]], np.ndarray]
"""From texts to rows [n d]."""


@dataclass(frozen=True)
class Texts:
    """A text space in hand: stored rows, or an encoder that makes them.

    Attributes:
        name: what to call it in messages.
        space: what its rows mean.
        part: the encoder that makes them; None where a model does so itself.
        saw: benchmarks whose captions that encoder was trained on.
        cache: where rows are stored; None where they are made.
        encode: makes rows; None where they are stored.
        probes: texts whose rows stand for the space.
    """

    name: str
    space: TextSpace
    part: Part | None
    saw: tuple[str, ...] = ()
    cache: EmbeddingCache | None = None
    encode: Encode | None = None
    probes: Probes | None = None

    def rows(
        self, texts: Sequence[str]
    ) -> tuple[Float32[np.ndarray, "n d"], Bool[np.ndarray, " n"]]:
        """Return a row of unit length for each text, and which texts have one (others get 0)."""
        found = np.ones(len(texts), np.bool_)
        if self.cache is None:
            assert self.encode is not None, "stored or made"
            return _unit(self.encode(texts)), found
        places = self.cache.find(texts)
        found = places >= 0
        rows = np.zeros((len(texts), self.space.dimensions), np.float32)
        rows[found] = _unit(self.cache.take(places[found]))
        return rows, found


def open_texts(words: str, device: str = "auto") -> Texts:
    """Return the text space of a cache's folder, or of an encoder in words (`minilm`).

    Raises:
        CacheError: a folder that holds no finished cache.
        ConfigError: neither a folder nor an encoder.
        MissingPackage: the encoder's packages or weights are not installed.
    """
    known = words.partition(":")[0] in plugins.names(ROOM)
    if is_url(words) or Path(words).exists() or ("/" in words and not known):
        return texts_of(EmbeddingCache.open(words))
    encoder = build_encoder(parse_part(ROOM, words), device, trusted=True)

    def encode(texts: Sequence[str]) -> np.ndarray:
        return encoder.encode(texts).rows

    texts = encoder.probes
    probes = Probes(texts, encode(texts)) if texts else None
    return Texts(words, encoder.space, encoder.part, encoder.saw, encode=encode, probes=probes)


def texts_of(cache: EmbeddingCache) -> Texts:
    """Return the text space of a cache."""
    return Texts(
        f"the cache {cache.folder}",
        cache.space,
        cache.part,
        cache.saw,
        cache=cache,
        probes=cache.probes(),
    )


class TextPairs:
    """Every caption that has a row on both sides, once.

    Attributes:
        old, new: the spaces; pairs are (h in old, t in new).
        missing: captions that are in no pair, by reason.
    """

    def __init__(self, old: Texts, new: Texts, data: Sequence[str] = ()) -> None:
        """Keep what to read.

        Args:
            old, new: the spaces.
            data: where captions are. Two caches need none: then those that both hold are taken.

        Raises:
            DataError: an encoder is to be asked, and nobody says which captions.
        """
        self.old, self.new = old, new
        self.missing: Counter[str] = Counter()
        self._sources = [open_source(spec) for spec in data]
        if not data and (old.cache is None or new.cache is None):
            made = old if old.cache is None else new
            raise DataError(
                f"{made.name} has no stored rows, so captions are needed to compare two spaces on: "
                "give some with --data."
            )

    def __len__(self) -> int:
        """Return how many pairs there are at most."""
        if self._sources:
            return len(Captions(self._sources))
        assert self.old.cache is not None and self.new.cache is not None
        return min(len(self.old.cache), len(self.new.cache))

    def blocks(self, ranks: Ranks = ALONE) -> Iterator[PairBlock]:
        """Yield this process' share of the pairs."""
        if self._sources:
            yield from self._of_data(ranks)
        else:
            yield from self._of_caches(ranks)

    def _of_caches(self, ranks: Ranks) -> Iterator[PairBlock]:
        old, new = self.old.cache, self.new.cache
        assert old is not None and new is not None
        ends = np.linspace(0, len(new), ranks.size + 1).astype(np.int64)
        start, stop = ends[ranks.worker.rank : ranks.worker.rank + 2]
        at = 0
        for keys in new.keys():
            first, at = at, at + len(keys)
            for low in range(max(first, start), min(at, stop), _BLOCK):
                mine = keys[low - first : min(low + _BLOCK, at, stop) - first]
                rows = old.find_keys(mine)
                both = np.flatnonzero(rows >= 0)
                self.missing["in one cache only"] += len(mine) - len(both)
                if len(both):
                    h, t = _unit(old.take(rows[both])), _unit(new.take(low + both))
                    yield _block(h, t, mine[both], low + both)

    def _of_data(self, ranks: Ranks) -> Iterator[PairBlock]:
        seen, number = KeySet(), 0
        for turn, texts in enumerate(_chunks(Captions(self._sources))):
            texts = [clean(text) for text in texts]
            keys = keys_of(texts)
            new = np.flatnonzero(seen.add(keys))
            numbers, number = number + new, number + len(texts)
            if turn % ranks.size != ranks.worker.rank or not len(new):
                continue
            asked = [texts[int(place)] for place in new]
            h, here = self.old.rows(asked)
            t, there = self.new.rows(asked)
            both = here & there
            self.missing["without a row in a cache"] += int((~both).sum())
            if both.any():
                yield _block(h[both], t[both], keys[new][both], numbers[both])


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _block(h: np.ndarray, t: np.ndarray, keys: np.ndarray, numbers: np.ndarray) -> PairBlock:
    own = np.arange(len(h))
    short = np.frombuffer(keys.tobytes(), np.uint64)[::2].copy()
    return PairBlock(h, t, own, np.ones(len(h), np.float32), numbers.astype(np.int64), short)


def _unit(rows: np.ndarray) -> Float32[np.ndarray, "n d"]:
    return unit(torch.from_numpy(np.ascontiguousarray(rows, np.float32))).numpy()
