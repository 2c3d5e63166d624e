"""Photos in one index, as images or as captions, and the captions that ask for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from lift.errors import DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import blocks
from lift.evals._pairs import Pairs, groups
from lift.merging import Calibration, Seen, calibrate, comparable, reciprocal
from lift.terms import Source

HELD_OUT = 5
"""One photo of so many is in no index: its query has no match."""

WAYS = ("one list", "calibrated", "reciprocal rank")
"""By cosine; by log odds of being right; two lists merged by rank."""


@dataclass(frozen=True)
class Laid:
    """Photos with two captions: one may stand in the index, the other asks.

    Photos come in an order that hashes of their keys make, whatever the order of the source.

    Attributes:
        photo: which photos those are, as places in `Pairs.keys` [m].
        held, asked: the captions that may be in the index and that ask, as places in
            `Pairs.texts` [m].
        indexed: whether the photo is in the index [m]; the queries of the others have no match.
        half: 0 or 1; what is fitted on the queries of one half judges the other [m].
    """

    photo: Int64[np.ndarray, " m"]
    held: Int64[np.ndarray, " m"]
    asked: Int64[np.ndarray, " m"]
    indexed: Bool[np.ndarray, " m"]
    half: Int64[np.ndarray, " m"]

    @property
    def items(self) -> int:
        """How many photos are in the index."""
        return int(self.indexed.sum())

    def as_image(self, ratio: tuple[int, int]) -> Bool[np.ndarray, " n"]:
        """Return which items of the index are images, at a ratio images : captions.

        An image of one ratio is one at every ratio with more images.
        """
        count = round(self.items * ratio[0] / sum(ratio))
        # Never none of either kind, where there are two: there would be nothing to merge.
        count = min(max(count, 1), max(self.items - 1, 1))
        return np.arange(self.items) < count


def lay(pairs: Pairs, source: Source) -> Laid:
    """Return who is in the index and who asks; hashes of keys and captions decide.

    Raises:
        DataError: no photo with two different captions.
    """
    captions: dict[int, dict[int, int]] = {}
    for caption, (photo, same) in enumerate(zip(pairs.owner, pairs.same, strict=True)):
        captions.setdefault(int(photo), {}).setdefault(int(same), caption)
    several = [photo for photo, own in captions.items() if len(own) > 1]
    if not several:
        raise DataError(
            f"No photo of {source.name} has two different captions, one for the index and one to "
            "ask with."
        )
    several.sort(key=lambda photo: (_hash(pairs.keys[photo]), pairs.keys[photo]))
    held, asked = [], []
    for photo in several:
        key = pairs.keys[photo]
        own = sorted(captions[photo].values(), key=lambda c: _hash(f"{key}\n{pairs.texts[c]}"))
        held.append(own[0])
        asked.append(own[1])
    place = np.arange(len(several))
    indexed = place % HELD_OUT != HELD_OUT - 1
    half = np.empty(len(several), np.int64)
    for mine in (indexed, ~indexed):  # each in halves, and so images and captions of the index
        half[mine] = np.arange(mine.sum()) % 2
    return Laid(
        photo=np.array(several, dtype=np.int64),
        held=np.array(held, dtype=np.int64),
        asked=np.array(asked, dtype=np.int64),
        indexed=indexed,
        half=half,
    )


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def right_items(pairs: Pairs, laid: Laid) -> list[np.ndarray]:
    """Return for each query the items of the index whose photo has that caption [m of these]."""
    place = np.full(len(pairs.keys), -1, dtype=np.int64)
    place[laid.photo[laid.indexed]] = np.arange(laid.items)
    photos_of = groups(pairs.owner, pairs.same, int(pairs.same.max()) + 1)
    found = [place[photos_of[int(pairs.same[caption])]] for caption in laid.asked]
    return [items[items >= 0] for items in found]


def matches(right: Sequence[np.ndarray], items: int) -> Bool[np.ndarray, "q n"]:
    """Return who is right as a table."""
    found = np.zeros((len(right), items), dtype=np.bool_)
    for row, own in enumerate(right):
        found[row, own] = True
    return found


@dataclass
class Answers:
    """What one way of ranking said to each query.

    Attributes:
        spot: where the first right item stands, for the queries that have a match.
        first_ten: share of images among the first ten, for these.
        top: score of the best item, for all queries.
        line: the same of the queries without a match, as the curves have it that judge the queries
            of the other half: a threshold for those has to be of their scale. 0 for others.
    """

    spot: metrics.Places
    first_ten: Float[np.ndarray, " q"]
    top: Float[np.ndarray, " m"]
    line: Float[np.ndarray, " m"]


@dataclass
class _Parts:
    spots: list[metrics.Places] = field(default_factory=list)
    shares: list[np.ndarray] = field(default_factory=list)
    tops: list[np.ndarray] = field(default_factory=list)
    lines: list[np.ndarray] = field(default_factory=list)

    def joined(self) -> Answers:
        first_ten, top = np.concatenate(self.shares), np.concatenate(self.tops)
        return Answers(metrics.join(self.spots), first_ten, top, np.concatenate(self.lines))


def search(
    z_asked: Float32[np.ndarray, "m d"],
    z_index: Float32[np.ndarray, "n d"],
    right: Sequence[np.ndarray],
    as_image: Bool[np.ndarray, " n"],
    laid: Laid,
) -> dict[str, Answers]:
    """Return what each way of ranking answers, from two passes over blocks of scores."""
    curves = _calibrated(z_asked, z_index, right, as_image, laid)
    parts = {way: _Parts() for way in WAYS}
    most = min(10, len(z_index))
    for block in blocks(len(z_asked), len(z_index)):
        scores, there = z_asked[block] @ z_index.T, laid.indexed[block]
        even, line = np.empty_like(scores), np.zeros(len(scores), np.float32)
        for half, (image, text) in enumerate(curves):
            mine = laid.half[block] != half
            even[mine] = comparable(scores[mine], as_image, image, text)
            own = ~mine & ~there  # no part of what the curve was fitted on
            line[own] = comparable(scores[own], as_image, image, text).max(axis=1)
        ways = (scores, even, reciprocal(scores, as_image))
        match = matches(
            [own for own, is_in in zip(right[block], there, strict=True) if is_in], len(z_index)
        )
        for part, ranked in zip(parts.values(), ways, strict=True):
            if there.any():
                part.spots.append(metrics.places(ranked[there], match))
                part.shares.append(images_among(ranked[there], as_image, most))
            part.tops.append(ranked.max(axis=1))
            part.lines.append(line if ranked is even else part.tops[-1])
    return {way: part.joined() for way, part in parts.items()}


def _calibrated(
    z_asked: np.ndarray,
    z_index: np.ndarray,
    right: Sequence[np.ndarray],
    as_image: np.ndarray,
    laid: Laid,
) -> list[tuple[Calibration, Calibration]]:
    """Return the curves (of images, of texts) that the queries of each half give."""
    seen = [(Seen(), Seen()) for _ in range(2)]
    kinds = (as_image, ~as_image)
    for block in blocks(len(z_asked), len(z_index)):
        scores, match = z_asked[block] @ z_index.T, matches(right[block], len(z_index))
        for half in range(2):
            mine = laid.indexed[block] & (laid.half[block] == half)
            for kind, own in zip(kinds, seen[half], strict=True):
                own.add(scores[mine][:, kind], match[mine][:, kind])
    found = []
    for both in seen:
        rights = sum(int(own.right.sum()) for own in both)
        total = rights + sum(int(own.wrong.sum()) for own in both)
        share = rights / total if total else 0.0
        found.append((calibrate(both[0], share), calibrate(both[1], share)))
    return found


def images_among(
    scores: Float32[np.ndarray, "q n"], as_image: Bool[np.ndarray, " n"], most: int
) -> Float[np.ndarray, " q"]:
    """Return the expected share of images among the first `most`, over all orders of ties."""
    last = -np.partition(-scores, most - 1, axis=1)[:, most - 1 : most]
    above = scores > last + np.float32(metrics.TIE)
    tied = (scores >= last - np.float32(metrics.TIE)) & ~above
    room = most - above.sum(axis=1)
    sure, maybe = (above & as_image).sum(axis=1), (tied & as_image).sum(axis=1)
    return (sure + room * maybe / tied.sum(axis=1)) / most
