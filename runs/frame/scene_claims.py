"""What a caption of a drawn scene claims, one fact at a time, and whether the scene has it.

Captions are made by rules (`scenes`), so they can be read back: every phrase claims that a shape is
there and what it is like, every relation in which half of the image two of them stand. A caption is
true where all that it claims is among the facts of its scene.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from lift.data.formats._scene_facts import (
    BACKGROUNDS,
    COLOURS,
    GROUNDS,
    SHAPES,
    SIZES,
    TEXTURES,
)

SCENE = "scene"
"""What a claim about the background is about."""
PRESENT = "present"
LIKE: Mapping[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "size": SIZES,
    "texture": TEXTURES,
    "number": ("1", "2", "3", "4"),
    "column": ("0", "1"),
    "row": ("0", "1"),
}
"""What a thing that is there is like."""
BEHIND: Mapping[str, tuple[str, ...]] = {"background": BACKGROUNDS, "ground": tuple(GROUNDS)}

_NUMBERS = {"a": "1", "an": "1", "two": "2", "three": "3", "four": "4"}
_FRAMES = ("a picture of ", "a drawing of ", "an image with ")
_RELATIONS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "higher than", "over"),
    "below": ("below", "lower than", "under"),
}
_PLACES = {"left": ("column", "0", "1"), "right": ("column", "1", "0"),
           "above": ("row", "0", "1"), "below": ("row", "1", "0")}  # fmt: skip
"""Of the first and of the second thing: places form a grid of two columns and two rows."""
_BETWEEN = {words: name for name, wordings in _RELATIONS.items() for words in wordings}


class Claim(NamedTuple):
    """One fact.

    Attributes:
        of: a shape, or `SCENE`.
        what: `PRESENT`, or a name in `LIKE` or `BEHIND`.
        value: one of its values; "" of `PRESENT`.
    """

    of: str
    what: str
    value: str = ""


CLAIMS: tuple[Claim, ...] = (
    *(Claim(shape, PRESENT) for shape in SHAPES),
    *(Claim(shape, what, value) for what in LIKE for shape in SHAPES for value in LIKE[what]),
    *(Claim(SCENE, what, value) for what in BEHIND for value in BEHIND[what]),
)
"""All that can be claimed, in the order of `counted`."""
_PLACE = {claim: at for at, claim in enumerate(CLAIMS)}


def claims(text: str) -> frozenset[Claim]:
    """Return what a short caption, or a foil of one, claims.

    Raises:
        ValueError: it is no sentence of this grammar.
    """
    rest = text
    for frame in _FRAMES:
        rest = rest.removeprefix(frame)
    found: set[Claim] = set()
    if ground := _ground().search(rest):
        found |= {Claim(SCENE, name, ground[name]) for name in BEHIND}
        rest = rest[: ground.start()]
    phrases = list(_phrase().finditer(rest))
    ends = [0, *(end for phrase in phrases for end in phrase.span()), len(rest)]
    glue = [rest[a:b].strip() for a, b in zip(ends[::2], ends[1::2], strict=True)]
    if not phrases or glue[0] or glue[-1]:
        raise ValueError(f"No caption of a scene: {text!r}.")
    for phrase in phrases:
        shape = phrase["shape"]
        found |= {Claim(shape, PRESENT), Claim(shape, "number", _NUMBERS[phrase["number"]])}
        said = {what: phrase[what] for what in ("size", "texture", "colour")}
        found |= {Claim(shape, what, value) for what, value in said.items() if value}
    for words, first, second in zip(glue[1:-1], phrases, phrases[1:], strict=False):
        if words in (",", "and"):
            continue
        if words not in _BETWEEN:
            raise ValueError(f"No relation of a scene: {words!r} in {text!r}.")
        what, own, other = _PLACES[_BETWEEN[words]]
        found |= {Claim(first["shape"], what, own), Claim(second["shape"], what, other)}
    return frozenset(found)


def facts(scene: str) -> frozenset[Claim]:
    """Return all that is true of a scene, from the JSON of a sample's field "scene"."""
    told: dict[str, Any] = json.loads(scene)
    found = {Claim(SCENE, what, told[what]) for what in BEHIND}
    for thing in told["things"]:
        found.add(Claim(thing["shape"], PRESENT))
        found |= {Claim(thing["shape"], what, str(thing[what])) for what in LIKE}
    return frozenset(found)


def counted(found: Iterable[Collection[Claim]]) -> Float32[np.ndarray, "n c"]:
    """Return a row of zeros and ones for each collection, in the order of `CLAIMS`."""
    found = list(found)
    rows = np.zeros((len(found), len(CLAIMS)), np.float32)
    for row, own in zip(rows, found, strict=True):
        row[[_PLACE[claim] for claim in own]] = 1.0
    return rows


@cache
def _phrase() -> re.Pattern[str]:
    """Return the pattern of "two large striped red circles", whose words may be unsaid."""
    textures = [texture for texture in TEXTURES if texture != "plain"]
    said = {"size": SIZES, "texture": textures, "colour": COLOURS}
    words = "".join(rf"(?:(?P<{what}>{'|'.join(of)}) )?" for what, of in said.items())
    shapes = "|".join(SHAPES)
    return re.compile(rf"\b(?P<number>{'|'.join(_NUMBERS)}) {words}(?P<shape>{shapes})(?:e?s)?\b")


@cache
def _ground() -> re.Pattern[str]:
    kinds, grounds = "|".join(BACKGROUNDS), "|".join(GROUNDS)
    return re.compile(rf" on a (?P<background>{kinds}) (?P<ground>{grounds}) background$")
