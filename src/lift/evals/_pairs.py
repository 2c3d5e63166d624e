"""The captions of a source, whose they are, and which of them are equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from lift.errors import DataError
from lift.terms import Source
from lift.text.encoder import clean


@dataclass(frozen=True)
class Pairs:
    """The captions of a source and whose they are.

    Attributes:
        numbers: of the images in the source.
        keys: of the images, in the order of the source.
        texts: of the captions, in the order of the source.
        owner: the image of each caption, as a place in `keys` [c].
        same: a number for each caption, equal where the cleaned text is [c].
    """

    numbers: list[int]
    keys: list[str]
    texts: list[str]
    owner: Int64[np.ndarray, " c"]
    same: Int64[np.ndarray, " c"]


def collect(source: Source, role: str | None, first_only: bool) -> Pairs:
    """Return the captions of a source, without reading an image.

    Args:
        source: where they are.
        role: only those that play this part; None takes all.
        first_only: only the first of each image (of those that play the part).

    Raises:
        DataError: there are none, and which roles there would be.
    """
    keys: list[str] = []
    texts: list[str] = []
    owner: list[int] = []
    roles: set[str] = set()
    for number, (key, captions) in enumerate(source.texts()):
        keys.append(key)
        roles.update(caption.role for caption in captions)
        taken = [c.text for c in captions if role in (None, c.role)]
        taken = taken[:1] if first_only else taken
        texts += taken
        owner += [number] * len(taken)
    if not texts:
        what = f"captions of role {role!r}" if role else "captions"
        there = f"; its roles are {', '.join(sorted(roles))}" if roles else ""
        raise DataError(f"{source.name} holds no {what} to search with{there}.")
    place: dict[str, int] = {}
    same = np.array([place.setdefault(clean(text), len(place)) for text in texts], dtype=np.int64)
    owners = np.array(owner, dtype=np.int64)
    return Pairs(list(range(len(keys))), keys, texts, owners, same)


def of_images(
    pairs: Pairs, numbers: list[int], source: Source
) -> tuple[Pairs, Int64[np.ndarray, " k"]]:
    """Return the pairs of some images only, and which captions (of all) those are.

    Raises:
        DataError: none of these images has a caption.
    """
    if numbers == pairs.numbers:
        return pairs, np.arange(len(pairs.texts))
    place = np.full(len(pairs.keys), -1, dtype=np.int64)
    place[numbers] = np.arange(len(numbers))
    kept = np.flatnonzero(place[pairs.owner] >= 0)
    if len(kept) == 0:
        raise DataError(f"No image of {source.name} that has a caption can be read.")
    _, same = np.unique(pairs.same[kept], return_inverse=True)
    keys, texts = [pairs.keys[n] for n in numbers], [pairs.texts[int(c)] for c in kept]
    return Pairs(list(numbers), keys, texts, place[pairs.owner[kept]], same.astype(np.int64)), kept


def groups(values: np.ndarray, by: np.ndarray, count: int) -> list[np.ndarray]:
    """Return for each g in 0..count-1 the distinct values whose `by` is g."""
    order = np.argsort(by, kind="stable")
    edges = np.searchsorted(by[order], np.arange(1, count))
    return [np.unique(part) for part in np.split(values[order], edges)]


def shared_captions(pairs: Pairs) -> int:
    """Return how many captions equal one of another image."""
    images_of = groups(pairs.owner, pairs.same, int(pairs.same.max()) + 1)
    images = np.array([len(group) for group in images_of])
    return int((images[pairs.same] > 1).sum())
