"""Sentences about a scene: true captions, short and long, and foils that are false in one way."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

from lift.data.formats._scene_facts import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Dice,
    Scene,
    Thing,
)
from lift.terms import Caption, Foil

KINDS = (
    "add_object",
    "add_attribute",
    "replace_object",
    "replace_attribute",
    "replace_relation",
    "swap_object",
    "swap_attribute",
)
NEEDS_TWO = ("replace_relation", "swap_object", "swap_attribute")
"""Kinds that only a scene of two things or more can have."""

_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
_RELATION_WORDS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "higher than", "over"),
    "below": ("below", "lower than", "under"),
}
_SHORT_FRAMES = ("{}", "{}", "{}", "a picture of {}", "a drawing of {}", "an image with {}")
_LONG_STARTS = ("The image shows {}", "There is a scene with {}", "This picture contains {}")
_GROUND_FRAMES = ("The background is {} {}", "All of it is on a {} {} background")


class Phrase(NamedTuple):
    """What is said of a thing; None leaves an attribute unsaid."""

    shape: str
    number: int
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def words(self) -> str:
        """Return "a large striped red circle" or "two red circles"."""
        said = [word for word in (self.size, self.texture, self.colour) if word]
        noun = self.shape
        if self.number > 1:
            noun += "es" if noun.endswith("s") else "s"
            return " ".join([_NUMBERS[self.number], *said, noun])
        words = [*said, noun]
        return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


class Clause(NamedTuple):
    """Phrases in a row ("a and b"), or two of them with a relation between ("a left of b")."""

    phrases: tuple[Phrase, ...]
    relation: str | None = None
    wording: int = 0

    def words(self) -> str:
        """Return the clause as English."""
        said = [phrase.words() for phrase in self.phrases]
        if self.relation is not None:
            return f"{said[0]} {_RELATION_WORDS[self.relation][self.wording]} {said[1]}"
        if len(said) == 1:
            return said[0]
        return ", ".join(said[:-1]) + " and " + said[-1]


def describe(scene: Scene, dice: Dice, short: int, long: int) -> tuple[Caption, ...]:
    """Return true captions, at most `short` and `long` of each role, all different."""
    found: dict[str, str] = {}
    for role, wanted, make in (("short", short, _short), ("long", long, _long)):
        for _ in range(3 * wanted):
            if sum(r == role for r in found.values()) == wanted:
                break
            found.setdefault(make(scene, dice), role)
    return tuple(Caption(text, role) for text, role in found.items())


def names(scene: Scene) -> tuple[str, ...]:
    """Return what each thing is called: its colour and shape, which no other thing there has."""
    return tuple(Phrase(t.shape, t.number, t.colour).words() for t in scene.things)


def _short(scene: Scene, dice: Dice) -> str:
    if len(scene.things) > 1 and dice.chance(50):
        clause = _related(scene, dice, say=dice.choose((60, 90)))
    else:
        number = 1 + dice.below(min(2, len(scene.things)))
        things = dice.pick(scene.things, number)
        clause = Clause(tuple(_phrase(thing, dice, 90, 25) for thing in things))
    text = dice.choose(_SHORT_FRAMES).format(clause.words())
    if dice.chance(20):
        text += f" on a {scene.background} {scene.ground} background"
    return text


def _long(scene: Scene, dice: Dice) -> str:
    number = len(scene.things)
    everything = dice.pick(scene.things, number)
    clause = Clause(tuple(_phrase(thing, dice, 100, 100) for thing in everything))
    sentences = [dice.choose(_LONG_STARTS).format(clause.words())]
    for pair in dice.pick(list(combinations(everything, 2)), number - 1):
        sentences.append(_sentence(_related(scene, dice, 80, pair)))
    last = dice.chance(70)
    frame = dice.choose(_GROUND_FRAMES) if last else _GROUND_FRAMES[0]
    ground = frame.format(scene.background, scene.ground)
    sentences.insert(len(sentences) if last else 0, ground)
    return ". ".join(sentences) + "."


def _sentence(clause: Clause) -> str:
    verb = "are" if clause.phrases[0].number > 1 else "is"
    first, second = (phrase.words() for phrase in clause.phrases)
    assert clause.relation is not None
    said = f"{first} {verb} {_RELATION_WORDS[clause.relation][clause.wording]} {second}"
    return said[0].upper() + said[1:]


def _phrase(thing: Thing, dice: Dice, colour: int, rest: int) -> Phrase:
    """Say the colour in `colour` of 100 cases, size and texture each in `rest`."""
    plain = thing.texture == "plain"
    return Phrase(
        thing.shape,
        thing.number,
        thing.colour if dice.chance(colour) else None,
        thing.size if dice.chance(rest) else None,
        thing.texture if dice.chance(rest) and not plain else None,
    )


def _related(scene: Scene, dice: Dice, say: int, pair: tuple[Thing, Thing] | None = None) -> Clause:
    first, second = dice.pick(scene.things if pair is None else pair, 2)
    relation = dice.choose([r for r in RELATIONS if scene.holds(first, r, second)])
    phrases = (_phrase(first, dice, say, 10), _phrase(second, dice, say, 10))
    return Clause(phrases, relation, dice.below(3))


def foils(scene: Scene, dice: Dice) -> tuple[Foil, ...]:
    """Return one foil of every kind that the scene can have: a true caption, and it made false."""
    makers: dict[str, Callable[[Scene, Dice], tuple[Clause, Clause]]] = {
        "add_object": _add_object,
        "add_attribute": _add_attribute,
        "replace_object": _replace_object,
        "replace_attribute": _replace_attribute,
        "replace_relation": _replace_relation,
        "swap_object": _swap_object,
        "swap_attribute": _swap_attribute,
    }
    found = []
    for kind in KINDS:
        if kind in NEEDS_TWO and len(scene.things) < 2:
            continue
        right, wrong = makers[kind](scene, dice)
        frame = dice.choose(_SHORT_FRAMES)
        found.append(Foil(kind, frame.format(right.words()), frame.format(wrong.words())))
    return tuple(found)


def _some(scene: Scene, dice: Dice, colour: int = 90) -> Clause:
    """Return a true clause of one or two phrases that leaves sizes and textures unsaid."""
    if len(scene.things) > 1 and dice.chance(50):
        clause = _related(scene, dice, say=colour)
        bare = tuple(phrase._replace(size=None, texture=None) for phrase in clause.phrases)
        return clause._replace(phrases=bare)
    things = dice.pick(scene.things, 1 + dice.below(min(2, len(scene.things))))
    return Clause(tuple(_phrase(thing, dice, colour, 0) for thing in things))


def _thing(scene: Scene, phrase: Phrase) -> Thing:
    return next(thing for thing in scene.things if thing.shape == phrase.shape)


def _absent_shape(scene: Scene, dice: Dice) -> str:
    present = {thing.shape for thing in scene.things}
    return dice.choose([shape for shape in SHAPES if shape not in present])


def _with(clause: Clause, number: int, phrase: Phrase) -> Clause:
    phrases = list(clause.phrases)
    phrases[number] = phrase
    return clause._replace(phrases=tuple(phrases))


def _add_object(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    things = dice.pick(scene.things, 1 + dice.below(min(2, len(scene.things))))
    right = Clause(tuple(_phrase(thing, dice, 90, 20) for thing in things))
    extra = Phrase(_absent_shape(scene, dice), 1, dice.choose(tuple(COLOURS)))
    return right, right._replace(phrases=(*right.phrases, extra))


def _add_attribute(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    right = _some(scene, dice)
    number = dice.below(len(right.phrases))
    phrase = right.phrases[number]
    thing = _thing(scene, phrase)
    if dice.chance(50):
        wrong = phrase._replace(size=dice.choose([s for s in SIZES if s != thing.size]))
    else:
        textures = [t for t in TEXTURES if t not in (thing.texture, "plain")]
        wrong = phrase._replace(texture=dice.choose(textures))
    return right, _with(right, number, wrong)


def _replace_object(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    right = _some(scene, dice)
    number = dice.below(len(right.phrases))
    wrong = right.phrases[number]._replace(shape=_absent_shape(scene, dice))
    return right, _with(right, number, wrong)


def _replace_attribute(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    right = _some(scene, dice, colour=100)
    number = dice.below(len(right.phrases))
    phrase = right.phrases[number]
    thing = _thing(scene, phrase)
    what = dice.choose(("colour", "colour", "size", "texture"))
    if what == "size":
        right = _with(right, number, phrase._replace(size=thing.size))
        wrong = phrase._replace(size=dice.choose([s for s in SIZES if s != thing.size]))
    elif what == "texture" and thing.texture != "plain":
        right = _with(right, number, phrase._replace(texture=thing.texture))
        textures = [t for t in TEXTURES if t not in (thing.texture, "plain")]
        wrong = phrase._replace(texture=dice.choose(textures))
    else:
        wrong = phrase._replace(colour=dice.choose([c for c in COLOURS if c != thing.colour]))
    return right, _with(right, number, wrong)


def _replace_relation(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    right = _related(scene, dice, say=80)
    first, second = (_thing(scene, phrase) for phrase in right.phrases)
    false = [r for r in RELATIONS if not scene.holds(first, r, second)]
    return right, right._replace(relation=dice.choose(false))


def _swap_object(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    right = _related(scene, dice, say=80)
    return right, right._replace(phrases=right.phrases[::-1])


def _swap_attribute(scene: Scene, dice: Dice) -> tuple[Clause, Clause]:
    """Swap the colours of two things: no two in a scene share one."""
    if dice.chance(50):
        right = _related(scene, dice, say=100)
    else:
        pair = dice.pick(scene.things, 2)
        right = Clause(tuple(_phrase(thing, dice, 100, 15) for thing in pair))
    first, second = right.phrases
    swapped = (first._replace(colour=second.colour), second._replace(colour=first.colour))
    return right, right._replace(phrases=swapped)
