"""What a procedural scene holds: things with their attributes and places, drawn from dice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

ChoiceT = TypeVar("ChoiceT")

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (240, 215, 40),
    "green": (45, 150, 60),
    "cyan": (50, 200, 215),
    "blue": (40, 80, 225),
    "purple": (135, 60, 175),
    "pink": (245, 145, 190),
    "brown": (125, 75, 40),
}
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted", "hatched")
BACKGROUNDS = ("plain", "fading", "noisy", "checkered")
GROUNDS = {
    "white": (246, 246, 246),
    "grey": (150, 150, 150),
    "black": (22, 22, 22),
    "beige": (226, 206, 172),
    "navy": (25, 35, 80),
    "mint": (190, 232, 206),
}
RELATIONS = ("left", "right", "above", "below")
_PAIRS = (((0, 0), (1, 0)), ((0, 0), (0, 1)), ((0, 0), (1, 1)), ((1, 0), (0, 1)))
_FOUR = ((0, 0), (1, 0), (0, 1), (1, 1))


class Dice:
    """Small whole numbers, drawn in blocks: single draws cost numpy ten times as much."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._pool: list[int] = []

    def below(self, end: int) -> int:
        """Return a number in [0, end)."""
        if not self._pool:
            self._pool = self._rng.integers(0, 1 << 31, size=96).tolist()
        return self._pool.pop() % end

    def choose(self, choices: Sequence[ChoiceT]) -> ChoiceT:
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def pick(self, choices: Sequence[ChoiceT], count: int) -> list[ChoiceT]:
        """Return `count` different choices in random order."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def chance(self, percent: int) -> bool:
        """Return True in `percent` of 100 cases."""
        return self.below(100) < percent


class Thing(NamedTuple):
    """One to four equal shapes that stand together; (column, row) is their place in a 2 x 2 grid.

    In one scene every thing has its own shape and its own colour, so either names it.
    """

    shape: str
    colour: str
    size: str
    texture: str
    number: int
    column: int
    row: int


class Scene(NamedTuple):
    """All that is true of an image.

    Attributes:
        things: one to four, four shapes at most in all.
        background: one of BACKGROUNDS.
        ground: colour of the background, one of GROUNDS.
    """

    things: tuple[Thing, ...]
    background: str
    ground: str

    def as_json(self) -> str:
        """Return the facts as one JSON object."""
        things = [thing._asdict() for thing in self.things]
        return json.dumps({**self._asdict(), "things": things})

    def holds(self, first: Thing, relation: str, second: Thing) -> bool:
        """Return whether `first` stands left of, right of, above or below `second`."""
        if relation == "left":
            return first.column < second.column
        if relation == "right":
            return first.column > second.column
        return first.row < second.row if relation == "above" else first.row > second.row


def draw_scene(dice: Dice) -> Scene:
    """Return a random scene."""
    number = (1, 2, 2, 2, 2, 3, 3, 4)[dice.below(8)]
    cells: Sequence[tuple[int, int]] = ((0, 0),)
    if number == 2:
        cells = dice.choose(_PAIRS)
    elif number > 2:
        cells = dice.pick(_FOUR, number)
    shapes, colours = dice.pick(SHAPES, number), dice.pick(tuple(COLOURS), number)
    spare = 4 - number
    things = []
    for shape, colour, (column, row) in zip(shapes, colours, cells, strict=True):
        count = 1 + (dice.below(spare + 1) if dice.chance(50) else 0)
        spare -= count - 1
        # Beside others there is no room for several large ones.
        size = "small" if count > 1 and number > 1 else dice.choose(SIZES)
        texture = dice.choose(TEXTURES) if dice.chance(60) else "plain"
        things.append(Thing(shape, colour, size, texture, count, column, row))
    return Scene(tuple(things), dice.choose(BACKGROUNDS), dice.choose(tuple(GROUNDS)))
