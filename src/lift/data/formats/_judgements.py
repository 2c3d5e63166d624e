"""Judgements and items joined on disk: which images are samples, and the texts of each."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from lift.data import kinds
from lift.data.formats import _rows
from lift.data.formats._captions import NotText, captions, columns_of
from lift.data.formats._layout import Absent, Bounds, Refuse
from lift.data.formats._ragged import Ragged
from lift.data.formats._tables import values
from lift.data.spilled import Mapped, Spool, room_for
from lift.errors import BrokenSample
from lift.text.keys import KEY, KeyIndex, KeySet, keys_of

SAMPLE = np.dtype([("row", np.int64), ("image", np.int32), ("ordinal", np.int32)])
TEXT = np.dtype([("row", np.int64), ("weight", np.float64), ("role", np.int16)])
QUERY = -1
"""The role's number of a query; others are places in the columns of texts."""

_NO_KEY = b"\xff" * 16
"""Stands for the key of no name."""

_IMAGES_AT_A_TIME = 64
_PIECE = 65_536


@dataclass(frozen=True, kw_only=True)
class Options(Bounds):
    """Which columns of the two tables are joined.

    Attributes:
        query: the judgements' column with the text of the query.
        item: their column with the item.
        grade: their column with a number from 0 on; None counts each judgement as 1.
        min_grade: a lower grade is no positive; nor is 0.
        id: the items' column with their names.
        image: the items' column with a path, bytes, a struct of both, or a list of them.
        text: the items' column(s) with texts of their own, each `NAME` or `NAME:ROLE`.
    """

    query: str = "query"
    item: str = "item"
    grade: str | None = "grade"
    min_grade: float = 0.0
    id: str = "item"
    image: str = "image"
    text: str | tuple[str, ...] = ()


class Join:
    """Everything that is known of the items, on disk.

    Attributes:
        owners: of each row of the items, the first row of the same item.
        texts, facts: texts and queries, each with its row, weight and role.
        told_of: for each first row, the numbers of the item's texts.
        samples: row, image in it, and number of the image among the item's.
        largest: grade.
        tally: what was left out that is no trouble of a file.
    """

    def __init__(self, config: Options, items: _rows.Table, judged: _rows.Table) -> None:
        self._config, self._items, self._judged = config, items, judged
        absent = Absent(strict=config.strict)
        self.tally, self._refuse, self.largest = absent.tally, absent.refuse, 0.0
        index = KeyIndex.on_disk(self._ids())
        with Spool() as owners, Spool() as facts:
            for keys in self._ids():
                owners.append(np.where(keys == _NO_KEY, -1, index.find(keys)))
            self.owners = Mapped(owners, np.int64)
            # One after the other: an item's own texts come first.
            self.texts = Ragged(chain(self._own(facts), self._queries(facts, index)))
            self.facts = Mapped(facts, TEXT)
        self.told_of = Grouped(self.facts.values["row"], len(self.owners.values))

    def _ids(self) -> Iterator[np.ndarray]:
        """Yield the keys of the items' names, row by row."""
        for group in range(len(self._items.groups)):
            for rows in self._items.scan(group, [self._config.id]):
                yield _keys(values(rows.column(0)))

    def _own(self, facts: Spool) -> Iterator[bytes]:
        """Yield the items' own texts, and spool what is known of each."""
        columns = columns_of(self._config.text)
        for group in range(len(self._items.groups) if columns else 0):
            refuse = self._items.refuse(self._items.groups[group].file)
            row = self._items.before[group]
            for rows in self._items.scan(group, [column.name for column in columns]):
                cells = [values(rows.column(place)) for place in range(len(columns))]
                owners = self.owners.values[row : row + rows.num_rows].tolist()
                for place, owner in enumerate(owners):
                    for number, (name, role) in enumerate(columns):
                        value = cells[number][place]
                        if owner < 0 or value is None or value in ("", []):
                            continue  # an item needs no text, and one without a name is told later
                        where = f"{name} of row {row + place:,} of the items"
                        for text in _checked(value, role, where, self._config, refuse):
                            facts.append(np.array([(owner, 1.0, number)], TEXT))
                            yield text.encode()
                row += rows.num_rows

    def _queries(self, facts: Spool, index: KeyIndex) -> Iterator[bytes]:
        """Yield the queries that found something, and spool what is known of each."""
        given = KeySet()
        for group, at in enumerate(self._judged.groups):
            refuse, path = self._judged.refuse(at.file), self._judged.paths[at.file]
            row = at.first
            for rows in self._judged.scan(group, columns_of_judgements(self._config)):
                columns = [values(column) for column in rows.columns]
                keys = _keys(columns[1])
                owners = np.where(keys == _NO_KEY, -1, index.find(keys)).tolist()
                good: list[tuple[int, float, str]] = []
                for place, owner in enumerate(owners):
                    cells = [column[place] for column in columns]
                    where = f"judgement {row + place:,} of {path}"
                    grade = self._grade(cells, owner, where, refuse)
                    if grade > 0:
                        told = _checked(cells[0], "query", where, self._config, refuse)
                        good += [(owner, grade, text) for text in told]
                new = given.add(keys_of([f"{owner} {text}" for owner, _, text in good]))
                self.tally.add(kinds.JUDGED_TWICE, str(path), int((~new).sum()))
                good = [one for one, is_new in zip(good, new.tolist(), strict=True) if is_new]
                self.largest = max([self.largest, *(grade for _, grade, _ in good)])
                facts.append(np.array([(owner, g, QUERY) for owner, g, _ in good], TEXT))
                yield from (text.encode() for _, _, text in good)
                row += rows.num_rows

    def _grade(self, cells: list[Any], owner: int, where: str, refuse: Refuse) -> float:
        """Return a judgement's grade; 0 where it is none, which is counted."""
        if owner < 0:
            refuse(
                kinds.JUDGED_UNKNOWN,
                f"The {where} is of {cells[1]!r:.80}, no known item.",
            )
            return 0.0
        try:
            grade = 1.0 if self._config.grade is None else float(cells[2])
        except (TypeError, ValueError, OverflowError):
            grade = math.nan
        if not 0 <= grade < math.inf:
            refuse(
                kinds.GRADE_BROKEN, f"The {where} has the grade {cells[2]!r:.80}; use 0 or more."
            )
            return 0.0
        if grade == 0 or grade < self._config.min_grade:
            self.tally.add(kinds.JUDGED_NEGATIVE, f"{where} (grade {grade:g})")
            return 0.0
        return grade

    def images(self) -> list[int]:
        """Find the samples; return how many there are in each group of the items."""
        pictured, ordinals = (room_for(len(self.owners.values), np.int32) for _ in range(2))
        pictures, names, groups = KeySet(), KeySet(), []
        with Spool() as samples:
            for group, at in enumerate(self._items.groups):
                before, row = samples.length, self._items.before[group]
                refuse, path = self._items.refuse(at.file), self._items.paths[at.file]
                columns = [self._config.id, self._config.image]
                for rows in self._items.scan(group, columns, _IMAGES_AT_A_TIME):
                    ids, cells = (values(column) for column in rows.columns)
                    owners = self.owners.values[row : row + rows.num_rows].tolist()
                    found = []
                    for place, owner in enumerate(owners):
                        if owner < 0:
                            refuse(kinds.KEY_MISSING, f"{path} has rows without an item's name.")
                            continue
                        pictured[owner] += bool(images := images_of(cells[place]))
                        if len(self.told_of[owner]):
                            found += [(owner, row + place, n, v) for n, v in enumerate(images)]
                    new = pictures.add(keys_of([f"{f[0]} {_digest(f[3])}" for f in found]))
                    self.tally.add(kinds.ITEM_IMAGE_TWICE, str(path), int((~new).sum()))
                    keys, records = [], []
                    for (owner, at_row, number, _), is_new in zip(found, new.tolist(), strict=True):
                        if is_new:
                            ordinals[owner] += 1
                            ordinal = int(ordinals[owner])
                            keys.append(key_of(ids[at_row - row], ordinal))
                            records.append((at_row, number, ordinal))
                    new = names.add(keys_of(keys))
                    samples.append(np.array(records, SAMPLE)[new])
                    for place in np.flatnonzero(~new).tolist():
                        refuse(kinds.KEY_TWICE, f"{path}: {keys[place]!r} names two images.")
                    row += rows.num_rows
                groups.append((samples.length - before) // SAMPLE.itemsize)
            self.samples = Mapped(samples, SAMPLE)
        self._count_idle(pictured)
        return groups

    def _count_idle(self, pictured: np.ndarray) -> None:
        """Count the items that no sample came of."""
        for start in range(0, len(self.owners.values), 65_536):
            owners = self.owners.values[start : start + 65_536]
            first = owners[owners == np.arange(start, start + len(owners))]
            untold = self.told_of.counts(first) == 0
            for kind, idle in (
                (kinds.ITEM_UNTOLD, first[untold]),
                (kinds.ITEM_UNSEEN, first[~untold & (pictured[first] == 0)]),
            ):
                if len(idle):
                    sentence = f"{self._name(int(idle[0]))!r} is an {kind}."
                    self._refuse(kind, sentence)
                    self.tally.add(kind, sentence, len(idle) - 1)

    def _name(self, row: int) -> Any:
        group = bisect_right(self._items.before, row) - 1
        return self._items.row(group, row - self._items.before[group])[self._config.id]


class Grouped:
    """For each of many owners the numbers of what it owns, in order; on disk."""

    def __init__(self, owners: np.ndarray, count: int) -> None:
        """Group the numbers 0, 1, ... by their owners [n], of which there are `count`."""
        starts, ends = room_for(count + 1, np.int64), room_for(count + 1, np.int64)
        for first in range(0, len(owners), _PIECE):
            found, times = np.unique(owners[first : first + _PIECE], return_counts=True)
            starts[found + 1] += times
        for first in range(0, count + 1, _PIECE):
            piece = starts[first : first + _PIECE]
            piece[:1] += starts[first - 1] if first else 0
            np.cumsum(piece, out=piece)
            ends[first : first + _PIECE] = piece
        numbers = room_for(len(owners), np.int64)
        for first in range(0, len(owners), _PIECE):
            piece = owners[first : first + _PIECE]
            order = np.argsort(piece, kind="stable")
            found, begins, times = np.unique(piece[order], return_index=True, return_counts=True)
            rank = np.arange(len(piece)) - np.repeat(begins, times)
            numbers[ends[piece[order]] + rank] = first + order
            ends[found] += times
        self._starts, self._numbers = Mapped.of(starts), Mapped.of(numbers)

    def __getitem__(self, owner: int) -> np.ndarray:
        start, stop = self._starts.values[owner : owner + 2]
        return self._numbers.values[start:stop]

    def counts(self, owners: np.ndarray) -> np.ndarray:
        """Return how much each of some owners owns."""
        return self._starts.values[owners + 1] - self._starts.values[owners]


def columns_of_judgements(config: Options) -> list[str]:
    return [config.query, config.item, *([] if config.grade is None else [config.grade])]


def _keys(names: list[Any]) -> np.ndarray:
    """Return the keys of items' names; `_NO_KEY` where there is none."""
    there = [name not in (None, "") and not isinstance(name, NotText) for name in names]
    keys = keys_of([str(name) if is_so else "" for name, is_so in zip(names, there, strict=True)])
    return np.where(there, keys, np.array(_NO_KEY, KEY))


def key_of(name: Any, ordinal: int) -> str:
    return str(name) if ordinal == 1 else f"{name}/{ordinal}"


def images_of(cell: Any) -> list[Any]:
    """Return the images that a cell holds: none, one, or those of a list."""
    cells = cell if isinstance(cell, list) else [cell]
    return [one for one in cells if one and (not isinstance(one, dict) or any(one.values()))]


def _digest(image: Any) -> str:
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return hashlib.blake2b(image, digest_size=16).hexdigest()
    return ascii(image) if isinstance(image, str) else str(image)


def _checked(value: Any, role: str, where: str, config: Options, refuse: Refuse) -> list[str]:
    """Return the texts of a cell; none where they can't be used, which `refuse` is told."""
    try:
        return [c.text for c in captions(value, role, where, config.max_caption_chars)]
    except BrokenSample as error:
        refuse(error.kind, str(error))
        return []
