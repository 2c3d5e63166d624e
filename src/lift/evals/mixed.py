"""Search one index that holds photos and captions: whether both are found, and either first."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, blocks, encode_distinct
from lift.evals._pairs import Pairs, collect, groups, of_images
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Source

KS = (1, 5, 10)
TOP = 5
"""Answers kept of each example."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the mixed-index evaluation.

    Attributes:
        role: only captions that play this part ("short", "title"); None takes all.
        benchmark: what the pairs are ("flickr8k", "coco", ...), for the warning about captions
            that the text encoder saw; None guesses from the source's name.
        examples: queries kept with their answers.
    """

    role: str | None = None
    benchmark: str | None = None
    examples: int = 8


@dataclass(frozen=True)
class Laid:
    """One index and its queries, an item and a query for each photo with two captions.

    Attributes:
        photo: which photos those are, as places in `Pairs.keys` [m].
        held, asked: the captions that may be in the index and that ask, as places in
            `Pairs.texts` [m].
        as_image: whether the photo is there as its image [m].
    """

    photo: Int64[np.ndarray, " m"]
    held: Int64[np.ndarray, " m"]
    asked: Int64[np.ndarray, " m"]
    as_image: Bool[np.ndarray, " m"]


class Mixed:
    """Recall of photos in one index by raw cosine, half of them as images and half as captions.

    A query is another caption of a photo than the one that may stand in the index for it. A photo
    is right for it that has this caption. Beside the recall over all photos stand that of photos
    present as images and that of photos present as captions; the share of images among the first
    ten answers, which is 0.5 where neither kind pushes ahead; and the mean cosine of a query with
    its image, and with the other caption, over all photos.
    """

    version = 1
    primary = "R@10"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.protocol = "one caption asks, half of the photos as images, half as another caption"
        self.protocol += f", role {config.role}" if config.role else ""

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on all of `source`.

        Raises:
            DataError: no photo with two different captions, or no image that can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        pairs = collect(source, self.config.role, first_only=False)
        _lay(pairs, source)  # told before images are encoded
        images = Images(encoder, source)
        z_image = np.concatenate([z for _, _, z in images])
        pairs, _ = of_images(pairs, images.numbers, source)
        laid = _lay(pairs, source)
        used = np.concatenate([laid.held, laid.asked])
        vectors, place = encode_distinct(encoder, [pairs.texts[int(c)] for c in used])
        z_held, z_asked = vectors[place[: len(laid.held)]], vectors[place[len(laid.held) :]]
        z_own = z_image[laid.photo]
        z_index = np.where(laid.as_image[:, None], z_own, z_held)
        right = _right(pairs, laid)
        spot, first_ten = _search(z_asked, z_index, right, laid.as_image)
        content = images.clusters()
        clusters = None if content is None else content[laid.photo]
        found = _recalls(spot, laid.as_image, clusters)
        found["images in top 10"] = metrics.share(first_ten, clusters=clusters)
        to_image, to_text = _cosines(z_asked, z_own), _cosines(z_asked, z_held)
        found["image-text cosine"] = mean_of(to_image, clusters)
        found["text-text cosine"] = mean_of(to_text, clusters)
        found["cosine gap"] = mean_of(to_text - to_image, clusters)
        counts = np.array([len(group) for group in right])
        return EvalResult(
            evaluation="mixed",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=found,
            counts=_counts(pairs, laid) | images.counts(),
            chance=metrics.chance_at_k(len(laid.photo), counts, 10),
            notes=_notes(pairs, laid)
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(z_asked, z_index, right, spot, pairs, laid, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )


def _lay(pairs: Pairs, source: Source) -> Laid:
    """Return the index and the queries; hashes of keys and captions decide, not their order."""
    captions: dict[int, dict[int, int]] = {}
    for caption, (photo, same) in enumerate(zip(pairs.owner, pairs.same, strict=True)):
        captions.setdefault(int(photo), {}).setdefault(int(same), caption)
    several = [photo for photo, own in captions.items() if len(own) > 1]
    if not several:
        raise DataError(
            f"No photo of {source.name} has two different captions, one for the index and one to "
            "ask with."
        )
    lots = {photo: _hash(pairs.keys[photo]) for photo in several}
    # Half of them to the image: which, does not depend on the order of the source.
    ranked = sorted(several, key=lambda photo: (lots[photo], pairs.keys[photo]))
    as_image = set(ranked[: len(ranked) // 2])
    held, asked = [], []
    for photo in several:
        key = pairs.keys[photo]
        own = sorted(captions[photo].values(), key=lambda c: _hash(f"{key}\n{pairs.texts[c]}"))
        held.append(own[0])
        asked.append(own[1])
    return Laid(
        photo=np.array(several, dtype=np.int64),
        held=np.array(held, dtype=np.int64),
        asked=np.array(asked, dtype=np.int64),
        as_image=np.array([photo in as_image for photo in several]),
    )


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _right(pairs: Pairs, laid: Laid) -> list[np.ndarray]:
    """Return for each query the items whose photo has that caption."""
    place = np.full(len(pairs.keys), -1, dtype=np.int64)
    place[laid.photo] = np.arange(len(laid.photo))
    photos_of = groups(pairs.owner, pairs.same, int(pairs.same.max()) + 1)
    found = [place[photos_of[int(pairs.same[caption])]] for caption in laid.asked]
    return [items[items >= 0] for items in found]


def _search(
    z_asked: np.ndarray, z_index: np.ndarray, right: Sequence[np.ndarray], as_image: np.ndarray
) -> tuple[metrics.Places, Float[np.ndarray, " m"]]:
    """Return the places of all queries, and the share of images among the first ten of each."""
    spots, shares = [], []
    most = min(10, len(z_index))
    for block in blocks(len(z_asked), len(z_index)):
        scores = z_asked[block] @ z_index.T
        match = np.zeros(scores.shape, dtype=np.bool_)
        for row, items in enumerate(right[block]):
            match[row, items] = True
        spots.append(metrics.places(scores, match))
        shares.append(images_among(scores, as_image, most))
    return metrics.join(spots), np.concatenate(shares)


def images_among(
    scores: Float[np.ndarray, "q n"], as_image: Bool[np.ndarray, " n"], most: int
) -> Float[np.ndarray, " q"]:
    """Return the expected share of images among the first `most`, over all orders of ties."""
    last = -np.partition(-scores, most - 1, axis=1)[:, most - 1 : most]
    above = scores > last + np.float32(metrics.TIE)
    tied = (scores >= last - np.float32(metrics.TIE)) & ~above
    room = most - above.sum(axis=1)
    sure, maybe = (above & as_image).sum(axis=1), (tied & as_image).sum(axis=1)
    return (sure + room * maybe / tied.sum(axis=1)) / most


def _recalls(
    spot: metrics.Places, as_image: np.ndarray, clusters: np.ndarray | None
) -> dict[str, Metric]:
    found = {}
    groups_of = {"": np.ones_like(as_image), " (as image)": as_image, " (as text)": ~as_image}
    for mark, asked in groups_of.items():
        if not asked.any():
            continue
        own = None if clusters is None else clusters[asked]
        for k in KS:
            credit = metrics.recall_at_k(spot, k)[asked]
            found[f"R@{k}{mark}"] = metrics.share(credit, clusters=own)
    return found


def _cosines(z: np.ndarray, other: np.ndarray) -> Float[np.ndarray, " m"]:
    return (z.astype(np.float64) * other).sum(axis=1)


def mean_of(
    values: Float[np.ndarray, " m"], clusters: Int[np.ndarray, " m"] | None = None
) -> Metric:
    """Return the mean of any numbers with its normal 95% interval; clusters count as one item."""
    mean = math.fsum(values) / len(values)
    own = (
        np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    )
    total = np.bincount(own, values - mean)
    items = len(total)
    variance = float(np.square(total).sum()) / len(values) ** 2 * items / max(items - 1, 1)
    reach = metrics.Z95 * math.sqrt(variance)
    return Metric(mean, mean - reach, mean + reach, items)


def _counts(pairs: Pairs, laid: Laid) -> dict[str, int]:
    counts = {
        "images": len(pairs.keys),
        "queries": len(laid.photo),
        "photos as images": int(laid.as_image.sum()),
        "photos as captions": int((~laid.as_image).sum()),
    }
    fewer = len(pairs.keys) - len(laid.photo)
    return counts | ({"photos without two captions": fewer} if fewer else {})


def _notes(pairs: Pairs, laid: Laid) -> tuple[str, ...]:
    fewer = len(pairs.keys) - len(laid.photo)
    if not fewer:
        return ()
    return (f"{fewer} photos without two different captions are not in the index",)


def _examples(
    z_asked: np.ndarray,
    z_index: np.ndarray,
    right: Sequence[np.ndarray],
    spot: metrics.Places,
    pairs: Pairs,
    laid: Laid,
    count: int,
) -> tuple[dict[str, Any], ...]:
    """Return a few queries, right and wrong ones in turn; an answer with `text` is a caption."""
    first = (spot.ahead == 0) & (spot.tied == spot.right)
    found = []
    for query in metrics.both_kinds(first, count):
        scores = z_index @ z_asked[query]
        best = np.argsort(-scores, kind="stable")[:TOP]
        top = [
            {
                "key": pairs.keys[int(laid.photo[item])],
                **({} if laid.as_image[item] else {"text": pairs.texts[int(laid.held[item])]}),
                "index": pairs.numbers[int(laid.photo[item])],
                "score": round(float(scores[item]), 4),
                "right": bool(item in right[query]),
            }
            for item in best
        ]
        photo = int(laid.photo[query])
        found.append(
            {
                "query": pairs.texts[int(laid.asked[query])],
                "key": pairs.keys[photo],
                "index": pairs.numbers[photo],
                "rank": float(metrics.ranks(spot)[query]),
                "right": bool(first[query]),
                "top": top,
            }
        )
    return tuple(found)


def build(config: Config) -> Mixed:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples.
    """
    if config.examples < 0:
        raise ConfigError(f"mixed.examples must be 0 or more, not {config.examples}.")
    return Mixed(config)
