"""A few items with pictures, texts and facts, and an index of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lift.bundle import Bundle
from lift.search.index import Index
from lift.search.terms import Item
from made_model import made

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
THINGS = ("dog", "cat", "boat", "house", "tree", "road")


def pixels(seed: int, side: int = 48) -> np.ndarray:
    """Return a picture of noise, `side` x `side`."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def items(count: int = 36, *, start: int = 0, images: int = 1) -> list[Item]:
    """Return items, each a colour and a thing, with two texts, pictures and facts."""
    found = []
    for number in range(start, start + count):
        colour, thing = COLOURS[number % 6], THINGS[number // 6 % 6]
        found.append(
            Item(
                key=f"item {number}",
                texts={
                    "title": (f"{colour} {thing} {number}",),
                    "body": (f"a {thing} that is {colour}, number {number}",),
                },
                images=tuple(pixels(1_000 * at + number) for at in range(images)),
                facts={
                    "colour": colour,
                    "number": number,
                    "even": number % 2 == 0,
                    "price": number / 2,
                },
            )
        )
    return found


def model(**options: int) -> Bundle:
    """Return a small model into the space of hashed words."""
    return made(dimensions=32, **options)


def index(folder: Path, count: int = 36, **how: object) -> Index:
    """Return an index of some items, open for writing."""
    opened = Index.create(folder, model(), **how)  # type: ignore[arg-type]
    opened.add(items(count))
    return opened
