"""Find images by long captions and the other way round: what length, start and order matter."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lift.errors import ConfigError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, cut_of, encode_distinct
from lift.evals._paired import difference
from lift.evals._pairs import Pairs, collect, of_images, shared_captions
from lift.evals._rewordings import OF_SENTENCES, Rewording, first
from lift.evals._search import Direction, directions, first_is_right, search
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Source
from lift.text.sentences import count_words

KS = (1, 5, 10)
TOP = 5
"""Answers kept of each example."""

SHOWN = 200
"""Characters of a caption in an example."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the evaluation of long captions.

    Attributes:
        lengths: captions are cut to so many words, once for each.
        buckets: ends of the groups of captions by length: up to so many words, and longer ones.
        sentences: also without the first sentence, with sentences shuffled, and the first alone.
        k: of the recall that is told of groups and changed captions.
        role: only captions that play this part ("long"); None takes all.
        benchmark: what the pairs are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: queries kept with their answers.
    """

    lengths: tuple[int, ...] = (16, 32, 64, 128)
    buckets: tuple[int, ...] = (25, 50, 100, 200)
    sentences: bool = True
    k: int = 1
    role: str | None = None
    benchmark: str | None = None
    examples: int = 8


class LongCaptions:
    """Recall of images by their longest caption, and of those captions by their image.

    It is told whole, by length of the caption, and for captions that were changed: cut to their
    first words, without their first sentence (models are known to read little else; see Zhang et
    al. 2024, Long-CLIP), with their sentences in another order, and with the first sentence
    alone. Beside each of these stands how far it is from the same queries with whole captions,
    paired, with its own interval. What can't be changed (one sentence alone) stays whole where it
    is searched, and is no query of that figure.
    """

    version = 1
    primary = "text_to_image/R@1"

    def __init__(self, config: Config) -> None:
        self.config = config
        role = f", role {config.role}" if config.role else ""
        self.protocol = (
            f"longest caption of each image{role}, equal captions right, groups and changes by "
            f"R@{config.k}"
        )
        if config.buckets:
            self.protocol += f", groups up to {', '.join(map(str, config.buckets))} words"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on all of `source`.

        Raises:
            DataError: no captions, or no image that can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        pairs = _longest(collect(source, self.config.role, first_only=False))
        images = Images(encoder, source)
        z_image = np.concatenate([z for _, _, z in images])
        pairs, _ = of_images(pairs, images.numbers, source)
        judge = _Judge(encoder, pairs, z_image, images.clusters())
        whole = judge.answers(pairs.texts)
        found: dict[str, Metric] = {}
        every = np.ones(len(pairs.texts), np.bool_)
        for direction, spot in whole:
            for k in KS:
                found[f"{direction.name}/R@{k}"] = judge.recall(direction, spot, k, every)
        words = np.array([count_words(text) for text in pairs.texts], dtype=np.int64)
        found |= self._by_length(judge, whole, words)
        changed, lasting = self._changed(judge, whole)
        found |= changed
        cut, cut_notes = cut_of(encoder, pairs.texts)
        to_image = whole[0][0]
        right = np.array([len(to_image.right(int(q))) for q in to_image.queries])
        return EvalResult(
            evaluation="long_captions",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=found,
            counts={
                "images": len(pairs.keys),
                "captions": len(pairs.texts),
                "median words": int(np.median(words)),
                "most words": int(words.max()),
            }
            | ({"captions of one sentence": lasting} if lasting else {})
            | cut
            | images.counts(),
            chance=metrics.chance_at_k(len(pairs.keys), right, 1),
            notes=cut_notes
            + _notes(lasting, len(pairs.texts))
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(whole[0], pairs, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _by_length(
        self, judge: _Judge, whole: Answers, words: Int64[np.ndarray, " c"]
    ) -> dict[str, Metric]:
        """Return recalls by length of the caption; none where all are of one group."""
        group = np.searchsorted(np.array(self.config.buckets), words)
        if len(np.unique(group)) < 2:
            return {}
        found = {}
        for direction, spot in whole:
            for number in np.unique(group).tolist():
                name = f"{direction.name}/R@{self.config.k} ({self._bucket(number)})"
                found[name] = judge.recall(direction, spot, self.config.k, group == number)
        return found

    def _bucket(self, number: int) -> str:
        ends = self.config.buckets
        if number == len(ends):
            return f"over {ends[-1]} words"
        low = ends[number - 1] + 1 if number else 0
        return f"{low} to {ends[number]} words" if low else f"up to {ends[number]} words"

    def _changed(self, judge: _Judge, whole: Answers) -> tuple[dict[str, Metric], int]:
        """Return the recalls of changed captions, and how many captions are of one sentence."""
        ways = [first(length) for length in self.config.lengths]
        ways += OF_SENTENCES if self.config.sentences else ()
        texts, keys = judge.pairs.texts, [judge.pairs.keys[int(n)] for n in judge.pairs.owner]
        found: dict[str, Metric] = {}
        lasting = 0
        for way in ways:
            made = [way.of(text, key) for text, key in zip(texts, keys, strict=True)]
            asked = np.array([one is not None for one in made])
            if way in OF_SENTENCES:
                lasting = int((~asked).sum())
            said = [old if new is None else new for old, new in zip(texts, made, strict=True)]
            if said != texts:
                found |= self._against_whole(judge, way, said, asked, whole)
        return found, lasting

    def _against_whole(
        self,
        judge: _Judge,
        way: Rewording,
        texts: list[str],
        asked: Bool[np.ndarray, " c"],
        whole: Answers,
    ) -> dict[str, Metric]:
        """Return the recall of some captions with changed texts, and its distance from whole."""
        found = {}
        answers = judge.answers(texts)
        for (direction, spot), (_, spot_whole) in zip(answers, whole, strict=True):
            name = f"{direction.name}/R@{self.config.k}"
            changed = judge.recall(direction, spot, self.config.k, asked)
            plain = judge.recall(direction, spot_whole, self.config.k, asked)
            found[f"{name} ({way.name})"] = changed
            found[f"{name} ({way.name}, less whole)"] = difference(changed, plain)
        return found


Answers = list[tuple[Direction, metrics.Places]]
"""Both ways of searching, and where the first right answer of each query stands."""


class _Judge:
    """The images, whose captions are asked with in many wordings."""

    def __init__(
        self, encoder: Encoder, pairs: Pairs, z_image: np.ndarray, content: np.ndarray | None
    ) -> None:
        self.pairs = pairs
        self._encoder, self._z_image, self._content = encoder, z_image, content
        self._shared = shared_captions(pairs) > 0
        # Each image with a caption has one: queries of both directions are in one order.
        self._order = np.argsort(pairs.owner, kind="stable")

    def answers(self, texts: list[str]) -> Answers:
        """Return what is found with one text for each caption."""
        vectors, place = encode_distinct(self._encoder, texts)
        z_text = vectors[place]
        both = directions(self.pairs, z_text, self._z_image, self._content, self._shared)
        return [(d, search(d.z_query, d.z_key, d.queries, (d.right,))[0]) for d in both]

    def recall(
        self, direction: Direction, spot: metrics.Places, k: int, asked: Bool[np.ndarray, " c"]
    ) -> Metric:
        """Return the recall of the queries whose captions are chosen."""
        if direction.name == "image_to_text":
            asked = asked[self._order]
        clusters, alike = direction.clusters, direction.alike
        if alike is not None:
            place = np.cumsum(asked) - 1
            kept = asked[alike.item]
            alike = metrics.Alike(place[alike.item[kept]], alike.group[kept])
        credit = metrics.recall_at_k(spot, k)[asked]
        return metrics.share(
            credit, clusters=None if clusters is None else clusters[asked], alike=alike
        )


def _longest(pairs: Pairs) -> Pairs:
    """Return the pairs with the longest caption of each image only, by words; the first of them."""
    best: dict[int, tuple[int, int]] = {}
    for caption, owner in enumerate(pairs.owner.tolist()):
        length = count_words(pairs.texts[caption])
        if owner not in best or length > best[owner][0]:
            best[owner] = (length, caption)
    kept = np.array(sorted(caption for _, caption in best.values()), dtype=np.int64)
    _, same = np.unique(pairs.same[kept], return_inverse=True)
    return dataclasses.replace(
        pairs,
        texts=[pairs.texts[int(caption)] for caption in kept],
        owner=pairs.owner[kept],
        same=same.astype(np.int64),
    )


def _notes(lasting: int, captions: int) -> tuple[str, ...]:
    if not lasting:
        return ()
    return (
        f"{lasting} of {captions} captions are one sentence: they are no queries of the figures "
        "on sentences",
    )


def _examples(
    answer: tuple[Direction, metrics.Places], pairs: Pairs, count: int
) -> tuple[dict[str, Any], ...]:
    """Return a few captions and the images that came first, as plain JSON values."""
    direction, spot = answer
    right = first_is_right(spot)
    found = []
    for at in metrics.chosen(right, count):
        image = int(pairs.owner[at])
        scores = direction.z_key @ direction.z_query[at]
        top = [
            {
                "key": pairs.keys[int(k)],
                "index": pairs.numbers[int(k)],
                "score": round(float(scores[k]), 4),
                "right": bool(k in direction.right(at)),
            }
            for k in np.argsort(-scores, kind="stable")[:TOP]
        ]
        found.append(
            {
                "direction": direction.name,
                "item": at,
                "query": _short(pairs.texts[at]),
                "key": pairs.keys[image],
                "index": pairs.numbers[image],
                "rank": float(metrics.ranks(spot)[at]),
                "right": bool(right[at]),
                "top": top,
            }
        )
    return tuple(found)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 4].rstrip() + " ..."


def build(config: Config) -> LongCaptions:
    """Return the evaluation.

    Raises:
        ConfigError: a number that is too small, or groups that don't grow.
    """
    if config.examples < 0:
        raise ConfigError(f"long_captions.examples must be 0 or more, not {config.examples}.")
    _require_growing("lengths", config.lengths)
    _require_growing("buckets", config.buckets)
    if config.k < 1:
        raise ConfigError(f"long_captions.k must be 1 or more, not {config.k}.")
    return LongCaptions(config)


def _require_growing(name: str, numbers: Sequence[int]) -> None:
    if any(n < 1 for n in numbers) or list(numbers) != sorted(set(numbers)):
        raise ConfigError(
            f"long_captions.{name} must be numbers of words that grow, from 1 on, not "
            f"{list(numbers)}."
        )
