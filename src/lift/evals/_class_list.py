"""The classes that an image may be of, and which of them a label means."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from lift.errors import DataError, unknown
from lift.terms import Source

Names = tuple[str, ...]
"""What one class is called; the first name stands for it in tables."""

Holds = Literal["name", "number", "code"]
"""What a label says of its class: its first name, its place in the list, or its code (a WordNet
number)."""


@dataclass(frozen=True)
class Sorted:
    """The classes of some labels.

    Attributes:
        classes: those to choose among.
        place: which of them each label means; -1 one that is not among them.
        notes: what must be said of their names.
    """

    classes: list[Names]
    place: Int64[np.ndarray, " n"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ClassList:
    """Where classes come from, and how labels tell them.

    Attributes:
        names: of all classes, in the order in which labels count; None takes the labels' own.
        holds: what a label says.
        codes: of all classes, where labels hold codes.
        only: numbers of the classes that are judged; None takes all.
        called: their names, where they are others than in `names` (in another language).
        present: leave out classes that no label means.
    """

    names: Sequence[Names] | None
    holds: Holds = "name"
    codes: Sequence[str] | None = None
    only: tuple[int, ...] | None = None
    called: tuple[Names, ...] | None = None
    present: bool = False

    @property
    def is_known(self) -> bool:
        """Whether labels can be checked before all of them are there."""
        return self.names is not None or self.only is not None

    def sort(
        self, labels: Sequence[str], keys: Sequence[str], label: str, source: Source
    ) -> Sorted:
        """Return the classes and which of them each label means.

        Args:
            labels, keys: of some samples.
            label: the field of the labels, for messages.
            source: whose samples they are.

        Raises:
            DataError: a label that is no class.
        """
        classes, notes = self._judged(labels)
        known = self._known(classes)
        places = []
        for said, key in zip(labels, keys, strict=True):
            if said not in known and not self._is_other(said):
                where = f"{label} of {source.name} (sample {key!r}):"
                raise unknown(where, said, list(known)[:20], DataError)
            places.append(known.get(said, -1))
        place = np.array(places, dtype=np.int64)
        if self.present:
            used = np.unique(place[place >= 0])
            classes = [classes[number] for number in used.tolist()]
            place = np.where(place < 0, -1, np.searchsorted(used, place))
        return Sorted(classes, place, notes + self._equal_names(classes))

    def _judged(self, labels: Sequence[str]) -> tuple[list[Names], tuple[str, ...]]:
        """Return the classes that are judged; one for equal names where names are the labels."""
        if self.called is not None:
            return list(self.called), ()
        if self.names is None:
            return [(label,) for label in sorted(set(labels))], ()
        classes = list(self.names)
        if self.holds != "name" or not (double := _doubles(classes)):
            return classes, ()
        # A label that is a name can't tell them apart, so they are one class.
        return list({own[0]: own for own in classes}.values()), (f"{_told(double)}: taken as one",)

    def _known(self, classes: Sequence[Names]) -> dict[str, int]:
        """Return the number of the judged class that each label means."""
        if self.only is None:
            return {said: number for number, said in enumerate(self._said(classes))}
        every = [str(number) for number in range(max(self.only) + 1)]
        if self.holds != "number":
            assert self.names is not None or self.codes is not None, "build() looks"
            every = self._said(self.names or ())
        return {every[number]: place for place, number in enumerate(self.only)}

    def _said(self, classes: Sequence[Names]) -> list[str]:
        """Return the labels of all classes, in order."""
        if self.holds == "code":
            return list(self.codes or ())
        if self.holds == "number":
            return [str(number) for number in range(len(classes))]
        return [own[0] for own in classes]

    def _is_other(self, label: str) -> bool:
        """Return whether a label means a class that is not judged."""
        if self.only is None:
            return False
        if self.names is None and self.codes is None:
            return label.isdecimal()
        count = len(self.names or self.codes or ())
        if self.holds == "number":
            return label.isdecimal() and int(label) < count
        return label in self._said(self.names or ())

    def _equal_names(self, classes: Sequence[Names]) -> tuple[str, ...]:
        if (self.names is None and self.called is None) or not (double := _doubles(classes)):
            return ()
        return (f"{_told(double)}: such classes tie and share what they get right",)


def _doubles(classes: Sequence[Names]) -> list[str]:
    counts = collections.Counter(own[0] for own in classes)
    return [name for name, count in counts.items() if count > 1]


def _told(double: Sequence[str]) -> str:
    named = ", ".join(double[:10]) + (", ..." if len(double) > 10 else "")
    return f"{len(double)} class names occur more than once ({named})"
