"""Search with each of some vectors among others: who is right, and where it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lift.evals import _metrics as metrics
from lift.evals._encode import blocks
from lift.evals._pairs import Pairs, groups
from lift.evals._ranking import average_precision

Right = Callable[[int], np.ndarray]
"""From the number of a query to the numbers of the items that are right for it."""


@dataclass(frozen=True)
class Direction:
    """One way of searching: its queries, what they search, and who is right.

    Attributes:
        name: begins the names of the metrics.
        z_query, z_key: unit vectors; both may hold more rows than are asked about.
        queries: rows of `z_query` to ask with.
        right: any pair with an equal text counts.
        strict: only the own pair counts.
        clusters: of the queries, where several belong to one image (or to equal ones).
        alike: queries with the same text, or the same right text; None where there are none.
    """

    name: Literal["text_to_image", "image_to_text"]
    z_query: np.ndarray
    z_key: np.ndarray
    queries: np.ndarray
    right: Right
    strict: Right
    clusters: np.ndarray | None
    alike: metrics.Alike | None


def directions(
    pairs: Pairs, z_text: np.ndarray, z_image: np.ndarray, content: np.ndarray | None, shared: bool
) -> tuple[Direction, Direction]:
    """Return both ways of searching, with the groups that say who is right.

    Args:
        pairs: the captions.
        z_text, z_image: a row for each caption and each image.
        content: a number for each image, equal where its bytes are; None where all differ.
        shared: whether images share captions. Queries with one text then succeed and fail
            together, and so, if less strictly, do images that one text is right for.
    """
    texts = int(pairs.same.max()) + 1
    captions = np.arange(len(pairs.same))
    images_of = groups(pairs.owner, pairs.same, texts)
    captions_of = groups(captions, pairs.same, texts)
    texts_of = groups(pairs.same, pairs.owner, len(pairs.keys))
    own = groups(captions, pairs.owner, len(pairs.keys))
    asked = np.unique(pairs.owner)  # an image without a caption is searched, never asked
    spot = np.searchsorted(asked, pairs.owner)
    once = np.unique(np.stack([spot, pairs.same]), axis=1)
    to_image = Direction(
        name="text_to_image",
        z_query=z_text,
        z_key=z_image,
        queries=captions,
        right=lambda caption: images_of[pairs.same[caption]],
        strict=lambda caption: pairs.owner[caption : caption + 1],
        clusters=pairs.owner if content is None else content[pairs.owner],
        alike=metrics.Alike(captions, pairs.same) if shared else None,
    )
    to_text = Direction(
        name="image_to_text",
        z_query=z_image,
        z_key=z_text,
        queries=asked,
        right=lambda image: np.concatenate([captions_of[text] for text in texts_of[image]]),
        strict=lambda image: own[image],
        clusters=None if content is None else content[asked],
        alike=metrics.Alike(once[0], once[1]) if shared else None,
    )
    return to_image, to_text


def search(
    z_query: np.ndarray, z_key: np.ndarray, queries: np.ndarray, rights: Sequence[Right]
) -> list[metrics.Places]:
    """Return the places of `queries` (rows of z_query) among all keys, for each of `rights`."""
    parts: list[list[metrics.Places]] = [[] for _ in rights]
    for scores, matches in _scored(z_query, z_key, queries, rights):
        for part, match in zip(parts, matches, strict=True):
            part.append(metrics.places(scores, match))
    return [metrics.join(part) for part in parts]


def search_all(
    z_query: np.ndarray, z_key: np.ndarray, queries: np.ndarray, rights: Sequence[Right]
) -> list[tuple[metrics.Places, np.ndarray]]:
    """Return the same, and the average precision of each query."""
    places: list[list[metrics.Places]] = [[] for _ in rights]
    precisions: list[list[np.ndarray]] = [[] for _ in rights]
    for scores, matches in _scored(z_query, z_key, queries, rights):
        for at, match in enumerate(matches):
            places[at].append(metrics.places(scores, match))
            precisions[at].append(average_precision(scores, match))
    return [
        (metrics.join(spots), np.concatenate(found))
        for spots, found in zip(places, precisions, strict=True)
    ]


def _scored(
    z_query: np.ndarray, z_key: np.ndarray, queries: np.ndarray, rights: Sequence[Right]
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield the scores of a block of queries [q n], and which items are right, for each of both."""
    for block in blocks(len(queries), len(z_key)):
        scores = z_query[queries[block]] @ z_key.T
        matches = []
        for right in rights:
            match = np.zeros(scores.shape, dtype=np.bool_)
            for row, query in enumerate(queries[block]):
                match[row, right(int(query))] = True
            matches.append(match)
        yield scores, matches


def first_is_right(spot: metrics.Places) -> np.ndarray:
    """Return of which queries the first answer is surely right."""
    return (spot.ahead == 0) & (spot.tied == spot.right)
