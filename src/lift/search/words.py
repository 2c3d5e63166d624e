"""Pictures in words, of which none are made up: labels, near words of a vocabulary, quotations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from lift.errors import ConfigError
from lift.search.sparse import decomposed
from lift.search.terms import Hit, Kind, Searchable
from lift.search.vocabulary import known_of, vectors_of, vocabulary_of
from lift.text.phrases import phrases
from lift.text.sentences import count_words

MOST = 200
"""Labels, words or quotations of one answer; words of a vocabulary: `MOST_WORDS`."""

MOST_WORDS = 5_000
SAME = 0.92
"""Cosine above which two labels say one thing ("a dog", "the dog", "dogs")."""

SHORT = 5
"""A text of up to so many words may be a label as a whole."""

_NEAR_TEXTS, _NEAR_IMAGES, _OF_AN_ITEM = 60, 20, 8

_LONGEST_PHRASE = 200
"""Characters of a label; what is longer is no phrase."""

_OF_A_TEXT, _CANDIDATES = 60, 1_500
"""Phrases that are looked at, the nearest texts' first: a millisecond each in a small encoder."""


class Label(NamedTuple):
    """A phrase of the index's own texts that fits a picture.

    Attributes:
        text: as it stands in one of them.
        cosine: of the picture with the phrase's own vector.
        texts: how many texts of items near the picture have it.
        key: an item whose text it is.
    """

    text: str
    cosine: float
    texts: int
    key: str


class Word(NamedTuple):
    """A word of a vocabulary near a picture.

    Attributes:
        text: the word.
        cosine: with the picture.
        weight: in the sum of few words that comes nearest to the picture; None where nobody
            asked for that.
    """

    text: str
    cosine: float
    weight: float | None = None


class Quote(NamedTuple):
    """A stored text near a picture, as it stands: it was written for the item it belongs to.

    Attributes:
        text, key, field: what is quoted, of which item and field.
        cosine: of the picture with the text.
    """

    text: str
    key: str
    field: str
    cosine: float


def labels(
    searchable: Searchable,
    z: Float32[np.ndarray, " d"],
    top: int = 10,
    *,
    without: Collection[str] = (),
) -> list[Label]:
    """Return what a picture may be called, in words that somebody wrote, best first.

    There is no list of classes: candidates are the noun phrases of the texts of items whose texts
    or pictures are near the picture (and short texts as a whole). They
    are ordered by the cosine of their own vectors with the picture; of phrases that say the same
    the best stays. Noun phrases are found in English; of other languages short texts are labels.

    Args:
        searchable: an index with texts.
        z: of the picture, unit length.
        top: labels, at most.
        without: keys of items whose texts don't count, as the picture's own.

    Raises:
        ConfigError: a vector of another width, or a senseless count.
        MissingPackage: the text encoder is not installed.
    """
    z = _checked(searchable, z, top)
    found: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for key, text in _texts_near(searchable, z, without):
        if len(found) >= _CANDIDATES:
            break
        for phrase in dict.fromkeys(islice(_phrases_of(text), _OF_A_TEXT)):
            found.setdefault(phrase.lower(), []).append(key)
            shown.setdefault(phrase.lower(), phrase)
    names = list(found)
    if not names:
        return []
    vectors = vectors_of(searchable.encoder, [shown[name] for name in names])
    cosines = vectors @ z
    best: list[int] = []
    for at in np.argsort(-cosines, kind="stable").tolist():
        if len(best) == top:
            break
        if not best or float((vectors[best] @ vectors[at]).max()) < SAME:
            best.append(at)
    return [
        Label(shown[names[at]], float(cosines[at]), len(found[names[at]]), found[names[at]][0])
        for at in best
    ]


def explain(
    searchable: Searchable,
    z: Float32[np.ndarray, " d"],
    vocabulary: Sequence[str] | None = None,
    top: int = 10,
    *,
    sparse: bool = False,
) -> list[Word]:
    """Return the words of a vocabulary that a picture is near, nearest first.

    Near is no more than that: of a hundred words one is always the nearest, whether or not any
    fits. Cosines of one picture with several words compare, those of several pictures less so.

    Args:
        searchable: whose encoder makes the words' vectors.
        z: of the picture, unit length.
        vocabulary: words or phrases; None: `vocabulary_of(searchable)`.
        top: words, at most.
        sparse: whether to find the sum of few words that comes nearest to the picture, too (SpLiCE,
            Bhalla et al. 2024); only words in it are returned, largest weight first.

    Raises:
        ConfigError: a vector of another width, an empty vocabulary or word, too many words, or a
            senseless count.
        MissingPackage: the text encoder is not installed.
    """
    z = _checked(searchable, z, top)
    words = vocabulary_of(searchable) if vocabulary is None else list(dict.fromkeys(vocabulary))
    if not 1 <= len(words) <= MOST_WORDS or not all(map(str.strip, words)):
        raise ConfigError(
            f"A vocabulary has from 1 to {MOST_WORDS:,} words, none of them empty; this one has "
            f"{len(words):,}."
        )
    known = known_of(searchable)
    bank = known.bank(searchable.encoder, tuple(words))
    if not sparse:
        return [Word(fired.label, fired.cosine) for fired in bank.explain(z[None], top)[0]]
    weights = decomposed(z, bank.rows, known.middle(searchable))
    cosines = bank.rows @ z
    order = [at for at in np.argsort(-weights, kind="stable")[:top].tolist() if weights[at] > 0]
    return [Word(words[at], float(cosines[at]), float(weights[at])) for at in order]


def describe(
    searchable: Searchable,
    z: Float32[np.ndarray, " d"],
    top: int = 5,
    *,
    without: Collection[str] = (),
) -> list[Quote]:
    """Return the stored texts nearest to a picture, one an item, nearest first.

    They are quoted: each was written for another item, and nothing is generated.

    Args:
        searchable: an index with texts.
        z: of the picture, unit length.
        top: quotations, at most.
        without: keys of items that are not quoted, as the picture's own.

    Raises:
        ConfigError: a vector of another width, or a senseless count.
    """
    z = _checked(searchable, z, top)
    hits = _near(searchable, z, "text", top + len(without))
    quotes = (Quote(h.text, h.key, h.field, h.cosine) for h in hits if h.key not in without)
    return list(islice(quotes, top))


# --- what is near -------------------------------------------------------------------------------


def _near(searchable: Searchable, z: np.ndarray, kind: Kind, top: int) -> list[Hit]:
    return searchable.near(z[None], of=["image"], top=top, kinds=(kind,), merge="cosine")[0]


def _texts_near(
    searchable: Searchable, z: np.ndarray, without: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of the items whose texts or images are near a vector."""
    seen = set(without)
    asked: tuple[tuple[Kind, int], ...] = (("text", _NEAR_TEXTS), ("image", _NEAR_IMAGES))
    for kind, count in asked:
        for hit in _near(searchable, z, kind, count + len(without)):
            if hit.key in seen:
                continue
            seen.add(hit.key)
            item = searchable.item(hit.key)
            own = () if item is None else [text for texts in item.texts.values() for text in texts]
            # The nearest one may lie far behind in an item of many texts.
            for text in dict.fromkeys([*filter(None, [hit.text]), *own[:_OF_AN_ITEM]]):
                yield hit.key, text


def _phrases_of(text: str) -> Iterator[str]:
    """Yield a text's noun phrases without their articles, and a short text itself."""
    text = " ".join(text[:4_096].split())
    if 0 < count_words(text) <= SHORT and len(text) <= _LONGEST_PHRASE:
        yield text.rstrip(".!")
    for phrase in phrases(text):
        first, _, rest = phrase.partition(" ")
        bare = rest if rest and first.lower() in ("a", "an", "the") else phrase
        if len(bare) <= _LONGEST_PHRASE:
            yield bare


def _checked(searchable: Searchable, z: np.ndarray, top: int) -> Float32[np.ndarray, " d"]:
    wanted = searchable.space.dimensions
    if z.shape != (wanted,):
        raise ConfigError(
            f"The vector has the shape {z.shape}; {searchable.name} takes ({wanted},)."
        )
    if not 1 <= top <= MOST:
        raise ConfigError(f"From 1 to {MOST} words can be asked for, not {top}.")
    return z.astype(np.float32, copy=False)
