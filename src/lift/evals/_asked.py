"""Questions about one set of images that are asked again after the images were changed."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lift.bank import Bank
from lift.errors import DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import encode_distinct
from lift.evals._labelled import label_of, numbered, surely_first
from lift.evals._pairs import collect, of_images
from lift.evals._recalls import TO_IMAGE, TO_TEXT, asked, both_ways
from lift.terms import Encoder, Sample, Source

_SIDES = re.compile(r"\b(left|right)(most|wards?|hand)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Scored:
    """What one set of images scored.

    Attributes:
        credit: by name of the figure: of each item.
        spot: where the first right answer stands to the items of the primary figure.
        sure: which of these were surely answered right.
    """

    credit: dict[str, np.ndarray]
    spot: metrics.Places
    sure: np.ndarray


@runtime_checkable
class Task(Protocol):
    """What is asked about the images; figures are named in `names`, the primary one first."""

    @property
    def names(self) -> tuple[str, ...]: ...
    def look(self, samples: Sequence[Sample]) -> None:
        """Refuse samples that can't be asked about, before they are encoded."""
        ...

    def see(self, number: int, sample: Sample) -> None:
        """Take what is asked of an image, which has been encoded."""
        ...

    def wrong_text(self, number: int) -> str:
        """Return a text that is wrong for an image of the source."""
        ...

    def keep(self, numbers: list[int]) -> None:
        """Ask about these images only."""
        ...

    def score(self, encoder: Encoder, z_image: np.ndarray) -> Scored: ...
    def clusters(self, name: str, content: np.ndarray | None) -> np.ndarray | None: ...
    def counts(self) -> dict[str, int]: ...
    def example(self, item: int) -> dict[str, Any]: ...
    def chance(self) -> float: ...


class Captions:
    """Images and captions find each other."""

    names = (f"{TO_IMAGE}/R@10", f"{TO_TEXT}/R@10")

    def __init__(self, source: Source, role: str | None) -> None:
        """Read the captions of a role (None: all). Raises DataError where there are none."""
        self._pairs = self._all = collect(source, role, first_only=False)
        self._captions = np.arange(len(self._pairs.texts))
        first = np.unique(self._pairs.owner, return_index=True)[1]
        self._firsts = {int(self._all.owner[c]): int(c) for c in first}
        self._place: dict[int, int] = {}
        self._told: list[tuple[int, int]] = []
        self._own: dict[int, set[int]] = {}
        for owner, same in zip(self._all.owner, self._all.same, strict=True):
            self._own.setdefault(int(owner), set()).add(int(same))
        self._source, self._vectors = source, None

    def look(self, samples: Sequence[Sample]) -> None:
        """Any image can be asked about."""

    def see(self, number: int, sample: Sample) -> None:
        """Take an image whose captions may be wrong for others; the captions are known."""
        self._place[number] = len(self._place)
        if number in self._firsts:
            self._told.append((self._place[number], self._firsts[number]))

    def wrong_text(self, number: int) -> str:
        """Return the first caption of another image, half of the images away or further."""
        far = (self._place.get(number, 0) + len(self._place) // 2) % max(len(self._place), 1)
        start = bisect.bisect_left(self._told, (far, -1))
        for _, other in (*self._told[start:], *self._told[:start]):
            if int(self._all.same[other]) not in self._own.get(number, set()):
                return self._all.texts[other]
        return ""

    def keep(self, numbers: list[int]) -> None:
        self._pairs, self._captions = of_images(self._all, numbers, self._source)

    def score(self, encoder: Encoder, z_image: np.ndarray) -> Scored:
        if self._vectors is None:
            vectors, place = encode_distinct(encoder, self._pairs.texts)
            self._vectors = vectors[place]
        spots = both_ways(self._pairs, self._vectors, z_image)
        credit = {f"{way}/R@10": metrics.recall_at_k(spot, 10) for way, spot in spots.items()}
        spot = spots[TO_IMAGE]
        return Scored(credit, spot, metrics.recall_at_k(spot, 10) >= 1)

    def clusters(self, name: str, content: np.ndarray | None) -> np.ndarray | None:
        if name.startswith(TO_IMAGE):
            return self._pairs.owner if content is None else content[self._pairs.owner]
        return None if content is None else content[asked(self._pairs)]

    def counts(self) -> dict[str, int]:
        sides = sum(_SIDES.search(text) is not None for text in self._pairs.texts)
        told = {"captions with left or right": sides} if sides else {}
        return {"captions": len(self._pairs.texts)} | told

    def example(self, item: int) -> dict[str, Any]:
        image = int(self._pairs.owner[item])
        return {
            "query": self._pairs.texts[item],
            "key": self._pairs.keys[image],
            "index": self._pairs.numbers[image],
        }

    def chance(self) -> float:
        """Return the recall of guessing among the images."""
        images_of = np.unique(np.stack([self._pairs.same, self._pairs.owner]), axis=1)[0]
        right = np.bincount(images_of)[self._pairs.same]
        return metrics.chance_at_k(len(self._pairs.keys), right, 10)


class Labels:
    """Images are named by their class."""

    names = ("top-1",)

    def __init__(self, source: Source, label: str, template: str) -> None:
        """Name what says the class, and the sentence about it."""
        self._source, self._label, self._template = source, label, template
        self._labels: dict[int, str] = {}
        self._keys: dict[int, str] = {}
        self._classes: list[str] = []
        self._numbers: list[int] = []
        self._at: list[int] = []
        self._truth = np.empty(0, np.int64)
        self._unlabelled = 0

    def look(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            label_of(sample, self._source, self._label)

    def see(self, number: int, sample: Sample) -> None:
        self._keys[number] = sample.key
        if label := label_of(sample, self._source, self._label):
            self._labels[number] = label

    def wrong_text(self, number: int) -> str:
        """Return the name of the next class."""
        if not self._classes:
            self._classes = sorted(set(self._labels.values()))
        if number not in self._labels or len(self._classes) < 2:
            return ""
        place = self._classes.index(self._labels[number])
        return self._classes[(place + 1) % len(self._classes)]

    def keep(self, numbers: list[int]) -> None:
        self._unlabelled = sum(number not in self._labels for number in numbers)
        self._at = [at for at, number in enumerate(numbers) if number in self._labels]
        self._numbers = [numbers[at] for at in self._at]
        if not self._numbers:
            raise DataError(f"{self._source.name} has an empty {self._label!r} for every image.")
        self._classes, self._truth = numbered([self._labels[n] for n in self._numbers])

    def score(self, encoder: Encoder, z_image: np.ndarray) -> Scored:
        bank = Bank.of_names(encoder, self._classes, [self._template])
        match = self._truth[:, None] == np.arange(len(self._classes))
        spot = metrics.places(bank.scores(z_image[self._at]), match)
        return Scored({"top-1": metrics.recall_at_k(spot, 1)}, spot, surely_first(spot))

    def clusters(self, name: str, content: np.ndarray | None) -> np.ndarray | None:
        return None if content is None else content[self._at]

    def counts(self) -> dict[str, int]:
        told = {"images without a label": self._unlabelled} if self._unlabelled else {}
        return {"classes": len(self._classes)} | told

    def example(self, item: int) -> dict[str, Any]:
        number = self._numbers[item]
        label = self._classes[int(self._truth[item])]
        return {"key": self._keys[number], "index": number, "label": label}

    def chance(self) -> float:
        return 1 / len(self._classes)
