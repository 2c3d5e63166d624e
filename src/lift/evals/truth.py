"""Tell whether a sentence is true of an image, by one number: their cosine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from lift.errors import ConfigError, DataError
from lift.evals import _choice as choice
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, encode_distinct
from lift.evals._labelled import label_of
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Sample, Source
from lift.text.encoder import clean

_TRUE = ("true", "1", "yes")
_FALSE = ("false", "0", "no")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the evaluation of truth.

    Attributes:
        sentence: the field of a sample, or the role of its caption, with the sentence.
        label: the field that says whether it is true of the image: true or false, 1 or 0, yes or
            no.
        benchmark: what the sentences are, for the warning about captions that the text encoder
            saw; None guesses from the source's name.
        examples: items kept for the report.
    """

    sentence: str = "sentence"
    label: str = "label"
    benchmark: str | None = None
    examples: int = 8


class Truth:
    """How well the cosine of image and sentence says whether the sentence is true (as in NLVR).

    - AUC: the chance that a true pair scores higher than a false one, equal scores half
      (Mann-Whitney). Its interval is DeLong's (1988), with images and sentences as clusters.
    - accuracy: share of pairs on the right side of a threshold that was fitted on other sentences.
    - accuracy (majority): what always saying the commoner answer scores.
    - which image fits: of a true and a false image of one sentence, the share where the true one
      scores higher; every sentence counts once, chance is 1/2. No word of the sentence can help.
    - AUC (blind): the same from a linear fit on the sentences alone, across sentences; its
      interval takes the fits as given.
    """

    version = 1
    primary = "AUC"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.protocol = (
            f"cosine of {config.sentence!r} against {config.label!r}; threshold and blind (ridge "
            f"{choice.RIDGE:g}) from other sentences, {choice.FOLDS} folds"
        )

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every labelled sentence of `source`.

        Raises:
            DataError: a field is missing, a label is neither true nor false, all labels are alike,
                or no image can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        items, images = _items(encoder, source, self.config)
        every, alone = np.arange(len(items.true)), len(items.sentences) == 1
        figures = {
            "AUC": items.share(influence(items.score, items.true), every),
            **({} if alone else {"accuracy": items.share(_accuracy(items), every)}),
            "accuracy (majority)": _majority(items),
            **_fits(items),
            **_blind(items),
        }
        counts = {
            "images": len(np.unique(items.content)),
            "items": len(items.true),
            "true": int(items.true.sum()),
            "sentences": len(items.z_sentence),
        }
        if items.without:
            counts["images without a label"] = items.without
        notes = ["there is one sentence only, so no other sets a threshold"] if alone else []
        if "which image fits" not in figures:
            notes.append("no sentence is told of a true and a false image: which fits is not asked")
        guess = figures.get("AUC (blind)")
        if guess is not None and guess.low > 0.5:
            notes.append(
                f"truth is guessable without the image: AUC {guess.value:.3f} from the sentences "
                "alone, where chance is 0.5"
            )
        return EvalResult(
            evaluation="truth",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=figures,
            counts=counts | images.counts(),
            chance=0.5,
            notes=tuple(notes) + images.notes() + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(items, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )


@dataclass(frozen=True, eq=False)
class _Items:
    """Images with a sentence each, and whether it is true.

    Attributes:
        keys, numbers: of the images.
        content: a number for each image, equal where the bytes are.
        sentences: the distinct ones, and
        z_sentence: their vectors.
        sentence: of each item, among those.
        true: the labels.
        score: cosine of image and sentence.
        without: images without a label or a sentence.
    """

    keys: list[str]
    numbers: list[int]
    content: Int64[np.ndarray, " n"]
    sentences: list[str]
    z_sentence: Float[np.ndarray, "s d"]
    sentence: Int64[np.ndarray, " n"]
    true: Bool[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    without: int

    def share(
        self, values: np.ndarray, at: np.ndarray, weights: np.ndarray | None = None
    ) -> Metric:
        """Return the mean over some items; those of one sentence, or one image, belong together.

        Sentences are the clusters that two models are compared by: there are fewer of them.
        """
        content = self.content[at]
        alone = len(np.unique(content)) == len(content)
        alike = None if alone else metrics.Alike(np.arange(len(content)), content)
        return metrics.share(values, weights, self.sentence[at], alike)


def _items(encoder: Encoder, source: Source, config: Config) -> tuple[_Items, Images]:
    def look(samples: Sequence[Sample]) -> None:
        for sample in samples:
            label_of(sample, source, config.label)
            label_of(sample, source, config.sentence)

    images = Images(encoder, source, look)
    keys: list[str] = []
    numbers: list[int] = []
    content: list[int] = []
    told: list[str] = []
    true: list[bool] = []
    rows: list[np.ndarray] = []
    without = 0
    for places, samples, z_image in images:
        contents = images.content[-len(samples) :]
        for at, sample in enumerate(samples):
            label = label_of(sample, source, config.label).lower()
            text = clean(label_of(sample, source, config.sentence))
            if not label or not text:
                without += 1
                continue
            true.append(_is_true(label, sample.key, source.name))
            told.append(text)
            keys.append(sample.key)
            numbers.append(places[at])
            content.append(contents[at])
            rows.append(z_image[at])
    truth = np.array(true, dtype=np.bool_)
    if truth.all() or not truth.any():
        raise DataError(
            f"{source.name} holds no {'false' if len(truth) and truth.all() else 'true'} sentence "
            f"by its {config.label!r}, so truth can't be told from anything."
        )
    z, place = encode_distinct(encoder, told)
    score = np.einsum("nd,nd->n", np.stack(rows), z[place]).astype(np.float64)
    contents = np.array(content, dtype=np.int64)
    distinct = list(dict.fromkeys(told))
    return _Items(keys, numbers, contents, distinct, z, place, truth, score, without), images


def _is_true(label: str, key: str, name: str) -> bool:
    if label in _TRUE or label in _FALSE:
        return label in _TRUE
    raise DataError(
        f"Sample {key!r} of {name} has the label {label!r}, which is neither true nor false (nor "
        "1 or 0, yes or no)."
    )


# --- the area under the curve -------------------------------------------------------------------


def influence(
    score: Float[np.ndarray, " n"], true: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return a number for each item whose mean is the area under the ROC curve.

    It is the area plus what the item adds to it: N / m (V - area), with V its placement and m the
    size of its own class. The variance of their mean is DeLong's (1988), so items can be clustered,
    and models paired, as items of any mean are. Single values may lie outside [0, 1].
    """
    place = placements(score, true)
    area = float(place[true].mean())
    own = np.where(true, true.sum(), (~true).sum())
    return area + len(score) / own * (place - area)


def placements(
    score: Float[np.ndarray, " n"], true: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the share of the other class that each item is on the right side of.

    Equal scores count half. The mean over either class is the area under the ROC curve.
    """
    found = np.empty(len(score))
    found[true] = _below(score[true], np.sort(score[~true]))
    found[~true] = 1.0 - _below(score[~true], np.sort(score[true]))
    return found


def _below(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the share of the other values (sorted) that lie below each value, equal ones half."""
    first = np.searchsorted(other, values - metrics.TIE, side="left")
    last = np.searchsorted(other, values + metrics.TIE, side="right")
    return (first + (last - first) / 2) / len(other)


# --- other figures ------------------------------------------------------------------------------


def threshold(score: Float[np.ndarray, " n"], true: Bool[np.ndarray, " n"]) -> float:
    """Return where to cut: above it, most of the items are true; the first best place from below.

    It lies halfway between two scores, or beyond all of them.
    """
    order = np.argsort(score, kind="stable")
    values = score[order]
    # Right answers when everything from place k on is called true.
    right = np.concatenate([[0], np.cumsum(~true[order])])
    right = right + np.concatenate([np.cumsum(true[order][::-1])[::-1], [0]])
    parted = np.concatenate([[True], np.diff(values) > metrics.TIE, [True]])
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    return float(cuts[int(np.argmax(np.where(parted, right, -1)))])


def _accuracy(items: _Items) -> Float[np.ndarray, " n"]:
    """Return who is on the right side of a threshold that other sentences set."""
    fold = choice.folds(items.sentence)
    right = np.empty(len(fold))
    for number in range(int(fold.max()) + 1):
        judged = fold == number
        cut = threshold(items.score[~judged], items.true[~judged])
        right[judged] = (items.score[judged] > cut) == items.true[judged]
    return right


def _majority(items: _Items) -> Metric:
    most = items.true.mean() >= 0.5
    return items.share((items.true == most).astype(np.float64), np.arange(len(items.true)))


def _fits(items: _Items) -> dict[str, Metric]:
    """Return how often the true one of two images of one sentence scores higher."""
    order = np.argsort(items.sentence, kind="stable")
    bounds = np.flatnonzero(np.diff(items.sentence[order])) + 1
    credit: list[float] = []
    images: list[np.ndarray] = []
    for group in np.split(order, bounds):
        true = items.true[group]
        if true.any() and not true.all():
            low = np.sort(items.score[group][~true])
            credit.append(float(_below(items.score[group][true], low).mean()))
            images.append(np.unique(items.content[group]))
    if not credit:
        return {}
    # Two sentences about the same images are one cluster.
    owner = np.repeat(np.arange(len(images)), [len(group) for group in images])
    alike = metrics.Alike(owner, np.concatenate(images))
    return {"which image fits": metrics.share(np.array(credit), alike=alike)}


def _blind(items: _Items) -> dict[str, Metric]:
    """Return the area under the curve of a guess from the sentences alone.

    Within each fold, because the offset of a fit is lower where more of the fold is true.
    """
    fold = choice.folds(items.sentence)
    z, aim = items.z_sentence[items.sentence].astype(np.float64), np.where(items.true, 1.0, -1.0)
    values, weights, kept = [], [], []
    for number in range(int(fold.max()) + 1):
        judged = np.flatnonzero(fold == number)
        taught = fold != number
        true = items.true[judged]
        if not taught.any() or true.all() or not true.any():
            continue
        mean = z[taught].mean(axis=0)
        w = choice.ridge(z[taught] - mean, aim[taught] - aim[taught].mean())
        length = float(np.linalg.norm(w))
        score = (z[judged] - mean) @ (w / length if length > 0 else w)
        values.append(influence(score, true))
        weights.append(np.full(len(judged), true.sum() * (~true).sum() / len(judged)))
        kept.append(judged)
    if not kept:
        return {}
    found = items.share(np.concatenate(values), np.concatenate(kept), np.concatenate(weights))
    return {"AUC (blind)": found}


def _examples(items: _Items, count: int) -> tuple[Mapping[str, Any], ...]:
    """Return a few items as plain JSON values; a right one is above half of the other class."""
    right = placements(items.score, items.true) > 0.5
    return tuple(
        {
            "key": items.keys[at],
            "index": items.numbers[at],
            "item": at,
            "query": items.sentences[items.sentence[at]],
            "label": bool(items.true[at]),
            "score": round(float(items.score[at]), 4),
            "right": bool(right[at]),
        }
        for at in metrics.chosen(right, count)
    )


def build(config: Config) -> Truth:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples.
    """
    if config.examples < 0:
        raise ConfigError(f"truth.examples must be 0 or more, not {config.examples}.")
    return Truth(config)
