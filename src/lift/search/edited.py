"""Captions, what is to change in them, and the changed ones: what a combiner is trained on.

English only, by rule (`lift.text.negatives`): words of a class replaced, noun phrases replaced by
those of other captions, things left out or put in, another place or light.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lift.text import lexicon as lex
from lift.text.negatives import negatives
from lift.text.phrases import Chunk, Word, chunks, is_plural, tokenise
from lift.text.substitutes import singular


class Triplet(NamedTuple):
    """A caption, what is to change in it, and the caption after that.

    Attributes:
        caption, edit, changed: the three texts.
        kind: what the edit does: "colour", "size", "attribute", "number", "object", "relation",
            "action", "phrase", "setting", "without", "with".
    """

    caption: str
    edit: str
    changed: str
    kind: str


SETTINGS = (
    "at night",
    "in the snow",
    "in the rain",
    "at sunset",
    "on a beach",
    "in black and white",
    "on a sunny day",
    "in the fog",
    "in a forest",
    "in a city",
    "from above",
    "in a kitchen",
    "on a table",
    "on a white background",
    "on a black background",
)
_CLOSED = lex.DETERMINERS | lex.PREPOSITIONS | lex.CONJUNCTIONS | lex.AUXILIARIES
"""A text in other letters that has none of these words is not English."""

_LINKS = frozenset("with wearing holding and near beside carrying".split())
_TRAIT = (
    "but {new}",
    "make the {noun} {new}",
    "the {noun} should be {new}",
    "{new} instead of {old}",
    "a {new} {noun}",
    "in {new}",
)
_TRAITS = (*_TRAIT[:4], "{new} {noun}")  # of several things
_WORDINGS: dict[str, tuple[str, ...]] = {
    "object": (
        "make the {old} {a_new}",
        "{a_new} instead of the {old}",
        "with {a_new} instead of {a_old}",
        "replace the {old} with {a_new}",
        "but {a_new}",
    ),
    "number": ("{new} {noun}", "but with {new} {noun}", "{new} instead of {old}"),
    "relation": ("but {new} {rest}", "{new} {rest}", "{new} instead of {old}"),
    "action": ("but {new}", "{new} instead of {old}", "{new}"),
    "phrase": (
        "{new} instead of {old}",
        "with {new} instead of {old}",
        "replace {old} with {new}",
        "but {new}",
    ),
    "setting": ("{new}", "but {new}", "the same {new}", "make it {new}"),
    "without": ("without {old}", "no {noun}", "remove {old}", "but without the {noun}"),
    "with": ("{link} {new}", "but {link} {new}", "add {new}"),
}


def triplets(captions: Sequence[str], *, each: int = 2, seed: int = 0) -> list[Triplet]:
    """Return at most `each` triplets a caption, of different kinds; the same for the same seed.

    Raises:
        DataError: a caption that is not valid Unicode.
    """
    spare = _phrases_of(captions)
    found: list[Triplet] = []
    for caption in captions:
        caption = " ".join(caption.split()).rstrip(". ")
        salt = f"{seed}\0{caption}".encode()
        dice = random.Random(hashlib.blake2b(salt, digest_size=16).digest())
        made: dict[str, list[Triplet]] = {}
        for triplet in _all(caption, spare, seed, dice):
            made.setdefault(triplet.kind, []).append(triplet)
        kinds = sorted(made)
        for kind in dice.sample(kinds, min(each, len(kinds))):
            found.append(dice.choice(made[kind]))
    return found


def _all(caption: str, spare: Sequence[str], seed: int, dice: random.Random) -> Iterator[Triplet]:
    words = tokenise(caption)
    held = list(chunks(words))
    if not held or not (caption.isascii() or _CLOSED.intersection(word.lower for word in words)):
        return
    yield from _replaced(caption, words, held, seed, dice)
    yield from _rephrased(caption, words, held, spare, dice)
    yield from _placed(caption, dice)
    yield from _left_out(caption, words, held, dice)


def _replaced(
    caption: str, words: Sequence[Word], held: Sequence[Chunk], seed: int, dice: random.Random
) -> Iterator[Triplet]:
    """Yield a word of a class replaced."""
    for negative in negatives(caption, seed):
        if negative.kind != "replace" or negative.change.endswith("-> without"):
            continue  # what is left out has wordings of its own
        kind, _, change = negative.change.partition(": ")
        old, _, new = change.partition(" -> ")
        told = _noun_at(caption, words, held, old)
        if told is None:
            continue
        noun, rest = told
        if kind in _WORDINGS:
            wordings = _WORDINGS[kind]
        else:
            wordings = _TRAITS if is_plural(noun) else _TRAIT[: None if kind == "colour" else -1]
        edit = dice.choice(wordings).format(
            old=old,
            new=new,
            noun=noun,
            rest=rest,
            a_old=_with_article(old),
            a_new=_with_article(new),
        )
        yield Triplet(caption, _mended(edit), negative.text, kind)


def _noun_at(
    caption: str, words: Sequence[Word], held: Sequence[Chunk], old: str
) -> tuple[str, str] | None:
    """Return the noun of the phrase that words stand in, or are before, and that phrase."""
    first = old.split()[0]
    at = next((i for i, word in enumerate(words) if word.lower == first), None)
    own = None if at is None else next((chunk for chunk in held if chunk.last >= at), held[-1])
    if own is None:
        return None
    said = caption[words[own.first].start : words[own.last].end]
    return words[own.last].lower, said[0].lower() + said[1:]


def _rephrased(
    caption: str,
    words: Sequence[Word],
    held: Sequence[Chunk],
    spare: Sequence[str],
    dice: random.Random,
) -> Iterator[Triplet]:
    """Yield a noun phrase replaced by one of another caption."""
    named = {singular(word.lower) for word in words}
    chunk = dice.choice(held)
    start, end = words[chunk.first].start, words[chunk.last].end
    old = caption[start:end]
    for new in dice.sample(spare, min(8, len(spare))):
        if not named & {singular(word.lower) for word in tokenise(new) if word.lower not in _FILL}:
            shown = new[0].upper() + new[1:] if old[0].isupper() else new
            old = old[0].lower() + old[1:]
            edit = dice.choice(_WORDINGS["phrase"]).format(new=new, old=_definite(old))
            yield Triplet(caption, edit, caption[:start] + shown + caption[end:], "phrase")
            return


_FILL = lex.DETERMINERS | lex.NUMBERS | {"of"}


def _placed(caption: str, dice: random.Random) -> Iterator[Triplet]:
    """Yield the caption at another place or in another light."""
    new = dice.choice(SETTINGS)
    if new.split()[-1] not in caption.lower():
        edit = dice.choice(_WORDINGS["setting"]).format(new=new)
        yield Triplet(caption, edit, f"{caption} {new}", "setting")


def _left_out(
    caption: str, words: Sequence[Word], held: Sequence[Chunk], dice: random.Random
) -> Iterator[Triplet]:
    """Yield the caption without its last thing, and that one with the thing put in."""
    last = held[-1]
    link = words[last.first - 1].lower if last.first else ""
    if len(held) < 2 or link not in _LINKS or last.last != len(words) - 1:
        return
    short = caption[: words[last.first - 1].start].rstrip(" ,")
    thing = caption[words[last.first].start : words[last.last].end]
    noun = words[last.last].lower
    without = dice.choice(_WORDINGS["without"]).format(old=_definite(thing), noun=noun)
    yield Triplet(caption, without, short, "without")
    link = "with" if link == "and" else link
    edit = dice.choice(_WORDINGS["with"]).format(new=thing, link=link)
    yield Triplet(short, edit, caption, "with")


def _phrases_of(captions: Sequence[str]) -> list[str]:
    """Return the noun phrases of captions, each once."""
    found: dict[str, None] = {}
    for caption in captions:
        words = tokenise(caption)
        for chunk in chunks(words):
            said = caption[words[chunk.first].start : words[chunk.last].end]
            found.setdefault(said[0].lower() + said[1:])
    return list(found)


def _definite(phrase: str) -> str:
    first, _, rest = phrase.partition(" ")
    return f"the {rest}" if rest and first in lex.ARTICLES else phrase


def _with_article(noun: str) -> str:
    return noun if is_plural(noun) else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _mended(edit: str) -> str:
    """Return an edit with "an" where its article needs it."""
    words = edit.split(" ")
    for at in range(len(words) - 1):
        if words[at] == "a" and words[at + 1][:1] in tuple("aeiou"):
            words[at] = "an"
    return " ".join(words)
