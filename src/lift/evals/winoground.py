"""Match two images with two captions that say different things in the same words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, encode_distinct
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Sample, Source, unit
from lift.text.encoder import clean

_SCORES = ("group score", "text score", "image score")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the Winoground evaluation.

    Attributes:
        pair: the field of a sample whose value two samples share: those are a pair. The first
            caption of each is asked.
        kind: a field that says what kind of pair it is (Winoground's `collapsed_tag`), for figures
            of each kind; "" for none.
        benchmark: what the pairs are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: pairs kept for the report.
    """

    pair: str = "pair"
    kind: str = "collapsed_tag"
    benchmark: str | None = None
    examples: int = 8


class Winoground:
    """Text, image and group score of pairs (Thrush et al. 2022).

    With s(c, i) the cosine of caption c and image i: the text score asks that each image prefers
    its own caption, the image score that each caption prefers its own image, the group score both.
    Ties count by the expectation over their orders, so a constant encoder scores 1/4, 1/4 and 1/6.

    Nothing stands for a guess from texts alone: each caption is right once and wrong once, so
    whoever does not look at the images has a text score of 0. Where images have more captions, the
    figures with (oracle) put their mean in the image's place.

    Pairs that show the same image are counted as alike in the intervals.
    """

    version = 1
    primary = "group score"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.protocol = f"pairs by {config.pair!r}, first captions; oracle: mean of other captions"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every pair of `source`.

        Raises:
            DataError: no sample has the field, no two samples share its value, or no image can be
                read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        images = Images(encoder, source)
        pairs, left = _pairs(images, self.config, source.name)
        texts = [side.captions[0] for pair in pairs for side in pair.sides]
        z, place = encode_distinct(encoder, texts)
        z_text = z[place].reshape(len(pairs), 2, -1).astype(np.float64)
        z_image = np.stack([[side.z for side in pair.sides] for pair in pairs]).astype(np.float64)
        answers = _Answers(pairs)
        found = np.einsum("pid,pcd->pic", z_image, z_text)
        answers.figures(found)
        other, has = _others(encoder, pairs)
        if has.any():
            answers.figures(np.einsum("pid,pcd->pic", other, z_text), " (oracle)", has)
        alike = int((np.abs(z_text[:, 0] - z_text[:, 1]).max(axis=1) <= metrics.TIE).sum())
        counts = {"images": 2 * len(pairs), "items": len(pairs), "ties": answers.ties} | left
        notes = [f"ties, counted by expectation: {answers.ties}"] if answers.ties else []
        if alike:
            counts["pairs whose captions have one vector"] = alike
            notes.append(
                f"{alike} of {len(pairs)} pairs have captions with the same vector: this text "
                "space can't tell them apart, whatever the images"
            )
        if has.any() and not has.all():
            counts["pairs without other captions"] = int((~has).sum())
        return EvalResult(
            evaluation="winoground",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=answers.found,
            counts=counts | images.counts(),
            chance=1 / 6,
            notes=tuple(notes) + images.notes() + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(pairs, found, answers.credit, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )


@dataclass(frozen=True, eq=False)
class _Side:
    """One image of a pair, its captions (its own is the first), and its place in the source."""

    key: str
    index: int
    content: int
    captions: tuple[str, ...]
    z: np.ndarray


@dataclass
class _Pair:
    name: str
    kind: str
    sides: list[_Side] = field(default_factory=list)


def _pairs(images: Images, config: Config, name: str) -> tuple[list[_Pair], dict[str, int]]:
    """Return the pairs in the order of the source, and how many images are in none."""
    told: dict[str, _Pair] = {}
    without = 0
    for numbers, samples, z_image in images:
        content = images.content[-len(samples) :]
        for at, sample in enumerate(samples):
            value = sample.fields.get(config.pair, "").strip()
            if not value or not sample.captions:
                without += 1
                continue
            pair = told.setdefault(value, _Pair(value, sample.fields.get(config.kind, "")))
            pair.sides.append(
                _Side(sample.key, numbers[at], content[at], _texts(sample), z_image[at])
            )
    pairs = [pair for pair in told.values() if len(pair.sides) == 2]
    if not pairs:
        raise DataError(
            f"{name} holds no two images with the same {config.pair!r} field and a caption each, "
            "so there is nothing to match; name the field that pairs them (pair=FIELD)."
        )
    alone = sum(len(pair.sides) for pair in told.values()) - 2 * len(pairs)
    left = {"images of no pair": without, "images whose pair has not two": alone}
    return pairs, {words: number for words, number in left.items() if number}


def _texts(sample: Sample) -> tuple[str, ...]:
    """Return the first caption, and the others that say something else."""
    first, *rest = (caption.text for caption in sample.captions)
    return (first, *(text for text in dict.fromkeys(rest) if clean(text) != clean(first)))


def credits(
    found: Float[np.ndarray, "p 2 2"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Return the credit of each pair: group, text and image score.

    Args:
        found: cosines, images by captions; image i's own caption is caption i.

    The group score asks that both right cosines are above both wrong ones. With p right and n
    wrong ones tied at the edge its credit is 1 / C(p + n, n): 1/6 where all four are equal.
    """
    right = found[:, (0, 1), (0, 1)]
    text = _beats(right, found[:, (0, 1), (1, 0)]).prod(axis=1)
    image = _beats(right, found[:, (1, 0), (0, 1)]).prod(axis=1)
    edge = found[:, (0, 1), (1, 0)].max(axis=1, keepdims=True)
    wrong = found[:, (0, 1), (1, 0)]
    tied = (np.abs(right - edge) <= metrics.TIE).sum(axis=1)
    others = (np.abs(wrong - edge) <= metrics.TIE).sum(axis=1)
    shares = np.array([[1.0, 1.0, 1.0], [1.0, 1 / 2, 1 / 3], [1.0, 1 / 3, 1 / 6]])
    lost = (right < edge - metrics.TIE).any(axis=1)
    return np.where(lost, 0.0, shares[tied, others]), text, image


def _beats(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    lead = right - wrong
    return np.where(np.abs(lead) <= metrics.TIE, 0.5, (lead > 0).astype(np.float64))


def _others(
    encoder: Encoder, pairs: list[_Pair]
) -> tuple[Float64[np.ndarray, "p 2 d"], np.ndarray]:
    """Return the unit mean of each image's other captions, and which pairs have them twice."""
    has = np.array([all(len(side.captions) > 1 for side in pair.sides) for pair in pairs])
    if not has.any():
        return np.empty((len(pairs), 2, 0)), has
    chosen = [side for pair, there in zip(pairs, has, strict=True) if there for side in pair.sides]
    told = [(n, text) for n, side in enumerate(chosen) for text in side.captions[1:]]
    z, place = encode_distinct(encoder, [text for _, text in told])
    sums = np.zeros((len(chosen), z.shape[1]))
    np.add.at(sums, [n for n, _ in told], z[place].astype(np.float64))
    means = np.zeros((len(pairs), 2, z.shape[1]))
    means[has] = unit(torch.from_numpy(sums)).numpy().reshape(-1, 2, z.shape[1])
    return means, has


class _Answers:
    """The figures of all pairs, and of each kind."""

    def __init__(self, pairs: list[_Pair]) -> None:
        self._kinds = np.array([pair.kind for pair in pairs])
        contents = np.array([[side.content for side in pair.sides] for pair in pairs])
        self._contents = contents
        self.found: dict[str, Metric] = {}
        self.credit = np.empty(0)
        self.ties = 0

    def figures(self, scores: np.ndarray, end: str = "", mine: np.ndarray | None = None) -> None:
        """Take the cosines of all pairs; those that are not `mine` are left out."""
        mine = np.ones(len(scores), dtype=np.bool_) if mine is None else mine
        found = credits(scores)
        if not end:
            self.credit = found[0]
            every = np.stack(found)
            self.ties = int(((every > 0) & (every < 1)).any(axis=0).sum())
        for name, credit in zip(_SCORES, found, strict=True):
            self.found[f"{name}{end}"] = self._share(credit, mine)
        kinds = [str(kind) for kind in np.unique(self._kinds) if kind]
        for kind in kinds if len(kinds) > 1 else ():
            here = mine & (self._kinds == kind)
            if here.any():
                self.found[f"{_SCORES[0]}/{kind}{end}"] = self._share(found[0], here)

    def _share(self, credit: np.ndarray, mine: np.ndarray) -> Metric:
        contents = self._contents[mine]
        if len(np.unique(contents)) == contents.size:
            return metrics.share(credit[mine])
        alike = metrics.Alike(np.repeat(np.arange(len(contents)), 2), contents.reshape(-1))
        return metrics.share(credit[mine], alike=alike)


def _examples(
    pairs: list[_Pair], found: np.ndarray, credit: np.ndarray, count: int
) -> tuple[Mapping[str, Any], ...]:
    """Return a few pairs as plain JSON values; `scores` are images by captions."""
    return tuple(
        {
            "key": pairs[at].sides[0].key,
            "index": pairs[at].sides[0].index,
            "other_key": pairs[at].sides[1].key,
            "other_index": pairs[at].sides[1].index,
            "item": at,
            "pair": pairs[at].name,
            "captions": [side.captions[0] for side in pairs[at].sides],
            "scores": [[round(float(value), 4) for value in row] for row in found[at]],
            "right": bool(credit[at] == 1.0),
        }
        for at in metrics.chosen(credit == 1.0, count)
    )


def build(config: Config) -> Winoground:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples, or no field of pairs.
    """
    if config.examples < 0:
        raise ConfigError(f"winoground.examples must be 0 or more, not {config.examples}.")
    if not config.pair:
        raise ConfigError("winoground.pair needs the name of the field that pairs two images.")
    return Winoground(config)
