"""Questions about drawn scenes whose answers nobody guesses: each is equally often any of its kind.

Four kinds, as visual question answering has them: existence ("is there a red ring?"), attribute
("what colour is the circle?"), relation ("is the red circle left of the blue square?") and count
("how many circles are there?"). Facts are those that a scene was drawn from, so answers are right.
Shapes, colours and places of scenes are drawn alike, and of what is true of a scene the answer that
came up least so far is asked for: who does not see the image has `CHANCE`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.data.dice import generator
from lift.errors import DataError
from lift.terms import Sample

KINDS = ("existence", "attribute", "relation", "count")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
NUMBERS = ("one", "two", "three")
"""Answers to "how many"; four of a shape are never asked for, only a lone thing can be four."""

ANSWERS: Mapping[str, tuple[str, ...]] = {
    "existence": ("yes", "no"),
    "attribute": COLOURS,
    "relation": ("yes", "no"),
    "count": NUMBERS,
}
CHANCE: Mapping[str, float] = {kind: 1 / len(answers) for kind, answers in ANSWERS.items()}
"""What the best guess without an image is right in, by kind."""

_WORDS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_ASKED = 201
"""Purpose of the dice."""

_AHEAD = 2
"""How much oftener than the rarest an answer may have been asked for."""


@dataclass(frozen=True)
class Question:
    """A question about one scene, and the only right answer.

    Attributes:
        key: of the scene.
        kind: one of `KINDS`.
        text: in small letters, with a question mark.
        answer: one word of `ANSWERS[kind]`.
    """

    key: str
    kind: str
    text: str
    answer: str


def questions(samples: Iterable[Sample], seed: int = 0) -> Iterator[tuple[Sample, list[Question]]]:
    """Yield each scene with its questions, at most one of a kind, in random order.

    Not every scene has every kind: a relation needs two things, and how many there are is asked
    only as often as there are three of something.

    Args:
        samples: of `scenes:`, whose field "scene" holds the facts.
        seed: of what is asked about.

    Raises:
        DataError: a sample that is no drawn scene.
    """
    asked: dict[str, Counter[str]] = {
        kind: Counter(dict.fromkeys(ANSWERS[kind], 0)) for kind in KINDS
    }
    for number, sample in enumerate(samples):
        things = _things(sample)
        rng = generator(seed, _ASKED, item=number)
        found = []
        for kind in KINDS:
            one = _one(kind, _possible(kind, things, rng), asked[kind], rng)
            if one is not None:
                found.append(Question(sample.key, kind, *one))
        yield sample, [found[i] for i in rng.permutation(len(found))]


def _things(sample: Sample) -> list[Mapping[str, Any]]:
    try:
        things = json.loads(sample.fields["scene"])["things"]
        for thing in things:
            shape, colour = thing["shape"], thing["colour"]
            number, column, row = thing["number"], thing["column"], thing["row"]
            if shape not in SHAPES or colour not in COLOURS or number < 1 or column + row < 0:
                raise ValueError(f"{shape} {colour}")
        return things
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"Sample {sample.key!r} is no drawn scene (its facts are missing or of another kind): "
            "questions are made of scenes:count=... alone."
        ) from error


def _one(
    kind: str,
    possible: Sequence[tuple[str, str]],
    asked: Counter[str],
    rng: np.random.Generator,
) -> tuple[str, str] | None:
    """Return the question whose answer came up least so far; None where all came up too often."""
    if not possible:
        return None
    order = rng.permutation(len(possible))
    text, answer = min((possible[i] for i in order), key=lambda one: asked[one[1]])
    if kind == "count" and asked[answer] > min(asked.values()) + _AHEAD:
        return None
    asked[answer] += 1
    return text, answer


def _possible(
    kind: str, things: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Return (question, answer) of what can be asked; each answer that a scene allows is there."""
    if kind == "attribute":
        return [(_colour_of(thing), thing["colour"]) for thing in things]
    if kind == "count":
        return [
            (f"how many {_plural(thing['shape'])} are there?", NUMBERS[thing["number"] - 1])
            for thing in things
            if thing["number"] <= len(NUMBERS)
        ]
    if kind == "existence":
        return _existence(things, rng)
    return _relation(things, rng)


def _existence(
    things: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """A thing that is there, and one that is not: its shape is nowhere, or its colour.

    In half of the cases only shapes are named.
    """
    thing, other = (things[int(rng.integers(len(things)))] for _ in range(2))
    shapes = [s for s in SHAPES if s not in {t["shape"] for t in things}]
    colours = [c for c in COLOURS if c not in {t["colour"] for t in things}]
    shape, colour = shapes[rng.integers(len(shapes))], colours[rng.integers(len(colours))]
    if rng.integers(2):
        pairs = (("", thing["shape"]), ("", shape))
    else:
        absent = (other["colour"], shape) if rng.integers(2) else (colour, other["shape"])
        pairs = ((thing["colour"], thing["shape"]), absent)
    return [
        (f"is there {_with_article(' '.join(pair).strip())}?", answer)
        for pair, answer in zip(pairs, ("yes", "no"), strict=True)
    ]


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _relation(
    things: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """A relation of two things that holds, and the opposite of one."""
    if len(things) < 2:
        return []
    found = []
    for answer in ("yes", "no"):
        first, second = (things[i] for i in rng.choice(len(things), 2, replace=False))
        true = [name for name in _WORDS if holds(first, name, second)]
        said = true[rng.integers(len(true))]
        said = said if answer == "yes" else _OPPOSITE[said]
        verb = "are" if first["number"] > 1 else "is"
        found.append((f"{verb} {_named(first)} {_WORDS[said]} {_named(second)}?", answer))
    return found


def holds(first: Mapping[str, Any], relation: str, second: Mapping[str, Any]) -> bool:
    """Return whether a thing stands left of, right of, above or below another."""
    axis = "column" if relation in ("left", "right") else "row"
    if relation in ("left", "above"):
        return first[axis] < second[axis]
    return first[axis] > second[axis]


def _colour_of(thing: Mapping[str, Any]) -> str:
    if thing["number"] > 1:
        return f"what colour are the {_plural(thing['shape'])}?"
    return f"what colour is the {thing['shape']}?"


def _named(thing: Mapping[str, Any]) -> str:
    noun = _plural(thing["shape"]) if thing["number"] > 1 else thing["shape"]
    return f"the {thing['colour']} {noun}"


def _plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")
