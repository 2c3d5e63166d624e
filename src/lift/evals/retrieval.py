"""Find the image of a caption and the caption of an image among all of a source."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lift.errors import ConfigError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, cut_of, encode_distinct
from lift.evals._pairs import Pairs, collect, groups, of_images, shared_captions
from lift.evals._search import Direction, directions, first_is_right, search, search_all
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Source

__all__ = ["Pairs", "collect", "figures_of", "groups", "search"]
"""What other rooms search with; see the private files for the others."""

KS = (1, 5, 10)
TOP = 5
"""Answers kept of each example."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the retrieval evaluation.

    Attributes:
        protocol: "all-captions" takes every caption as a query and as an answer (five an image
            in COCO and Flickr, as CLIP_benchmark does); "first-caption" takes the first one of
            each image (as the paper does). Figures of the two do not compare.
        role: only captions that play this part ("short", "title"); None takes all.
        benchmark: what the pairs are ("flickr8k", "coco", ...), for the warning about captions
            that the text encoder saw; None guesses from the source's name.
        examples: queries kept with their answers, for each direction.
    """

    protocol: Literal["all-captions", "first-caption"] = "all-captions"
    role: str | None = None
    benchmark: str | None = None
    examples: int = 8


class Retrieval:
    """Recall at 1, 5 and 10, median rank and mean average precision in both directions.

    An image is right for every caption that one of its own captions equals, so where several
    images share a title, any of them is right. Where that happens, the figures under which only
    the own pair is right stand beside, marked "(strict)".
    """

    version = 1
    primary = "text_to_image/R@10"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.protocol = config.protocol + (f", role {config.role}" if config.role else "")

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on all of `source`.

        Images are read in chunks and scores computed in blocks; only vectors stay in memory.

        Raises:
            DataError: no captions, or no image that can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        pairs = collect(source, self.config.role, self.config.protocol == "first-caption")
        vectors, place = encode_distinct(encoder, pairs.texts)
        images = Images(encoder, source)
        z_image = np.concatenate([z for _, _, z in images])
        pairs, kept = of_images(pairs, images.numbers, source)
        z_text = vectors[place[kept]]
        del vectors

        shared = shared_captions(pairs)
        both = directions(pairs, z_text, z_image, images.clusters(), shared > 0)
        found: dict[str, Metric] = {}
        examples: list[dict[str, Any]] = []
        for direction in both:
            figures, spot = _judged(direction, shared > 0)
            found |= figures
            examples += _examples(direction, spot, pairs, self.config.examples)
        to_image = both[0]
        right = np.array([len(to_image.right(int(q))) for q in to_image.queries])
        described = len(np.unique(pairs.owner))
        cut, cut_notes = cut_of(encoder, pairs.texts)
        return EvalResult(
            evaluation="retrieval",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=found,
            counts=_counts(pairs, described) | cut | images.counts(),
            chance=metrics.chance_at_k(len(pairs.keys), right, 10),
            notes=_notes(shared, pairs, described)
            + cut_notes
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=tuple(examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )


def figures_of(pairs: Pairs, z_text: np.ndarray, z_image: np.ndarray) -> dict[str, Metric]:
    """Return the figures of vectors that are there already, as `Retrieval` would.

    Args:
        pairs: the captions and whose they are; their texts and keys are not looked at.
        z_text: a unit vector for each caption.
        z_image: a unit vector for each image.
    """
    shared = shared_captions(pairs) > 0
    found: dict[str, Metric] = {}
    for direction in directions(pairs, z_text, z_image, None, shared):
        found |= _judged(direction, shared)[0]
    return found


def _judged(direction: Direction, shared: bool) -> tuple[dict[str, Metric], metrics.Places]:
    """Return the figures of one way of searching, and the places that they are of."""
    rights = (direction.right, direction.strict) if shared else (direction.right,)
    answers = search_all(direction.z_query, direction.z_key, direction.queries, rights)
    found: dict[str, Metric] = {}
    for mark, (spot, precision) in zip(("", " (strict)"), answers, strict=False):
        found |= _figures(direction, mark, spot, precision)
    return found, answers[0][0]


def _figures(
    direction: Direction, mark: str, spot: metrics.Places, precision: np.ndarray
) -> dict[str, Metric]:
    clusters, alike, name = direction.clusters, direction.alike, direction.name
    found = {
        f"{name}/R@{k}{mark}": metrics.share(
            metrics.recall_at_k(spot, k), clusters=clusters, alike=alike
        )
        for k in KS
    }
    found[f"{name}/median rank{mark}"] = metrics.median(metrics.ranks(spot), clusters, alike)
    found[f"{name}/mAP{mark}"] = metrics.share(precision, clusters=clusters, alike=alike)
    return found


def _examples(
    direction: Direction, spot: metrics.Places, pairs: Pairs, count: int
) -> list[dict[str, Any]]:
    """Return a few queries, right and wrong ones in turn, as plain JSON values.

    Each has `query` (a text) or not (then the image `key` asks), `rank` of the first right item,
    `right` (whether that is surely 1), and `top` with the key or text, score and truth of each.
    """
    first = first_is_right(spot)
    to_image = direction.name == "text_to_image"
    found = []
    for at in metrics.chosen(first, count):
        query = int(direction.queries[at])
        image = int(pairs.owner[query]) if to_image else query
        scores = direction.z_key @ direction.z_query[query]
        best = np.argsort(-scores, kind="stable")[:TOP]
        right = np.isin(best, direction.right(query))
        top = [
            {
                **({"key": pairs.keys[k]} if to_image else {"text": pairs.texts[k]}),
                "index": pairs.numbers[int(k if to_image else pairs.owner[k])],
                "score": round(float(scores[k]), 4),
                "right": bool(is_right),
            }
            for k, is_right in zip(best, right, strict=True)
        ]
        found.append(
            {
                "direction": direction.name,
                **({"query": pairs.texts[query]} if to_image else {}),
                "key": pairs.keys[image],
                "index": pairs.numbers[image],
                "rank": float(metrics.ranks(spot)[at]),
                "right": bool(first[at]),
                "top": top,
            }
        )
    return found


def _counts(pairs: Pairs, described: int) -> dict[str, int]:
    counts = {
        "images": len(pairs.keys),
        "captions": len(pairs.texts),
        "distinct captions": int(pairs.same.max()) + 1,
    }
    if described < len(pairs.keys):
        counts["images without a caption"] = len(pairs.keys) - described
    return counts


def _notes(shared: int, pairs: Pairs, described: int) -> tuple[str, ...]:
    notes = []
    if shared:
        notes.append(
            f"{shared} of {len(pairs.texts)} captions belong to several images: any of those is "
            "right, except where marked (strict)"
        )
    if described < len(pairs.keys):
        missing = len(pairs.keys) - described
        notes.append(f"{missing} images without a caption are searched but not asked about")
    return tuple(notes)


def build(config: Config) -> Retrieval:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples.
    """
    if config.examples < 0:
        raise ConfigError(f"retrieval.examples must be 0 or more, not {config.examples}.")
    return Retrieval(config)
