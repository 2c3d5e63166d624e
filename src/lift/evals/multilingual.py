"""Find images by captions of each language and the other way round, and English by the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, cut_of, encode_distinct
from lift.evals._languages import Spoken
from lift.evals._pairs import Pairs, groups, shared_captions
from lift.evals._search import Direction, directions, first_is_right, search
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Source

KS = (1, 5, 10)
TOP = 5
"""Answers kept of each example."""

NAMED = 10
"""Languages that a note names; all are counted."""

TEXTS = "text_to_text"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the multilingual evaluation.

    Attributes:
        languages: tags to judge ("de", "pt-BR"); None takes all that the captions have.
        reference: the language whose captions the others have to find.
        fewest: images that a language needs; those with fewer are counted and left out.
        k: of the recall that is told of each language.
        benchmark: what the pairs are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: queries kept with their answers.
    """

    languages: tuple[str, ...] | None = None
    reference: str = "en"
    fewest: int = 20
    k: int = 1
    benchmark: str | None = None
    examples: int = 8


class Answers(NamedTuple):
    """Where the first right answer of each query stands, and the image that each query is of."""

    places: metrics.Places
    photo: Int64[np.ndarray, " q"]


class Multilingual:
    """Recall in each language, of images and of captions, and the mean in which each counts alike.

    The captions of a language search all images, and its images search the captions of that
    language; equal captions are right for each other's images. Beside that stands what the text
    encoder does alone: a caption finds one of the reference language for the same image, among
    all of those. It bounds what an image tower can learn in this text space. Images with equal
    bytes are one, so that a table with a row for each language is read as it is. Data as in
    Crossmodal-3600 (Thapliyal et al. 2022).
    """

    version = 1
    primary = "text_to_image/R@1"

    def __init__(self, config: Config) -> None:
        self.config = config
        asked = "all languages" if config.languages is None else ", ".join(config.languages)
        self.protocol = (
            f"all captions of a language, equal captions right, {asked} with {config.fewest} "
            f"images or more count alike, {config.reference} to be found by the others"
        )

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on all of `source`.

        Raises:
            DataError: no captions that say their language, no language with enough images, or no
                image that can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        spoken = Spoken(source)
        self._chosen(spoken.photos_of(np.arange(len(source))), source)  # before anything is encoded
        images = Images(encoder, source)
        z_all = np.concatenate([z for _, _, z in images])
        photo = np.full(len(source), -1, dtype=np.int64)
        _, first, number = np.unique(images.content, return_index=True, return_inverse=True)
        photo[images.numbers] = number
        shown = [images.numbers[int(at)] for at in first]
        chosen, few = self._chosen(spoken.photos_of(photo), source)
        known = [tag for tag in spoken.tags if _is_of(tag, self.config.reference)]
        pairs = {tag: spoken.pairs(tag, photo, shown) for tag in {*chosen, *known}}
        judge = _Judge(encoder, pairs, z_all[first])
        judge.learn(known)
        each = {tag: judge.answers(tag) for tag in chosen}
        cut, cut_notes = cut_of(encoder, [t for tag in chosen for t in pairs[tag].texts])
        counts = {
            "images": len(shown),
            "languages": len(chosen),
            "captions": sum(len(pairs[tag].texts) for tag in chosen),
        }
        counts |= {"captions without a language": spoken.mute} if spoken.mute else {}
        counts |= {"languages with few images": len(few)} if few else {}
        return EvalResult(
            evaluation="multilingual",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(each, self.config.k),
            counts=counts | cut | images.counts(),
            chance=_chance([pairs[tag] for tag in chosen]),
            notes=_notes(few, judge.has_reference, self.config)
            + cut_notes
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=judge.examples(each, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _chosen(self, photos: dict[str, int], source: Source) -> tuple[list[str], dict[str, int]]:
        """Return the languages to judge, and how many images those with too few have."""
        wanted = list(photos) if self.config.languages is None else list(self.config.languages)
        if not photos:
            raise DataError(f"{source.name} holds no captions that say their language.")
        if missing := [tag for tag in wanted if tag not in photos]:
            known = ", ".join(photos)
            raise DataError(
                f"{source.name} holds no captions in {missing[0]!r}; its languages are {known}."
            )
        few = {tag: photos[tag] for tag in wanted if photos[tag] < self.config.fewest}
        chosen = [tag for tag in wanted if tag not in few]
        if not chosen:
            most = max(few, key=lambda tag: few[tag])
            raise DataError(
                f"{source.name} holds no language with {self.config.fewest} images; the most has "
                f"{most!r}, {few[most]}: set multilingual.fewest."
            )
        return chosen, few


class _Judge:
    """Searches the images with the captions of one language after the other.

    Attributes:
        has_reference: whether there are captions that those of other languages can look for.
    """

    def __init__(self, encoder: Encoder, pairs: dict[str, Pairs], z_image: np.ndarray) -> None:
        """Keep the captions of each language, and a row for each image."""
        self._encoder, self._pairs, self._z_image = encoder, pairs, z_image
        self._reference: list[str] = []
        self.has_reference = False

    def learn(self, tags: Sequence[str]) -> None:
        """Keep the captions that others have to find."""
        found = [self._pairs[tag] for tag in tags]
        texts = [text for pairs in found for text in pairs.texts]
        if not texts:
            return
        vectors, place = encode_distinct(self._encoder, texts)
        owner = np.concatenate([pairs.owner for pairs in found])
        self._reference, self.has_reference = list(tags), True
        self._z_known, self._known = vectors[place], np.unique(owner)
        self._of_photo = groups(np.arange(len(owner)), owner, len(self._z_image))

    def answers(self, tag: str) -> dict[str, Answers]:
        """Return what the captions of a language find, and what finds them."""
        pairs = self._pairs[tag]
        both = self._both(pairs)
        found = {}
        for way in both:
            spot = search(way.z_query, way.z_key, way.queries, (way.right,))[0]
            photo = pairs.owner if way.name == "text_to_image" else way.queries
            found[way.name] = Answers(spot, photo)
        asked = np.flatnonzero(np.isin(pairs.owner, self._known)) if self.has_reference else []
        if len(asked) and tag not in self._reference:
            spot = search(
                both[0].z_query,
                self._z_known,
                np.array(asked),
                (lambda caption: self._of_photo[int(pairs.owner[caption])],),
            )[0]
            found[TEXTS] = Answers(spot, pairs.owner[asked])
        return found

    def _both(self, pairs: Pairs) -> tuple[Direction, Direction]:
        vectors, place = encode_distinct(self._encoder, pairs.texts)
        shared = shared_captions(pairs) > 0
        return directions(pairs, vectors[place], self._z_image, None, shared)

    def examples(
        self, each: dict[str, dict[str, Answers]], count: int
    ) -> tuple[dict[str, Any], ...]:
        """Return a few captions, and the images that came first, as plain JSON values."""
        spots = [found["text_to_image"].places for found in each.values()]
        of = np.repeat(np.arange(len(spots)), [len(spot.ahead) for spot in spots])
        before = np.cumsum([0, *(len(spot.ahead) for spot in spots)])
        joined = metrics.join(spots)
        right, ranks, found = first_is_right(joined), metrics.ranks(joined), []
        for item in metrics.chosen(right, count):
            tag = list(each)[int(of[item])]
            pairs, at = self._pairs[tag], item - int(before[of[item]])
            photo = int(pairs.owner[at])
            scores = self._z_image @ self._encoder.encode_texts([pairs.texts[at]])[0]
            own = pairs.owner[pairs.same == pairs.same[at]]
            top = [
                {
                    "key": pairs.keys[int(k)],
                    "index": pairs.numbers[int(k)],
                    "score": round(float(scores[k]), 4),
                    "right": bool(k in own),
                }
                for k in np.argsort(-scores, kind="stable")[:TOP]
            ]
            found.append(
                {
                    "item": item,
                    "language": tag,
                    "query": pairs.texts[at],
                    "key": pairs.keys[photo],
                    "index": pairs.numbers[photo],
                    "rank": float(ranks[item]),
                    "right": bool(right[item]),
                    "top": top,
                }
            )
        return tuple(found)


def _figures(each: dict[str, dict[str, Answers]], k: int) -> dict[str, Metric]:
    """Return the means over languages, then the recalls of each."""
    ways = list(dict.fromkeys(way for found in each.values() for way in found))
    means = {}
    for way in ways:
        own = [found[way] for found in each.values() if way in found]
        weights = np.concatenate([np.full(len(a.photo), 1.0 / len(a.photo)) for a in own])
        photo = np.concatenate([a.photo for a in own])
        spot = metrics.join([a.places for a in own])
        for at in KS:
            credit = metrics.recall_at_k(spot, at)
            means[f"{way}/R@{at}"] = metrics.share(credit, weights, photo)
    return means | {
        f"{way}/R@{k} ({tag})": metrics.share(
            metrics.recall_at_k(found[way].places, k), clusters=found[way].photo
        )
        for tag, found in each.items()
        for way in ways
        if way in found
    }


def _chance(languages: Sequence[Pairs]) -> float:
    """Return what guessing scores on the primary figure."""
    each = []
    for pairs in languages:
        images_of = groups(pairs.owner, pairs.same, int(pairs.same.max()) + 1)
        right = np.array([len(images_of[text]) for text in pairs.same], dtype=np.int64)
        each.append(metrics.chance_at_k(len(pairs.keys), right, 1))
    return float(np.mean(each))


def _is_of(tag: str, language: str) -> bool:
    """Return whether a tag is of a language: "en-GB" is English."""
    return tag.lower() == language.lower() or tag.lower().startswith(language.lower() + "-")


def _notes(few: dict[str, int], has_reference: bool, config: Config) -> tuple[str, ...]:
    notes = []
    if few:
        named = ", ".join(f"{tag} ({count})" for tag, count in list(few.items())[:NAMED])
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        notes.append(
            f"{len(few)} languages with fewer than {config.fewest} images left out: {named}{more}"
        )
    if not has_reference:
        notes.append(f"no captions in {config.reference!r}, so that nothing bounds the figures")
    return tuple(notes)


def build(config: Config) -> Multilingual:
    """Return the evaluation.

    Raises:
        ConfigError: a number that is too small, or no language.
    """
    if config.examples < 0:
        raise ConfigError(f"multilingual.examples must be 0 or more, not {config.examples}.")
    if config.fewest < 1 or config.k < 1:
        raise ConfigError("multilingual.fewest and k must be 1 or more.")
    if config.languages is not None and not config.languages:
        raise ConfigError("multilingual.languages is empty.")
    return Multilingual(config)
