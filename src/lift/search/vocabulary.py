"""The words that pictures of an index are told in: which, their vectors, kept for the next one."""

from __future__ import annotations

import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from lift.bank import Bank
from lift.search.terms import Searchable
from lift.terms import Encoder
from lift.text import lexicon as lex
from lift.text import substitutes as sub
from lift.text.phrases import chunks, tokenise

_READ_ITEMS, _OWN_WORDS, _FEW_WORDS = 2_000, 400, 50
_AT_ONCE, _READ_CHARACTERS = 100, 400_000
"""Items that are held at a time, and characters of texts that are read: a second or two."""

_GROWN = 1.1
"""Words and middle are found anew once an index is so many times as large, or as small."""

_KEPT = 50_000
"""Vectors of words that are kept for an encoder: 77 MB of 384 numbers."""

_KEPT_BANKS = 4
_LONGEST_READ = 4_096
_LONGEST = 200
"""Characters of a text whose vector is kept."""


def vocabulary_of(searchable: Searchable) -> list[str]:
    """Return the commonest nouns of an index's own texts, and everyday words where it has few.

    The first 2,000 items are read, or 400,000 characters of their texts, and again when the index
    has grown by a tenth.
    """
    return known_of(searchable).vocabulary(searchable)


def everyday() -> list[str]:
    """Return some 150 everyday things, colours and traits, in English."""
    things = [word for line in sub.OBJECTS for word in line.split()]
    return list(dict.fromkeys([*things, *sorted(sub.PEOPLE), *sorted(sub.SCENERY), *_TRAITS]))


_TRAITS = tuple(sorted(lex.COLOURS - {"gray"})) + tuple(sorted(set(sub.ATTRIBUTES) - {"male"}))


def _heads(text: str) -> Iterator[str]:
    """Yield the nouns that a text's noun phrases end in, in the singular."""
    words = tokenise(text[:_LONGEST_READ])
    for chunk in chunks(words):
        yield sub.singular(words[chunk.last].lower)


@dataclass(eq=False)
class Known:
    """What was computed for one index: its words, their vectors, the middle of its images."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    words: tuple[int, list[str]] | None = None
    banks: OrderedDict[tuple[str, ...], Bank] = field(default_factory=OrderedDict)
    centre: tuple[int, Float32[np.ndarray, " d"] | None] | None = None

    def vocabulary(self, searchable: Searchable) -> list[str]:
        """Return the index's words; see `vocabulary_of`."""
        with self.lock:
            size = len(searchable)
            if self.words is None or _is_other(self.words[0], size):
                own = [word for word, _ in _counted(searchable).most_common(_OWN_WORDS)]
                if len(own) < _FEW_WORDS:
                    own = list(dict.fromkeys([*own, *everyday()]))
                self.words = (size, own)
            return list(self.words[1])

    def bank(self, encoder: Encoder, words: tuple[str, ...]) -> Bank:
        """Return a bank with a class for each word."""
        vectors_of(encoder, words)  # the slow part, before the lock
        with self.lock:
            if words not in self.banks:
                self.banks[words] = Bank.of_names(_Kept(encoder), words, ["{}"])
                while len(self.banks) > _KEPT_BANKS:
                    self.banks.popitem(last=False)
            self.banks.move_to_end(words)
            return self.banks[words]

    def middle(self, searchable: Searchable) -> Float32[np.ndarray, " d"] | None:
        """Return the mean of some image vectors of the index; None where it has none."""
        with self.lock:
            size = len(searchable)
            if self.centre is None or _is_other(self.centre[0], size):
                self.centre = (size, _mean_image(searchable))
            return self.centre[1]


def _is_other(before: int, now: int) -> bool:
    return max(before, now) > _GROWN * min(before, now)


def _counted(searchable: Searchable) -> Counter[str]:
    """Return in how many of the first items each noun is the head of a phrase."""
    counted: Counter[str] = Counter()
    left = _READ_CHARACTERS
    for start in range(0, _READ_ITEMS, _AT_ONCE):
        items = searchable.browse(start, _AT_ONCE)
        for item in items:
            heads: set[str] = set()
            for text in (text for texts in item.texts.values() for text in texts):
                if left <= 0:
                    break
                left -= min(len(text), _LONGEST_READ)
                heads.update(filter(None, _heads(text)))
            counted.update(heads)
        if left <= 0 or len(items) < _AT_ONCE:
            break
    return counted


def _mean_image(searchable: Searchable, items: int = 256) -> Float32[np.ndarray, " d"] | None:
    """Return the mean vector of the images of items spread over the index."""
    rows: list[np.ndarray] = []
    step = max(1, len(searchable) // items)
    starts: Iterable[int] = range(0, len(searchable), step) if step > 1 else (0,)
    for start in starts:
        for item in searchable.browse(start, 1 if step > 1 else items):
            rows += [row for kind, _, _, row in searchable.rows(item.key) if kind == "image"]
    return np.stack(rows).mean(axis=0, dtype=np.float64).astype(np.float32) if rows else None


class _Kept:
    """An encoder whose words' vectors are kept."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.saw = encoder.name, encoder.saw
        self.space = getattr(encoder, "space", None)
        self._encoder = encoder

    def encode_images(self, images: Sequence[object]) -> Float32[np.ndarray, "n d"]:
        return self._encoder.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        return vectors_of(self._encoder, texts)


_KNOWN: weakref.WeakKeyDictionary[Searchable, Known] = weakref.WeakKeyDictionary()
_ROWS: weakref.WeakKeyDictionary[Encoder, OrderedDict[str, np.ndarray]]
_ROWS = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def known_of(searchable: Searchable) -> Known:
    """Return what is kept for an index, as long as somebody holds that."""
    with _LOCK:
        return _KNOWN.setdefault(searchable, Known())


def vectors_of(encoder: Encoder, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
    """Return the texts' vectors; those asked for before are not computed again."""
    with _LOCK:
        kept = _ROWS.setdefault(encoder, OrderedDict())
        have = {text: kept[text] for text in texts if text in kept}
    new = [text for text in dict.fromkeys(texts) if text not in have]
    if new:
        have.update(zip(new, encoder.encode_texts(new), strict=True))
    with _LOCK:
        for text, row in have.items():
            if len(text) <= _LONGEST:
                kept[text] = row if row.base is None else row.copy()  # not all rows beside it
                kept.move_to_end(text)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    return np.stack([have[text] for text in texts])
