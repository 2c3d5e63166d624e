"""Search one index that holds photos and captions: who is found, who comes first, who is not there.

Ranks within one kind hide the gap between images and texts; an index of both does not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lift.errors import ConfigError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, encode_distinct
from lift.evals._mixed_index import WAYS, Answers, Laid, lay, right_items, search
from lift.evals._paired import difference, mean_of
from lift.evals._pairs import Pairs, collect, of_images
from lift.evals._seen import seen_note
from lift.merging import threshold
from lift.terms import Encoder, EvalResult, Metric, Source

TOP = 5
"""Answers kept of each example."""

_RATIO = re.compile(r"([1-9]\d{0,5}):([1-9]\d{0,5})")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the mixed-index evaluation.

    Attributes:
        ratios: images : captions in the index, each judged by itself.
        false_positives: share of queries without a match that may get an answer.
        role: only captions that play this part ("short", "title"); None takes all.
        benchmark: what the pairs are ("flickr8k", "coco", ...), for the warning about captions
            that the text encoder saw; None guesses from the source's name.
        examples: queries kept with their answers.
    """

    ratios: tuple[str, ...] = ("1:10", "1:1", "10:1")
    false_positives: float = 0.05
    role: str | None = None
    benchmark: str | None = None
    examples: int = 8


class Mixed:
    """Recall of photos in one index of images and captions, ranked in three ways.

    A query is another caption of a photo than the one that may stand in the index for it. A photo
    is right for it that has this caption. "one list" ranks by cosine. "calibrated" ranks by the
    log odds of being right that a logistic curve for each kind gives (see `lift.merging`), fitted
    on the queries of the other half. "reciprocal rank" merges a list of each kind by rank alone,
    the baseline. Of each stand the recall over all photos, over those present as images and over
    those present as captions, and the share of images among the first ten answers.

    One photo in five is in no index, so that its query has no match. The best answer to a query
    counts as one if its score is above a threshold that was fitted on such queries of the other
    half: "false positives" is the share of queries without a match that got an answer, "right
    kept" the share of right first answers that were given.
    """

    version = 2

    def __init__(self, config: Config, ratios: Sequence[tuple[int, int]]) -> None:
        self.config, self.ratios = config, ratios
        self._named = "1:1" if "1:1" in config.ratios else config.ratios[0]
        self.primary = f"{self._named} one list/R@10"
        self.protocol = (
            f"one caption asks; images:captions in the index {', '.join(config.ratios)}; one photo "
            f"in five not in it; threshold at {config.false_positives:.2%} false positives; "
            "calibration (logistic) and threshold fitted on the other half of the queries"
        )
        self.protocol += f", role {config.role}" if config.role else ""

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on all of `source`.

        Raises:
            DataError: no photo with two different captions, or no image that can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        pairs = collect(source, self.config.role, first_only=False)
        lay(pairs, source)  # told before images are encoded
        images = Images(encoder, source)
        z_image = np.concatenate([z for _, _, z in images])
        pairs, _ = of_images(pairs, images.numbers, source)
        laid = lay(pairs, source)
        used = np.concatenate([laid.held, laid.asked])
        vectors, place = encode_distinct(encoder, [pairs.texts[int(c)] for c in used])
        z_held, z_asked = vectors[place[: len(laid.held)]], vectors[place[len(laid.held) :]]
        z_own, right = z_image[laid.photo], right_items(pairs, laid)
        content = images.clusters()
        clusters = None if content is None else content[laid.photo]

        found: dict[str, Metric] = {}
        notes: list[str] = []
        examples: tuple[dict[str, Any], ...] = ()
        for name, ratio in zip(self.config.ratios, self.ratios, strict=True):
            as_image = laid.as_image(ratio)
            z_index = np.where(as_image[:, None], z_own[laid.indexed], z_held[laid.indexed])
            answers = search(z_asked, z_index, right, as_image, laid)
            found |= _figures(name, answers, as_image, laid, clusters)
            told, why = _no_match(name, answers, right, laid, clusters, self.config.false_positives)
            found |= told
            notes += [note for note in why if note not in notes]
            if name == self._named:
                shown = _Shown(pairs, laid, as_image, right, z_asked, z_index)
                examples = _examples(shown, answers[WAYS[0]].spot, self.config.examples)
        to_image, to_text = _cosines(z_asked, z_own), _cosines(z_asked, z_held)
        found["image-text cosine"] = mean_of(to_image, clusters)
        found["text-text cosine"] = mean_of(to_text, clusters)
        found["cosine gap"] = mean_of(to_text - to_image, clusters)
        counts = np.array(
            [len(own) for own, there in zip(right, laid.indexed, strict=True) if there]
        )
        return EvalResult(
            evaluation="mixed",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=found,
            counts=_counts(pairs, laid, right) | images.counts(),
            chance=metrics.chance_at_k(laid.items, counts, 10),
            notes=_notes(pairs, laid)
            + tuple(notes)
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=examples,
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )


def _figures(
    ratio: str,
    answers: dict[str, Answers],
    as_image: np.ndarray,
    laid: Laid,
    clusters: np.ndarray | None,
) -> dict[str, Metric]:
    """Return recalls and the share of images of every way of ranking."""
    found: dict[str, Metric] = {}
    own = None if clusters is None else clusters[laid.indexed]
    for way, answer in answers.items():
        ten = metrics.recall_at_k(answer.spot, 10)
        name = f"{ratio} {way}"
        found[f"{name}/R@1"] = metrics.share(metrics.recall_at_k(answer.spot, 1), clusters=own)
        found[f"{name}/R@10"] = metrics.share(ten, clusters=own)
        for mark, kind in (("as image", as_image), ("as text", ~as_image)):
            if kind.any():
                part = None if own is None else own[kind]
                found[f"{name}/R@10 ({mark})"] = metrics.share(ten[kind], clusters=part)
        found[f"{name}/images in top 10"] = metrics.share(answer.first_ten, clusters=own)
    raw = found[f"{ratio} one list/R@10"]
    for way in WAYS[1:]:
        found[f"{ratio} {way} - one list/R@10"] = difference(found[f"{ratio} {way}/R@10"], raw)
    return found


def _no_match(
    ratio: str,
    answers: dict[str, Answers],
    right: Sequence[np.ndarray],
    laid: Laid,
    clusters: np.ndarray | None,
    share: float,
) -> tuple[dict[str, Metric], list[str]]:
    """Return what thresholds let through, and a note where there are too few queries for one."""
    without = ~laid.indexed & np.array([len(own) == 0 for own in right])
    found: dict[str, Metric] = {}
    for way in WAYS[:2]:
        top, accepted = answers[way].top, np.zeros(len(right))
        for half in range(2):
            line = threshold(answers[way].line[without & (laid.half != half)], share)
            if line is None:
                few = int((without & (laid.half != half)).sum())
                return {}, [
                    f"no threshold: {few} queries without a match in a half can't state "
                    f"{share:.2%} false positives, {int(np.ceil(1 / share)) - 1} could"
                ]
            mine = laid.half == half
            accepted[mine] = top[mine] > line + metrics.TIE
        own = None if clusters is None else clusters[without]
        if without.any():
            found[f"{ratio} {way}/false positives"] = metrics.share(accepted[without], None, own)
        credit = metrics.recall_at_k(answers[way].spot, 1)
        own = None if clusters is None else clusters[laid.indexed]
        if credit.any():
            kept = metrics.share(accepted[laid.indexed], credit, own)
            found[f"{ratio} {way}/right kept"] = kept
    return found, []


def _cosines(z: np.ndarray, other: np.ndarray) -> Float[np.ndarray, " m"]:
    return (z.astype(np.float64) * other).sum(axis=1)


def _counts(pairs: Pairs, laid: Laid, right: Sequence[np.ndarray]) -> dict[str, int]:
    without = ~laid.indexed & np.array([len(own) == 0 for own in right])
    counts = {
        "images": len(pairs.keys),
        "queries": laid.items,
        "queries without a match": int(without.sum()),
    }
    if shared := int((~laid.indexed & ~without).sum()):
        counts["held-out queries that match another photo"] = shared
    fewer = len(pairs.keys) - len(laid.photo)
    return counts | ({"photos without two captions": fewer} if fewer else {})


def _notes(pairs: Pairs, laid: Laid) -> tuple[str, ...]:
    fewer = len(pairs.keys) - len(laid.photo)
    if not fewer:
        return ()
    return (f"{fewer} photos without two different captions are not in the index",)


@dataclass(frozen=True)
class _Shown:
    """What examples are made of."""

    pairs: Pairs
    laid: Laid
    as_image: np.ndarray
    right: Sequence[np.ndarray]
    z_asked: np.ndarray
    z_index: np.ndarray


def _examples(shown: _Shown, spot: metrics.Places, count: int) -> tuple[dict[str, Any], ...]:
    """Return a few queries in one list; an answer with `text` is a caption."""
    pairs, laid = shown.pairs, shown.laid
    first = (spot.ahead == 0) & (spot.tied == spot.right)
    queries, found = np.flatnonzero(laid.indexed), []
    for at in metrics.chosen(first, count):
        query = int(queries[at])
        scores = shown.z_index @ shown.z_asked[query]
        top = [
            {
                "key": pairs.keys[int(laid.photo[queries[item]])],
                **(
                    {}
                    if shown.as_image[item]
                    else {"text": pairs.texts[int(laid.held[queries[item]])]}
                ),
                "index": pairs.numbers[int(laid.photo[queries[item]])],
                "score": round(float(scores[item]), 4),
                "right": bool(item in shown.right[query]),
            }
            for item in np.argsort(-scores, kind="stable")[:TOP]
        ]
        photo = int(laid.photo[query])
        found.append(
            {
                "item": at,
                "query": pairs.texts[int(laid.asked[query])],
                "key": pairs.keys[photo],
                "index": pairs.numbers[photo],
                "rank": float(metrics.ranks(spot)[at]),
                "right": bool(first[at]),
                "top": top,
            }
        )
    return tuple(found)


def build(config: Config) -> Mixed:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples, a ratio that is none, or a share that is none.
    """
    if config.examples < 0:
        raise ConfigError(f"mixed.examples must be 0 or more, not {config.examples}.")
    if not 0 < config.false_positives < 1:
        raise ConfigError(
            f"mixed.false_positives must be above 0 and below 1, not {config.false_positives}."
        )
    found = [_RATIO.fullmatch(ratio) for ratio in config.ratios]
    wrong = [r for r, match in zip(config.ratios, found, strict=True) if match is None]
    if wrong or not found or len(set(config.ratios)) < len(found):
        what = repr(wrong[0]) if wrong else ", ".join(config.ratios) or "none"
        raise ConfigError(f"mixed.ratios must be different ones like 1:10 and 1:1, not {what}.")
    return Mixed(config, [(int(match[1]), int(match[2])) for match in found if match])
