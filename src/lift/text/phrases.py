"""Noun phrases of an English caption, found by rule: closed word classes and endings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lift.text import lexicon as lex

MAX_WORDS = 8
"""A run of more words is a list or a clause that the rules did not see through."""

_TOKEN = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+(?:[-'’][^\W_]+)*|[^\w\s]|_")


class Word(NamedTuple):
    """A word or mark of a text; `text[start:end]` is it, `lower` it in lower case."""

    lower: str
    start: int
    end: int

    @property
    def is_mark(self) -> bool:
        """Return whether this is punctuation (or an emoji) and no word."""
        return not self.lower[0].isalnum()


class Chunk(NamedTuple):
    """A noun phrase: words `first` to `last`, both included; the head is the last."""

    first: int
    last: int


def phrases(text: str) -> list[str]:
    """Return the noun phrases of a caption, each once, in order.

    A phrase is a determiner or number, adjectives, and nouns up to the head ("the old wooden
    table"); words of quantity take what they count along ("a group of people"), nothing else
    crosses a preposition. Words stand as in the caption, white space inside is one space, and an
    article that began the sentence is in lower case. What only says where or that it is a picture
    ("the middle", "a photo of") and the caption itself are left out.

    English only, and by rule: a noun that is also a verb ends or continues a phrase wrongly now
    and then, misspelt words count as nouns, and quotations, titles and lists of names come out
    badly. Judged by reading on 50 COCO captions that the rules were not made with: 132 of 138 were
    noun phrases of the caption, whole (precision 0.96); wrong were "a medical" of "a medical saw",
    "one wearing", "a walk" of "a walk in shower" and three like them. Recall was not measured.
    """
    words = tokenise(text)
    found: dict[str, str] = {}
    for first, last in chunks(words):
        parts = [text[word.start : word.end] for word in words[first : last + 1]]
        if parts[0].lower() in lex.DETERMINERS | lex.NUMBERS and parts[0].istitle():
            parts[0] = parts[0].lower()
        phrase = _joined(parts)
        found.setdefault(phrase.lower(), phrase)
    found.pop(" ".join(text.split()).rstrip(".!?").lower(), None)
    return list(found.values())


def tokenise(text: str) -> list[Word]:
    """Return words and marks in order, in linear time."""
    return [
        Word(match.group().lower().replace("’", "'"), match.start(), match.end())
        for match in _TOKEN.finditer(text)
    ]


def chunks(words: Sequence[Word]) -> Iterator[Chunk]:
    """Yield the noun phrases among the words of a text, in order and not overlapping."""
    first: int | None = None
    for i in range(len(words) + 1):
        if first is not None and (i == len(words) or not _continues(words, first, i)):
            yield from _accept(words, first, i - 1)
            first = None
        if i < len(words) and first is None and _starts(words, i):
            first = i


def is_noun_like(words: Sequence[Word], i: int) -> bool:
    """Return whether word `i` exists and belongs to no closed class and is no known verb."""
    if not 0 <= i < len(words) or words[i].is_mark:
        return False
    word = words[i].lower
    closed = (lex.PREPOSITIONS, lex.CONJUNCTIONS, lex.PRONOUNS, lex.AUXILIARIES, lex.ADVERBS)
    if word in lex.DETERMINERS or any(word in words_ for words_ in closed):
        return False
    return word not in lex.VERBS or word in lex.NOUN_LIKE_STEMS or word in lex.NOUN_LIKE_FORMS


def is_plural(word: str) -> bool:
    """Return whether a noun is plural, going by its ending."""
    if word in lex.IRREGULAR_PLURALS:
        return True
    return (
        word.endswith("s")
        and not word.endswith(("ss", "us", "is", "'s"))
        and (
            word not in lex.S_SINGULARS
            or word in ("skis", "clothes", "sunglasses", "kids", "ladies")
        )
    )


def is_adjective(word: str) -> bool:
    """Return whether a word is a known adjective, or has the ending of one."""
    ends = word.endswith(lex.ADJECTIVE_ENDINGS) and word not in lex.ADJECTIVE_LIKE_NOUNS
    return ends or word in lex.ADJECTIVES


def _starts(words: Sequence[Word], i: int) -> bool:
    """Return whether a phrase may begin at word `i`, none being open."""
    word, previous = words[i].lower, words[i - 1].lower if i else "."
    follows = i + 1 < len(words) and _opens(words, i + 1)
    if word in lex.DETERMINERS or _is_number(word):
        follower = _next(words, i)
        if word in ("another", "one", "each") and follower in lex.VERBS and follower[-1] == "s":
            return False  # "one stands"
        return follows and not (
            word in ("each", "one") and words[i + 1].lower in ("other", "another")
        )
    if word == "that":  # a determiner behind a preposition, else it begins a clause
        return follows and previous in lex.PREPOSITIONS
    if not is_noun_like(words, i) or word in lex.IRREGULAR_VERBS:
        return False
    if previous == "to" and _is_infinitive(words, i):
        return False
    after_link = (
        words[i - 1].is_mark if i else True
    ) or previous in lex.PREPOSITIONS | lex.CONJUNCTIONS | lex.AUXILIARIES | lex.VERBS
    after_link = after_link or previous.endswith(("ing", "ed"))
    if word in lex.VERBS and not (after_link and previous not in lex.PRONOUNS):
        return False
    if _is_ing(word):
        return _next(words, i) in lex.ING_COMPOUNDS.get(word, ())
    if _is_participle(word):
        return after_link and is_noun_like(words, i + 1)
    if _is_adverb(word):
        return False
    return after_link


def _opens(words: Sequence[Word], i: int) -> bool:
    """Return whether word `i` may come right after a determiner."""
    word = words[i].lower
    if words[i].is_mark:
        return False
    if _is_number(word) or word in lex.DETERMINERS | {"very", "other", "more", "back", "well"}:
        return True
    return is_noun_like(words, i) or word in lex.VERBS or _is_participle(word) or _is_adverb(word)


def _continues(words: Sequence[Word], first: int, i: int) -> bool:
    """Return whether word `i` belongs to the phrase that began at `first`."""
    word, previous = words[i].lower, words[i - 1].lower
    content = [w.lower for w in words[first:i] if not _is_filler(w.lower)]
    if i - first >= 2 * MAX_WORDS:
        return False
    if word == ",":
        return is_adjective(previous) and _modifies(words, i + 1)
    if word in ("and", "or"):
        return is_adjective(previous) and _modifies(words, i + 1)
    if words[i].is_mark:
        return False
    if word == "of":
        return previous in lex.QUANTITIES and i + 1 < len(words) and _opens(words, i + 1)
    if previous == "of":
        return _opens(words, i)
    if word in lex.DETERMINERS or (_is_number(word) and content):
        return not content and word not in lex.ARTICLES
    if not content:
        return _opens(words, i)
    if previous == "and" or previous == ",":
        return True
    return _is_next_noun(words, first, i, content)


def _is_next_noun(words: Sequence[Word], first: int, i: int, content: list[str]) -> bool:
    """Return whether word `i` goes on with a phrase that has adjectives or nouns already."""
    word, previous = words[i].lower, words[i - 1].lower
    modified = all(is_adjective(w) or _is_participle(w) or _is_adverb(w) for w in content)
    if _is_ing(word):
        return (
            modified and is_noun_like(words, i + 1) and not _is_clothing(words, first, i)
        ) or _next(words, i) in lex.ING_COMPOUNDS.get(word, ())
    if _is_participle(word):
        return (modified or word in lex.COMPOUND_PARTICIPLES) and is_noun_like(words, i + 1)
    if _is_adverb(word) or not is_noun_like(words, i):
        return False
    if modified:
        return True
    if word in lex.NOUN_LIKE_STEMS and is_plural(previous):
        return False
    if is_adjective(word) and not is_noun_like(words, i + 1):
        return word in ("light", "glass", "metal", "paper", "stone", "brick", "square", "front")
    looks_verbal = word.endswith("s") and is_plural(word)
    measured = any(word.lower == "of" for word in words[first:i])
    if looks_verbal and words[first].lower in (*lex.ARTICLES, "one") and not measured:
        return False  # "a man swings": the head of "a ..." is singular
    if word in lex.NOUN_LIKE_FORMS:
        follower = _next(words, i)
        return follower not in lex.DETERMINERS
    return True


def _is_clothing(words: Sequence[Word], first: int, i: int) -> bool:
    """Return whether words `first` to `i` are the bare colour that somebody wears ("in red")."""
    worn = first > 0 and words[first - 1].lower in ("in", "wearing", "all")
    return worn and all(word.lower in lex.COLOURS | {"and"} for word in words[first:i])


def _accept(words: Sequence[Word], first: int, last: int) -> Iterator[Chunk]:
    """Yield the run as a phrase if it has a head that shows something."""
    while last >= first and (words[last].is_mark or words[last].lower in ("and", "or", "of")):
        last -= 1
    content = [w.lower for w in words[first : last + 1] if not _is_filler(w.lower)]
    if content and last - first < MAX_WORDS and _shows(words, first, last, content):
        yield Chunk(first, last)


def _shows(words: Sequence[Word], first: int, last: int, content: list[str]) -> bool:
    """Return whether the run `first` to `last` has a noun at its end that stands for a thing."""
    head = content[-1]
    if _is_adverb(head) or not head[-1].isalpha():
        return False
    coloured = bool(lex.COLOURS.intersection(content[:-1]))  # "a white top" is clothing
    if head in lex.EMPTY_HEADS:
        return coloured or content[-2:-1] == ["parking"]
    if is_adjective(head) and head not in _NOUNS_TOO:
        return False
    if _next(words, last) == "of" and head in lex.DEPICTIONS | lex.QUANTITIES:
        return False
    if len(content) > 1:
        return True
    bare = not (words[first].lower in lex.DETERMINERS or _is_number(words[first].lower))
    predicate = bare and first > 0 and words[first - 1].lower in lex.AUXILIARIES
    if predicate and (first < 2 or words[first - 2].lower != "there"):
        return False  # "is asleep" against "there are people"
    return not _is_participle(head)


_NOUNS_TOO = frozenset(
    "orange light glass metal paper stone brick square adult male female concrete leather plastic "
    "silver gold high second cold".split()
)
"""Adjectives that may be a head."""


def _modifies(words: Sequence[Word], i: int) -> bool:
    """Return whether word `i` is an adjective with a noun or another adjective behind it."""
    return (
        i + 1 < len(words)
        and (is_adjective(words[i].lower) or _is_participle(words[i].lower))
        and (is_noun_like(words, i + 1) or words[i + 1].lower == "and")
    )


def _is_filler(word: str) -> bool:
    return (
        word in lex.DETERMINERS
        or _is_number(word)
        or word in ("very", "more", "and", "or", ",", "of", "well")
    )


def _is_number(word: str) -> bool:
    return word in lex.NUMBERS or (word.isdigit() and len(word) <= 3)


def _is_ing(word: str) -> bool:
    return word.endswith("ing") and len(word) > 4 and word not in lex.ING_NOUNS


def _is_participle(word: str) -> bool:
    regular = word.endswith("ed") and len(word) > 4 and word not in lex.ED_WORDS
    return regular or word in lex.PARTICIPLES


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and word not in lex.LY_WORDS


def _is_infinitive(words: Sequence[Word], i: int) -> bool:
    """Return whether the word behind "to" reads as a verb."""
    if i > 1 and words[i - 2].lower in ("next", "close", "front"):
        return False
    follower = _next(words, i)
    return words[i].lower in lex.VERBS or follower in lex.DETERMINERS | lex.PRONOUNS


def _next(words: Sequence[Word], i: int) -> str:
    return words[i + 1].lower if i + 1 < len(words) else ""


def _joined(parts: list[str]) -> str:
    """Return words with one space between them and none before a comma."""
    return " ".join(parts).replace(" ,", ",")
