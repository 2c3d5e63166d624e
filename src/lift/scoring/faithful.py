"""Which parts of a prompt an image bears out: each sentence and phrase beside edits of it.

A cosine alone says little of a part: "a dog" lies higher than "a red collar" for reasons of the
words. Here a part is asked within its sentence, against the same sentence with another thing in its
place: only what was changed can make the difference.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

from lift.errors import ConfigError
from lift.terms import Encoder, ImageLike
from lift.text import lexicon as lex
from lift.text.negatives import negatives
from lift.text.phrases import Chunk, Word, chunks, tokenise
from lift.text.sentences import sentences
from lift.text.substitutes import singular

PartKind = Literal["sentence", "phrase", "link"]
"""A whole sentence (its edits exchange things within it), a noun phrase, or what links two ("on",
"sitting")."""

MOST_TEXTS = 2_000
"""Edits and parts of one prompt; of more the first are taken, evenly over the parts."""

_SEEDS = 8
"""Draws of edits made by rule: each changes one word of a class."""

_LONGEST = 20_000
"""Characters of a prompt."""


class Edited(NamedTuple):
    """A part's sentence with something else in it.

    Attributes:
        text: the sentence.
        change: what was done ("colour: red -> blue").
        cosine: of the image with it.
    """

    text: str
    change: str
    cosine: float


@dataclass(frozen=True)
class PromptPart:
    """A part of a prompt, and how it stands beside what could be there in its place.

    Attributes:
        text: the part.
        kind: see `PartKind`.
        start, end: its characters in the prompt.
        cosine: of the image with the part by itself. It does not compare between parts.
        sentence: cosine of the image with the sentence that the part is in.
        edits: that sentence with another thing in the part's place, nearest to the image first.
        margin: `sentence` less the nearest edit; None without edits. Below 0 the image would
            rather have the edit, and the part is doubtful. More edits make it smaller: compare it
            with `chance` in mind.
        chance: that the sentence beats all its edits if the image says nothing of it:
            1 / (1 + edits).
    """

    text: str
    kind: PartKind
    start: int
    end: int
    cosine: float
    sentence: float
    edits: tuple[Edited, ...]

    @property
    def margin(self) -> float | None:
        """See above."""
        return self.sentence - self.edits[0].cosine if self.edits else None

    @property
    def beaten(self) -> float | None:
        """The share of the edits that the sentence beats; a half is chance; None without edits."""
        if not self.edits:
            return None
        return sum(self.sentence > edit.cosine for edit in self.edits) / len(self.edits)

    @property
    def chance(self) -> float:
        """See above."""
        return 1 / (1 + len(self.edits))

    @property
    def is_doubtful(self) -> bool:
        """Whether an edit is nearer to the image than what the prompt says."""
        return self.margin is not None and self.margin < 0


@dataclass(frozen=True)
class Faithfulness:
    """What an image bears out of a prompt.

    Attributes:
        prompt: as given.
        cosine: of the image with all of it.
        parts: in the order of the prompt; those of a sentence behind it.
    """

    prompt: str
    cosine: float
    parts: tuple[PromptPart, ...]

    @property
    def overall(self) -> float | None:
        """The mean over the parts of the share of edits beaten: 1 at best, 0.5 by chance."""
        shares = [part.beaten for part in self.parts if part.beaten is not None]
        return math.fsum(shares) / len(shares) if shares else None

    @property
    def doubtful(self) -> tuple[PromptPart, ...]:
        """The parts that an edit beats, by most first."""
        return tuple(part for part in self._by_margin if part.is_doubtful)

    @property
    def least(self) -> PromptPart | None:
        """The part of least margin: where a wrong one would be looked for first."""
        return self._by_margin[0] if self._by_margin else None

    @property
    def _by_margin(self) -> list[PromptPart]:
        known = [(part.margin, part) for part in self.parts if part.margin is not None]
        return [part for _, part in sorted(known, key=lambda pair: pair[0])]


class Asked(NamedTuple):
    """A part before the image is asked: its place, its sentence and (edited sentence, change)."""

    kind: PartKind
    start: int
    end: int
    sentence: str
    edits: dict[str, str]


def faithfulness(
    model: Encoder,
    image: ImageLike,
    prompt: str,
    *,
    others: Sequence[str] = (),
    edits: int = 16,
    z: Float32[np.ndarray, " d"] | None = None,
) -> Faithfulness:
    """Return how an image stands to a prompt, part by part.

    English prompts are taken apart; any other is one sentence without edits.

    Args:
        model: any encoder.
        image: one image.
        prompt: what it should show.
        others: texts about other images (other prompts), whose noun phrases take the place of each
            of the prompt's: edits for things that the word lists don't know.
        edits: of one part, at most.
        z: the image's vector, where it is known.

    Raises:
        ConfigError: an empty or endless prompt, or less than one edit a part.
        DataError: the image can't be read.
        MissingPackage: the text encoder is not installed.
    """
    if not prompt.strip() or len(prompt) > _LONGEST or edits < 1:
        raise ConfigError(
            f"A prompt has from 1 to {_LONGEST:,} characters (this one {len(prompt):,}), and its "
            f"parts one edit or more (not {edits})."
        )
    asked = list(parts_of(prompt, others=others, edits=edits))
    image_z = model.encode_images([image])[0] if z is None else z
    texts: dict[str, int] = {prompt: 0}
    for part in asked:
        for text in (prompt[part.start : part.end], part.sentence, *part.edits):
            texts.setdefault(text, len(texts))
    cosines = model.encode_texts(list(texts)) @ image_z

    def cosine(text: str) -> float:
        return float(cosines[texts[text]])

    parts = []
    for part in asked:
        edited = [Edited(text, change, cosine(text)) for text, change in part.edits.items()]
        own = prompt[part.start : part.end]
        parts.append(
            PromptPart(
                text=own,
                kind=part.kind,
                start=part.start,
                end=part.end,
                cosine=cosine(own),
                sentence=cosine(part.sentence),
                edits=tuple(sorted(edited, key=lambda edit: -edit.cosine)),
            )
        )
    return Faithfulness(prompt, float(cosines[0]), tuple(parts))


# --- a prompt's parts and their edits -----------------------------------------------------------


def parts_of(prompt: str, *, others: Sequence[str] = (), edits: int = 16) -> list[Asked]:
    """Return the parts of a prompt with their edits; see `faithfulness`."""
    spare = _phrases_of(others)
    found: list[Asked] = []
    at = 0
    for sentence in sentences(prompt) or [prompt]:
        start = prompt.find(sentence, at)
        at = start + len(sentence)
        for part in _of_sentence(sentence, spare, edits):
            found.append(part._replace(start=start + part.start, end=start + part.end))
    share = max(1, MOST_TEXTS // max(1, len(found)))
    return [part._replace(edits=dict(list(part.edits.items())[:share])) for part in found]


def _of_sentence(sentence: str, spare: dict[str, str], most: int) -> list[Asked]:
    words = tokenise(sentence)
    held = list(chunks(words))
    whole = Asked("sentence", 0, len(sentence), sentence, {})
    phrases = {
        chunk: Asked("phrase", words[chunk.first].start, words[chunk.last].end, sentence, {})
        for chunk in held
    }
    links: dict[tuple[int, int], Asked] = {}
    for kind, text, change in _by_rule(sentence):
        if kind == "swap":
            whole.edits.setdefault(text, change)
            continue
        place = _changed(words, tokenise(text))
        own = next((c for c in held if c.first <= place[1] and place[0] <= c.last), None)
        if own is not None:
            phrases[own].edits.setdefault(text, change)
        else:
            start, end = words[place[0]].start, words[place[1]].end
            link = Asked("link", start, end, sentence, {})
            links.setdefault(place, link).edits.setdefault(text, change)
    for chunk, part in phrases.items():
        for text, change in _in_its_place(sentence, words, chunk, spare, most - len(part.edits)):
            part.edits.setdefault(text, change)
    inside = sorted([*phrases.values(), *links.values()], key=lambda part: part.start)
    cut = [part._replace(edits=dict(list(part.edits.items())[:most])) for part in (whole, *inside)]
    # A sentence that is one phrase is that phrase.
    return cut if len(inside) != 1 or whole.edits else [cut[1]]


def _by_rule(sentence: str) -> list[tuple[str, str, str]]:
    """Return (kind, text, change) of each edit that the rules make; none twice."""
    made: dict[str, tuple[str, str, str]] = {}
    for seed in range(_SEEDS):
        for negative in negatives(sentence, seed):
            if negative.kind != "reorder":  # nonsense is far from any image
                made.setdefault(negative.text, (negative.kind, negative.text, negative.change))
    return list(made.values())


def _changed(old: Sequence[Word], new: Sequence[Word]) -> tuple[int, int]:
    """Return the first and the last word of a text that another one has otherwise."""
    before, after = [word.lower for word in old], [word.lower for word in new]
    shorter = min(len(before), len(after))
    first = next((i for i in range(shorter) if before[i] != after[i]), shorter - 1)
    # An article that changed with its noun is no change.
    if before[first] in lex.ARTICLES and first + 1 < len(before):
        first += 1
    behind = next((i for i in range(1, shorter + 1) if before[-i] != after[-i]), shorter)
    return first, max(first, len(before) - behind)


def _phrases_of(texts: Sequence[str]) -> dict[str, str]:
    """Return the noun phrases of texts, each with its head in the singular, in order."""
    found: dict[str, str] = {}
    for text in texts:
        words = tokenise(text[:_LONGEST])
        for chunk in chunks(words):
            said = text[words[chunk.first].start : words[chunk.last].end]
            if chunk.first == 0:
                said = said[0].lower() + said[1:]
            found.setdefault(said, singular(words[chunk.last].lower))
    return found


def _in_its_place(
    sentence: str, words: Sequence[Word], chunk: Chunk, spare: dict[str, str], most: int
) -> list[tuple[str, str]]:
    """Return (text, change) with other phrases in the place of one, those of a fixed shuffle."""
    named = {singular(word.lower) for word in words}
    start, end = words[chunk.first].start, words[chunk.last].end
    own = sentence[start:end]
    fitting = [phrase for phrase, head in spare.items() if head not in named]
    order = _shuffler(sentence)
    return [
        (_put(sentence, start, end, phrase), f"phrase: {own} -> {phrase}")
        for phrase in sorted(fitting, key=order)[: max(0, most)]
    ]


def _put(text: str, start: int, end: int, new: str) -> str:
    if text[start].isupper() and not text[start + 1 : start + 2].isupper():
        new = new[0].upper() + new[1:]
    return text[:start] + new + text[end:]


def _shuffler(salt: str) -> Callable[[str], bytes]:
    return lambda phrase: hashlib.blake2b(f"{salt}\0{phrase}".encode(), digest_size=8).digest()
