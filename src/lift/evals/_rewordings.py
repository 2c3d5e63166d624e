"""Long captions made shorter or put in another order: pure functions of a caption and its key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from lift.text.sentences import first_words, sentences


@dataclass(frozen=True)
class Rewording:
    """One way of changing a caption.

    Attributes:
        name: marks the figures.
        of: from (caption, key of its image) to what becomes of it; None where it can't be done.
    """

    name: str
    of: Callable[[str, str], str | None]


def first(words: int) -> Rewording:
    """Return the change to the first `words` words; shorter captions stay as they are."""
    return Rewording(f"first {words} words", lambda text, key: first_words(text, words))


def without_first(text: str, key: str) -> str | None:
    """Return a caption without its first sentence; None where it has no other."""
    found = sentences(text)
    return " ".join(found[1:]) if len(found) > 1 else None


def only_first(text: str, key: str) -> str | None:
    """Return the first sentence of a caption; None where it has no other."""
    found = sentences(text)
    return found[0] if len(found) > 1 else None


def shuffled(text: str, key: str) -> str | None:
    """Return a caption's sentences in another order, which the key of its image decides."""
    found = sentences(text)
    if len(found) < 2:
        return None
    numbers = list(range(len(found)))
    order = sorted(numbers, key=lambda number: _lot(f"{key}\n{number}"))
    if order == numbers:
        order = numbers[1:] + numbers[:1]
    return " ".join(found[number] for number in order)


OF_SENTENCES = (
    Rewording("without the first sentence", without_first),
    Rewording("sentences shuffled", shuffled),
    Rewording("first sentence only", only_first),
)


def _lot(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
