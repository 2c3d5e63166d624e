"""What layouts of rows share: which rows are samples, and loading them a chunk at a time."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lift.data import kinds
from lift.data.formats import _tables
from lift.data.formats._captions import NotText
from lift.data.formats._layout import Absent, Bounds, Layout, Refuse
from lift.data.formats._paths import expand, key_prefixes, source_name, whereabouts
from lift.data.formats._recent import Recent
from lift.data.formats._tables import File, Rows
from lift.data.spilled import Mapped, Spool
from lift.data.tally import Tally
from lift.errors import DataError, unknown
from lift.text.keys import KeySet, keys_of


class Group(NamedTuple):
    """A storage group: its file's number, its number there, and rows of the file before it."""

    file: int
    number: int
    first: int


class Table:
    """Files of rows; a few chunks are held at a time.

    Attributes:
        paths: of the files.
        files: the same, opened.
        groups: of all files, in order.
        before: how many rows of all files come before each group.
        row_bytes: what the largest row takes in memory; 0 where all is mapped.
    """

    def __init__(
        self,
        path: str | Sequence[str],
        memory_mb: int,
        strict: bool,
        quote: bool | None = None,
        folders: bool = False,
    ) -> None:
        """Open every file; lines that are no rows are counted, or raised where strict.

        With `folders`, a folder of images is a table with the columns `item` and `image`.
        """
        folder = folders and isinstance(path, str) and os.path.isdir(path)
        self.paths = [Path(str(path))] if folder else expand(path)
        self._left_out = [Absent(strict=strict) for _ in self.paths]
        self.files = [
            _tables.open_file(path, quote, self.refuse(number))
            for number, path in enumerate(self.paths)
        ]
        self.groups: list[Group] = []
        for number, file in enumerate(self.files):
            first = 0
            for group, rows in enumerate(file.groups):
                self.groups.append(Group(number, group, first))
                first += rows
        self.before = [0, *accumulate(self.rows_of(group) for group in range(len(self.groups)))]
        self.row_bytes = max(file.row_bytes for file in self.files)
        self._chunks = [0, *accumulate(file.chunks for file in self.files)]
        self._columns: list[list[str]] = [[] for _ in self.files]
        self._memory = memory_mb << 20
        self.recent = self._fresh()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "recent"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.recent = self._fresh()

    def _fresh(self) -> Recent[Rows]:
        return Recent(self._load, self._memory, lambda rows: rows.nbytes)

    def window(self) -> int | None:
        """Return how many rows in random order fit; None where any order costs the same."""
        if not any(file.row_bytes for file in self.files):
            return None
        # Half of the memory: a window may be longer by one group, and two meet at its ends.
        return max(1, int((self._memory >> 1) / max(1.0, self.row_bytes)))

    def use(self, columns: Callable[[File], Iterable[str]]) -> None:
        """Say which columns `row` returns of each file.

        Raises:
            DataError: a file without one of them.
        """
        for number, file in enumerate(self.files):
            wanted = list(dict.fromkeys(columns(file)))
            if not file.columns and not sum(file.groups):
                continue  # an empty file holds no samples, which says more than a missing column
            for name in wanted:
                if name not in file.columns:
                    raise unknown(f"column of {file.path}:", name, file.columns, DataError)
            self._columns[number] = wanted

    def refuse(self, file: int) -> Refuse:
        """Return what is told (kind, sentence) of everything in a file that is no sample."""
        return self._left_out[file].refuse

    def settled(self, samples: Sequence[int]) -> Tally:
        """Return what was left out of all files.

        Args:
            samples: how many there are in each group.

        Raises:
            DataError: a file that has rows or lines, none of which is a sample.
        """
        found = [0] * len(self.files)
        for group, count in zip(self.groups, samples, strict=True):
            found[group.file] += count
        for file, count, left_out in zip(self.files, found, self._left_out, strict=True):
            if not count and (sum(file.groups) or left_out.tally.counts):
                raise DataError(f"{file.path} holds no samples: {left_out.tally.sentence()}.")
        return self.left_out()

    def left_out(self) -> Tally:
        """Return what was left out of all files so far."""
        both = Tally()
        for left_out in self._left_out:
            both.update(left_out.tally.counts, left_out.tally.first)
        return both

    def rows_of(self, group: int) -> int:
        """Return how many rows a group has."""
        at = self.groups[group]
        return self.files[at.file].groups[at.number]

    def row(self, group: int, row: int) -> dict[str, Any]:
        """Return the columns in use of a group's row."""
        at = self.groups[group]
        chunk, place = self.files[at.file].at(at.number, row)
        rows = self.recent(self._chunks[at.file] + chunk)
        names = rows.schema.names
        return {name: _tables.value_of(rows.column(name)[place]) for name in names}

    def scan(self, group: int, columns: Sequence[str], most: int = _tables.CHUNK) -> Iterator[Rows]:
        """Yield columns of a group in order, at most `most` rows at a time."""
        at = self.groups[group]
        return self.files[at.file].scan(at.number, columns, most)

    def _load(self, number: int) -> Rows:
        file = bisect_right(self._chunks, number) - 1
        return self.files[file].load(number - self._chunks[file], self._columns[file])


class KeptRows:
    """Which rows of each group are samples; on disk where it is not all of them.

    Attributes:
        groups: samples of each group.
    """

    def __init__(self, groups: Iterable[tuple[int, Iterable[np.ndarray] | None]]) -> None:
        """Take for each group its rows, and masks that together say which stay (None: all).

        Raises:
            StorageError: the disk of the temporary file is full.
        """
        self._first, counts = array("q"), array("q")
        with Spool() as spool:
            for rows, masks in groups:
                before, start = spool.length, 0
                for mask in () if masks is None else masks:
                    spool.append(start + np.flatnonzero(mask).astype(np.int64))
                    start += len(mask)
                found = (spool.length - before) // 8
                whole = masks is None or found == rows
                if whole:
                    spool.forget(before)
                self._first.append(-1 if whole else before // 8)
                counts.append(rows if whole else found)
            self._rows = Mapped(spool, np.int64)
        self.groups = tuple(counts)

    def row(self, group: int, place: int) -> int:
        """Return the row of a group's sample."""
        first = self._first[group]
        return place if first < 0 else int(self._rows.values[first + place])

    def of(self, group: int, first: int, rows: Rows) -> tuple[np.ndarray, Rows]:
        """Return the numbers of the rows that stay, of some from `first` on, and those rows."""
        start = self._first[group]
        if start < 0:
            return np.arange(first, first + rows.num_rows), rows
        kept = self._rows.values[start : start + self.groups[group]]
        low, high = np.searchsorted(kept, [first, first + rows.num_rows])
        numbers = kept[low:high]
        return numbers, rows.take(pa.array(numbers - first))


class RowLayout(Layout):
    """A layout whose samples are rows of tables."""

    def __init__(self, table: Table, kept: KeptRows, bounds: Bounds, absent: Tally) -> None:
        """Take the opened table, its samples and what was left out."""
        files = table.paths
        super().__init__(source_name(files), whereabouts(files), kept.groups, bounds, absent)
        self._table, self._kept = table, kept
        self._prefixes = key_prefixes(files)
        self.window_samples = table.window()

    def _row(self, group: int, place: int) -> tuple[int, dict[str, Any]]:
        """Return (row number in the group, row) of a sample."""
        row = self._kept.row(group, place)
        return row, self._table.row(group, row)

    def _scan(self, group: int, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield (row number in the group, columns) of every sample of a group."""
        first = 0
        for rows in self._table.scan(group, columns):
            numbers, kept = self._kept.of(group, first, rows)
            first += rows.num_rows
            values = [_tables.values(kept.column(name)) for name in columns]
            for place, number in enumerate(numbers.tolist()):
                yield (
                    number,
                    {name: v[place] for name, v in zip(columns, values, strict=True)},
                )


def new_keys(
    names: Sequence[Any], seen: KeySet, path: Path | str, column: str, refuse: Refuse
) -> np.ndarray:
    """Return which of a column's values are keys that were not there before.

    Args:
        names: values of the column.
        seen: the keys before; grows.
        path, column: where they stand, for sentences.
        refuse: is told of the others.
    """
    keep = np.array([name not in (None, "") for name in names], bool)
    for place, name in enumerate(names):
        if not keep[place]:
            refuse(kinds.KEY_MISSING, f"{path} has rows without a {column!r}.")
        elif isinstance(name, NotText):
            keep[place] = False
            refuse(kinds.KEY_NO_UTF8, f"{path} has {str(name)!r}, no UTF-8, in {column!r}.")
    places = np.flatnonzero(keep)
    new = seen.add(keys_of([str(names[place]) for place in places.tolist()]))
    for place in places[~new].tolist():
        keep[place] = False
        refuse(
            kinds.KEY_TWICE,
            f"{path} has {names[place]!r} more than once in {column!r}; keys must be unique "
            "(leave key out to number the rows).",
        )
    return keep


def masks(table: Table, key: str | None) -> Iterator[tuple[int, Iterator[np.ndarray] | None]]:
    """Yield (group, masks of the rows with a key of their own, the first of equal ones)."""
    for file in table.files:
        if key is not None and file.columns and key not in file.plain:
            raise DataError(f"{file.path}: the key {key!r} is no column of plain values.")
    seen = [KeySet() for _ in table.files]  # keys of different files have different prefixes

    def of(group: int, key: str) -> Iterator[np.ndarray]:
        at = table.groups[group].file
        for rows in table.scan(group, [key]):
            found = _tables.values(rows.column(0))
            yield new_keys(found, seen[at], table.paths[at], key, table.refuse(at))

    for group in range(len(table.groups)):
        yield group, None if key is None else of(group, key)
