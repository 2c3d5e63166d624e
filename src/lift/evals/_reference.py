"""The three questions of the LIFT paper's evaluation, asked with or without each of its quirks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

from lift.bank import Bank
from lift.errors import DataError
from lift.evals import _metrics as metrics
from lift.evals._changes import BROKEN, FORMATS
from lift.evals._encode import encode_distinct
from lift.evals._labelled import label_of
from lift.evals._pairs import Pairs, collect, of_images
from lift.evals._recalls import TO_IMAGE, TO_TEXT, asked, both_ways
from lift.terms import Encoder, Foil, Metric, Sample, Source

QUIRKS = {
    "pixels": "ImageNet's pixel statistics instead of the model's",
    "first_caption": "the first caption of each image only",
    "one_prompt": "one prompt",
    "duplicate_names": "classes of one name kept apart, the first of them answered",
    "errors_wrong": "images without three channels or that can't be read count as wrong",
}
"""What the reference does, by the name of the option; of `lift-paper.md` 4.3."""


@dataclass(frozen=True)
class Encoded:
    """The images that could be encoded, by their number in the source.

    Attributes:
        rows: the vector of each.
        same: a number for each, equal where the bytes are.
    """

    rows: Mapping[int, np.ndarray]
    same: Mapping[int, int]

    def clusters(self, numbers: Iterable[int]) -> Int64[np.ndarray, " n"]:
        """Return a number for each image, also of those that could not be encoded."""
        found = [self.same.get(int(number), -1 - int(number)) for number in numbers]
        return np.array(found, dtype=np.int64)


@dataclass
class Judged:
    """Figures of one setting of the quirks.

    Attributes:
        metrics: by name, the primary one first.
        sure: which items of the primary figure were surely right.
        examples: from the number of such an item to what the report shows of it.
        chance: of guessing, on the primary figure.
        counts: what was asked.
        notes: what must be known.
    """

    metrics: dict[str, Metric]
    sure: np.ndarray
    chance: float
    counts: dict[str, int]
    examples: Any
    notes: tuple[str, ...] = ()


@runtime_checkable
class Task(Protocol):
    """One question; the kinds of them have `quirks` (those with a part in it) and `primary`."""

    def look(self, samples: Sequence[Sample]) -> None:
        """Refuse samples that can't be asked about, before they are encoded."""
        ...

    def see(self, number: int, sample: Sample) -> None:
        """Take what is asked about an image of the source, whether it can be encoded or not."""
        ...

    def judge(self, encoder: Encoder, images: Encoded, on: Mapping[str, bool]) -> Judged:
        """Return the figures under some quirks."""
        ...


class Retrieval:
    """Images and captions find each other; only an image's own captions are right for it."""

    quirks = ("pixels", "first_caption")
    primary = f"{TO_IMAGE}/R@1"

    def __init__(self, source: Source) -> None:
        """Read the captions. Raises DataError where there are none."""
        self._source = source
        self._all = collect(source, None, first_only=False)
        self._vectors: np.ndarray | None = None

    def look(self, samples: Sequence[Sample]) -> None:
        """Any image can be searched."""

    def see(self, number: int, sample: Sample) -> None:
        """Captions are known beforehand."""

    def judge(self, encoder: Encoder, images: Encoded, on: Mapping[str, bool]) -> Judged:
        if self._vectors is None:
            vectors, place = encode_distinct(encoder, self._all.texts)
            self._vectors = vectors[place]
        pairs, kept = of_images(self._all, list(images.rows), self._source)
        if on["first_caption"]:
            first = np.unique(pairs.owner, return_index=True)[1]
            texts = [pairs.texts[int(c)] for c in first]
            pairs = Pairs(pairs.numbers, pairs.keys, texts, pairs.owner[first], pairs.same[first])
            kept = kept[first]
        z_image = np.stack(list(images.rows.values()))
        spots = both_ways(pairs, self._vectors[kept], z_image, own_only=True)
        same = images.clusters(pairs.numbers)
        clusters = {TO_TEXT: same[asked(pairs)], TO_IMAGE: same[pairs.owner]}
        found = {}
        for way in (TO_IMAGE, TO_TEXT):
            for k in (1, 5, 10):
                credit = metrics.recall_at_k(spots[way], k)
                found[f"{way}/R@{k}"] = metrics.share(credit, None, clusters[way])
        spot = spots[TO_IMAGE]
        sure, rank = (spot.ahead == 0) & (spot.tied == 1), metrics.ranks(spot)

        def example(item: int) -> dict[str, Any]:
            at = int(pairs.owner[item])
            told = {"query": pairs.texts[item], "key": pairs.keys[at], "index": pairs.numbers[at]}
            return told | {"rank": float(rank[item])}

        counts = {"images": len(pairs.keys), "captions": len(pairs.texts)}
        return Judged(found, sure, 1 / len(pairs.keys), counts, example)


@dataclass(frozen=True)
class Class:
    """A class of images: its number (or name) in the data, and its name."""

    number: str
    name: str


@dataclass
class ZeroShot:
    """The class of an image is told from the names of the classes."""

    source: Source
    label: str
    number: str
    templates: tuple[str, ...]
    quirks: tuple[str, ...] = ("pixels", "one_prompt", "duplicate_names")
    primary: str = "top-1"
    _of: dict[int, Class] = field(default_factory=dict)
    _keys: dict[int, str] = field(default_factory=dict)

    def look(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            label_of(sample, self.source, self.label)

    def see(self, number: int, sample: Sample) -> None:
        if name := label_of(sample, self.source, self.label):
            self._of[number] = Class(sample.fields.get(self.number, name), name)
            self._keys[number] = sample.key

    def judge(self, encoder: Encoder, images: Encoded, on: Mapping[str, bool]) -> Judged:
        numbers = [number for number in images.rows if number in self._of]
        if not numbers:
            raise DataError(f"{self.source.name} has an empty {self.label!r} for every image.")
        classes = sorted({self._of[n] for n in numbers}, key=lambda c: (_order(c.number), c.name))
        names = list(dict.fromkeys(c.name for c in classes))
        first = {name: next(c for c in classes if c.name == name) for name in names}
        templates = self.templates[:1] if on["one_prompt"] else self.templates
        bank = Bank.of_names(encoder, names, list(templates))
        own = [self._of[n] for n in numbers]
        truth = np.array([names.index(c.name) for c in own])
        spot = metrics.places(
            bank.scores(np.stack([images.rows[n] for n in numbers])),
            truth[:, None] == np.arange(len(names)),
        )
        # Of classes with one name, and so one vector, the reference's argmax is the first.
        told = np.array([not on["duplicate_names"] or first[c.name] == c for c in own])
        credit = metrics.recall_at_k(spot, 1) * told
        found = {"top-1": metrics.share(credit, None, images.clusters(numbers))}
        sure = (spot.ahead == 0) & (spot.tied == 1) & told

        def example(item: int) -> dict[str, Any]:
            number = numbers[item]
            return {"key": self._keys[number], "index": number, "label": own[item].name}

        shared = len(classes) - len(names)
        counts = {"images": len(numbers), "classes": len(classes)}
        notes = ()
        if shared:
            counts["classes with the name of another"] = shared
            double = [n for n in names if sum(c.name == n for c in classes) > 1]
            notes = (f"class names of several classes: {', '.join(double[:5])}",)
        chance = float(told.mean()) / len(names)
        return Judged(found, sure, chance, counts, example, notes)


def _order(number: str) -> tuple[int, int, str]:
    return (0, int(number), "") if number.isascii() and number.isdigit() else (1, 0, number)


@dataclass(frozen=True)
class _Question:
    image: int
    key: str
    foil: Foil


class Compositional:
    """The right caption of an image against a foil, and the mean over kinds of foils."""

    quirks = ("pixels", "errors_wrong")
    primary = "accuracy/mean of kinds"

    def __init__(self, source: Source) -> None:
        self._source = source
        self._asked: list[_Question] = []
        self._strange: set[int] = set()
        self._vectors: np.ndarray | None = None

    def look(self, samples: Sequence[Sample]) -> None:
        """Images without foils are counted by what is asked."""

    def see(self, number: int, sample: Sample) -> None:
        self._asked += [_Question(number, sample.key, foil) for foil in sample.foils]
        if sample.foils and not has_three_channels(sample.image):
            self._strange.add(number)

    def judge(self, encoder: Encoder, images: Encoded, on: Mapping[str, bool]) -> Judged:
        if not self._asked:
            raise DataError(f"{self._source.name} holds no foils (wrong captions to compare with).")
        if self._vectors is None:
            texts = [t for q in self._asked for t in (q.foil.caption, q.foil.foil)]
            vectors, place = encode_distinct(encoder, texts)
            self._vectors = vectors[place].reshape(len(self._asked), 2, -1)
        wrong = on["errors_wrong"]
        failed = {q.image for q in self._asked if q.image not in images.rows}
        failed |= self._strange if wrong else set()
        mine = [at for at, q in enumerate(self._asked) if wrong or q.image in images.rows]
        if not mine:
            raise DataError(f"No image of {self._source.name} that has a foil can be read.")
        credit = np.array([self._credit(at, images.rows, failed) for at in mine])
        questions = [self._asked[at] for at in mine]
        same = images.clusters(q.image for q in questions)
        kinds, kind = np.unique([q.foil.kind for q in questions], return_inverse=True)
        found = {self.primary: metrics.share(credit, metrics.class_weights(kind), same)}
        for at, name in enumerate(kinds):
            own = kind == at
            found[f"accuracy/{name}"] = metrics.share(credit[own], None, same[own])

        def example(item: int) -> dict[str, Any]:
            foil = questions[item].foil
            told = {"key": questions[item].key, "index": questions[item].image}
            return told | {"kind": foil.kind, "caption": foil.caption, "foil": foil.foil}

        counts = {"images": len({q.image for q in questions}), "items": len(mine)}
        if failed and wrong:
            counts["images that the reference fails on"] = len(failed)
        return Judged(found, credit == 1, 0.5, counts, example)

    def _credit(self, at: int, rows: Mapping[int, np.ndarray], failed: set[int]) -> float:
        """Return 1 where the caption wins, 0 where the foil does or nothing can, 0.5 for a tie."""
        question = self._asked[at]
        if question.image in failed:
            return 0.0
        assert self._vectors is not None
        caption, foil = (float(z @ rows[question.image]) for z in self._vectors[at])
        return 0.5 if abs(caption - foil) <= metrics.TIE else float(caption > foil)


def has_three_channels(content: bytes) -> bool:
    """Return whether an image's file has three values a pixel, as the reference needs it to.

    It does not convert pictures: grey ones, palettes, and those with transparency fail when they
    are normalised. What can't be opened fails, too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return len(image.getbands()) == 3
    except BROKEN:
        return False
