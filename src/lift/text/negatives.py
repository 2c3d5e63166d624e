"""Wrong captions made from a right one by rule: parts swapped, one word replaced, words reordered.

English only. Every rule would rather make nothing than a paraphrase; what the rules can't see
(whether the image would bear out the wrong caption too) stays unchecked, and a part of the results
is implausible or ungrammatical ("a plate on a sandwich"), as with all negatives made by rule.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lift.text import lexicon as lex
from lift.text import substitutes as sub
from lift.text.encoder import clean
from lift.text.phrases import Chunk, Word, chunks, is_adjective, is_noun_like, is_plural, tokenise


class Negative(NamedTuple):
    """A text that does not describe what its caption describes.

    Attributes:
        kind: "swap", "replace" or "reorder".
        text: the wrong caption.
        change: what was done ("colour: red -> blue"), for tables and for reading.
    """

    kind: str
    text: str
    change: str


class Edit(NamedTuple):
    """A stretch of the text and what takes its place."""

    start: int
    end: int
    new: str


KINDS = ("swap", "replace", "reorder")

REORDER_WORDS = 4
KEPT_PAIRS = 0.34
"""Share of neighbouring words that may stay neighbours, so that no reordering is a paraphrase
("a cat and a dog" from "a dog and a cat" keeps three of four)."""


def negatives(text: str, seed: int) -> list[Negative]:
    """Return wrong captions made from `text`, the same ones for the same text and seed.

    - swap: two noun phrases on either side of an asymmetric link, and two attributes of one class
      (colours, sizes, ...) on different nouns; at most one of each.
    - replace: one colour, number, size, relation, action, attribute or object by another of its
      class; at most one of each. "a" and "an" follow the new word.
    - reorder: the words of every sentence of four words or more shuffled, marks left in place.

    None equals the caption. English only; time is linear in the length.

    Raises:
        DataError: not valid Unicode.
    """
    caption = clean(text)
    dice = random.Random(hashlib.blake2b(f"{seed}\0{caption}".encode(), digest_size=16).digest())
    words = tokenise(caption)
    found = list(chunks(words))
    made: dict[str, Negative] = {}
    makers: tuple[Callable[..., Iterator[Negative]], ...] = (_swaps, _replaced, _reordered)
    for make in makers:
        for negative in make(caption, words, found, dice):
            made.setdefault(" ".join(clean(negative.text).lower().split()), negative)
    made.pop(" ".join(caption.lower().split()), None)
    return list(made.values())


def _swaps(
    text: str, words: Sequence[Word], found: Sequence[Chunk], dice: random.Random
) -> Iterator[Negative]:
    """Yield two noun phrases exchanged, and two attributes exchanged, where that is wrong."""
    pairs = [(a, b) for a, b in pairwise(found) if _is_asymmetric(words, a, b)]
    strong = [(a, b) for a, b in pairs if words[b.first - 1].lower not in sub.WEAK]
    if pairs:
        a, b = dice.choice(strong or pairs)
        old = [text[words[c.first].start : words[c.last].end] for c in (a, b)]
        first, second = _recapitalised(text, words, a, old)
        yield _negative(
            "swap",
            text,
            [
                Edit(words[a.first].start, words[a.last].end, second),
                Edit(words[b.first].start, words[b.last].end, first),
            ],
            f"phrases: {old[0]} <-> {old[1]}",
        )
    places = _attribute_pairs(words, found)
    if places:
        i, j = dice.choice(places)
        one, two = words[i], words[j]
        edits = [*_put(text, words, i, two.lower), *_put(text, words, j, one.lower)]
        yield _negative("swap", text, edits, f"attributes: {one.lower} <-> {two.lower}")


def _is_asymmetric(words: Sequence[Word], a: Chunk, b: Chunk) -> bool:
    """Return whether exchanging two neighbouring phrases changes what is said."""
    link = [word.lower for word in words[a.last + 1 : b.first]]
    if not 1 <= len(link) <= 6 or any(word.is_mark for word in words[a.last + 1 : b.first]):
        return False
    if link[-1] == "of":
        if " ".join(link[-3:]) not in sub.FRAMES:
            return False
    elif link[-1] in lex.PREPOSITIONS and link[-1] not in sub.ASYMMETRIC:
        return False
    elif link[-1] not in lex.PREPOSITIONS and link[-1] not in lex.VERBS:
        return False
    if any(word in lex.CONJUNCTIONS | lex.PRONOUNS | sub.SYMMETRIC_VERBS for word in link):
        return False
    before = words[a.first - 1].lower if a.first else ""
    behind = words[b.last + 1].lower if b.last + 1 < len(words) else ""
    if {before, behind} & {"and", "or", "of", ",", "&"}:
        return False  # a part of a list or of a larger phrase would move without the rest
    heads = words[a.last].lower, words[b.last].lower
    if sub.singular(heads[0]) == sub.singular(heads[1]):
        return False
    if set(heads) & (sub.NO_PLACE | sub.SCENERY):
        return False
    finite = any(w in lex.AUXILIARIES or (w in lex.VERBS and not w.endswith("ing")) for w in link)
    return not finite or is_plural(heads[0]) == is_plural(heads[1])


def _recapitalised(
    text: str, words: Sequence[Word], first: Chunk, old: Sequence[str]
) -> tuple[str, str]:
    """Return both phrases as they stand after the exchange: capitals belong to the place."""
    a, b = old
    begins = first.first == 0 or text[words[first.first - 1].start] in ".!?"
    if begins and a[:1].isupper() and not a[1:2].isupper():
        return a[0].lower() + a[1:], b[0].upper() + b[1:]
    return a, b


def _attribute_pairs(words: Sequence[Word], found: Sequence[Chunk]) -> list[tuple[int, int]]:
    """Return positions of two attributes of one class in neighbouring phrases that have one each.

    Phrases with the same head are left out: "a red and a blue car" stays what it was.
    """
    places: list[tuple[int, int]] = []
    for members in sub.ATTRIBUTE_CLASSES:
        single: list[tuple[int, Chunk]] = []
        for chunk in found:
            inside = [i for i in range(chunk.first, chunk.last) if words[i].lower in members]
            if len(inside) == 1:
                single.append((inside[0], chunk))
        for (i, a), (j, b) in pairwise(single):
            heads = {sub.singular(words[chunk.last].lower) for chunk in (a, b)}
            if words[i].lower != words[j].lower and len(heads) == 2:
                places.append((i, j))
    return places


def _replaced(
    text: str, words: Sequence[Word], found: Sequence[Chunk], dice: random.Random
) -> Iterator[Negative]:
    """Yield the caption with one word replaced, at most once for each class."""
    present = {word.lower for word in words}
    named = {sub.singular(word) for word in present}
    named |= {sub.NEAR_OBJECTS.get(word, word) for word in named}
    modifiers = [i for chunk in found for i in range(chunk.first, chunk.last)]
    sources: dict[str, list[tuple[int, int, list[str]]]] = {
        "colour": [(i, i, _colours(words, i, present)) for i in modifiers],
        "number": [(c.first, c.first, _larger(words, c)) for c in found],
        "size": [(i, i, _opposite(sub.SIZES, words, i)) for i in modifiers],
        "relation": list(_relations(words, found)),
        "action": list(_actions(words, found)),
        "attribute": [(i, i, _opposite(sub.ATTRIBUTES, words, i)) for i in modifiers],
        "object": [(c.last, c.last, _objects(words, c, present, named)) for c in found],
    }
    for what, places in sources.items():
        usable = [place for place in places if place[2]]
        if not usable:
            continue
        first, last, choices = dice.choice(usable)
        new = dice.choice(choices)
        old = text[words[first].start : words[last].end]
        edits = _put(text, words, first, new, last)
        yield _negative("replace", text, edits, f"{what}: {old.lower()} -> {new}")


def _colours(words: Sequence[Word], i: int, present: set[str]) -> list[str]:
    """Return colours that are neither of the family of word `i` nor in the caption."""
    word = words[i].lower
    if word not in sub.FAMILIES or _is_in_greys(words, i):
        return []
    if sub.singular(words[i + 1].lower) in sub.COMPOUNDS.get(word, ()):
        return []
    near = {w for family in sub.COLOUR_FAMILIES if word in family.split() for w in family.split()}
    firsts = [family.split()[0] for family in sub.COLOUR_FAMILIES]
    return [colour for colour in firsts if colour not in near | present]


def _is_in_greys(words: Sequence[Word], i: int) -> bool:
    """Return whether word `i` is a part of "black and white" that says how a picture was made."""
    for first in (i - 2, i):
        three = [word.lower for word in words[max(first, 0) : first + 3]]
        if three in (["black", "and", "white"], ["white", "and", "black"]):
            behind = (sub.singular(word.lower) for word in words[first + 3 : first + 5])
            return any(word in sub.PICTURES for word in behind)
    return False


def _larger(words: Sequence[Word], chunk: Chunk) -> list[str]:
    """Return numbers above the one that a plural phrase begins with."""
    word = words[chunk.first].lower
    if chunk.first == chunk.last or not is_plural(words[chunk.last].lower):
        return []
    value = next((n for n, name in sub.NUMBERS.items() if word in (name, str(n))), None)
    if value is None or words[chunk.first + 1].lower in lex.NUMBERS:
        return []
    return [str(n) if word.isdigit() else name for n, name in sub.NUMBERS.items() if n > value]


def _opposite(table: dict[str, str], words: Sequence[Word], i: int) -> list[str]:
    """Return the opposite of adjective `i`, unless the caption has it next to the word already."""
    new = table.get(words[i].lower)
    behind = {word.lower for word in words[i + 1 : i + 3]}
    if new is None or new in behind or new == words[i - 1].lower or words[i + 1].lower == "bit":
        return []
    if sub.singular(words[i + 1].lower) in sub.COMPOUNDS.get(words[i].lower, ()):
        return []  # "hot dog", "wet suit": the name of a thing, not what it is like
    if new == "old" and behind & sub.YOUNG:
        return []
    return ["young"] if words[i].lower == "old" and behind & sub.ALIVE else [new]


def _actions(words: Sequence[Word], found: Sequence[Chunk]) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (place, place, other action) of what people and animals do."""
    for a, b in pairwise([*found, Chunk(len(words), len(words))]):
        if words[a.last].lower not in sub.ALIVE:
            continue
        for i in range(a.last + 1, min(b.first, a.last + 4)):
            if words[i].lower in sub.ACTIONS:
                yield i, i, [sub.ACTIONS[words[i].lower]]


def _relations(
    words: Sequence[Word], found: Sequence[Chunk]
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first, last, replacements) of the relations right before a noun phrase."""
    for chunk in found:
        for first in range(max(1, chunk.first - 3), chunk.first):
            name = " ".join(word.lower for word in words[first : chunk.first])
            if name in sub.RELATIONS:
                if " " in name or _is_placed(words, first, chunk):
                    yield first, chunk.first - 1, list(sub.RELATIONS[name])
                break


def _is_placed(words: Sequence[Word], i: int, chunk: Chunk) -> bool:
    """Return whether a preposition says where: not "on the phone", "turned on", "under repair"."""
    inside = {word.lower for word in words[chunk.first : chunk.last + 1]}
    before = words[i - 1].lower
    if inside & sub.NO_PLACE or before in lex.PREPOSITIONS | {"all", "together", "each", "filled"}:
        return False
    if words[i].lower == "with":
        return is_noun_like(words, i - 1)
    bare = chunk.first == chunk.last and not is_plural(words[chunk.last].lower)
    return not bare and (words[i].lower != "on" or not before.endswith(("ed", "put")))


def _objects(words: Sequence[Word], chunk: Chunk, present: set[str], named: set[str]) -> list[str]:
    """Return other things of the class of a phrase's head, in its number."""
    word = words[chunk.last].lower
    if word not in sub.OTHERS:
        return []
    if chunk.first < chunk.last:
        before = words[chunk.last - 1].lower
        if (is_noun_like(words, chunk.last - 1) and not is_adjective(before)) or before == "hot":
            return []  # of a compound ("cell phone", "hot dog") the head alone can't change
        if before == "of" and not is_plural(word):
            return []
    if word in ("man", "men", "woman", "women", "boy", "boys", "girl", "girls"):
        if present & sub.GENDERED:
            return []
    return [other for other in sub.OTHERS[word] if sub.singular(other) not in named]


def _reordered(
    text: str, words: Sequence[Word], found: Sequence[Chunk], dice: random.Random
) -> Iterator[Negative]:
    """Yield the caption with the words of each sentence shuffled and marks left in place."""
    del found  # takes the same arguments as the other makers
    edits: list[Edit] = []
    for sentence in _sentences(words):
        order = _shuffled(sentence, dice)
        for old, new in zip(sentence, order, strict=True):
            edits.append(Edit(old.start, old.end, text[new.start : new.end]))
    if any(text[edit.start : edit.end] != edit.new for edit in edits):
        yield _negative("reorder", text, edits, "word order")


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Yield the words between marks that end a sentence, four or more at a time."""
    sentence: list[Word] = []
    for word in words:
        if word.lower in (".", "!", "?"):
            if len(sentence) >= REORDER_WORDS:
                yield sentence
            sentence = []
        elif not word.is_mark:
            sentence.append(word)
    if len(sentence) >= REORDER_WORDS:
        yield sentence


def _shuffled(sentence: Sequence[Word], dice: random.Random) -> list[Word]:
    """Return the words in an order that keeps few neighbours, or as they were if none does."""
    before = {(a.lower, b.lower) for a, b in pairwise(sentence)}
    for _ in range(10):
        order = list(sentence)
        dice.shuffle(order)
        kept = sum((a.lower, b.lower) in before for a, b in pairwise(order))
        if kept <= KEPT_PAIRS * (len(order) - 1):
            return order
    return list(sentence)


def _put(text: str, words: Sequence[Word], i: int, new: str, last: int | None = None) -> list[Edit]:
    """Return the edits that put `new` for words `i` to `last`, with its article and capital."""
    last = i if last is None else last
    edits = [Edit(words[i].start, words[last].end, new)]
    old = text[words[i].start : words[last].end]
    if old[0].isupper():
        capital = new.upper() if len(old) > 1 and old.isupper() else new[0].upper() + new[1:]
        edits[0] = edits[0]._replace(new=capital)
    if i and words[i - 1].lower in lex.ARTICLES:
        article = words[i - 1]
        fitting = "an" if new[0] in "aeiou" else "a"
        shown = fitting.capitalize() if text[article.start].isupper() else fitting
        if article.lower != fitting:
            edits.append(Edit(article.start, article.end, shown))
    return edits


def _negative(kind: str, text: str, edits: Sequence[Edit], change: str) -> Negative:
    """Return the text with every edit made."""
    parts: list[str] = []
    at = 0
    for edit in sorted(edits):
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return Negative(kind, "".join([*parts, text[at:]]), re.sub(r"\s+", " ", change))
