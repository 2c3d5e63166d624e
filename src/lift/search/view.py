"""What one commit left: whose each row is, and an engine over the rows of each kind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from lift import plugins
from lift.search.damaged import as_rows
from lift.search.engines import Engine
from lift.search.filters import Filter
from lift.search.ranking import Ranking
from lift.search.record import IndexRecord
from lift.search.tables import Tables
from lift.search.terms import KINDS, Kind, Stored
from lift.search.vectors import TYPES, VectorFile

ENGINES = "engine"
_MASKS = 32
"""Answers to filters that are remembered, a byte for every row of each."""
_ITEMS = 20_000
"""Items that are remembered: some 20 MB."""
NOBODY = -1


@dataclass
class Side:
    """The rows of one kind.

    Attributes:
        file: their vectors.
        owner: the number of each row's item, -1 where it was removed.
        field: the number of its field.
        number: the how-manieth of that field it is.
        live: how many rows belong to an item.
        items: how many items have one.
        engine: finds the nearest.
    """

    file: VectorFile
    owner: Int64[np.ndarray, " n"]
    field: Int32[np.ndarray, " n"]
    number: Int32[np.ndarray, " n"]
    live: int
    items: int
    engine: Engine

    @property
    def alive(self) -> Bool[np.ndarray, " n"] | None:
        """Which rows belong to an item; None where all do."""
        return None if self.live == len(self.owner) else self.owner != NOBODY


@dataclass
class View:
    """An index as one commit left it.

    Attributes:
        commits: which one that is.
        generation: the number in the names of its vector files.
        items: how many there are.
        sides: rows by kind.
        fields: names of fields by number.
        ranking: how rows become one list.
    """

    commits: int
    generation: int
    items: int
    sides: dict[Kind, Side]
    fields: dict[int, str]
    ranking: Ranking
    _tables: Tables
    _masks: OrderedDict[tuple[str, Kind], np.ndarray] = field(default_factory=OrderedDict)
    _known: OrderedDict[int, Stored] = field(default_factory=OrderedDict)

    def allowed(self, kind: Kind, where: Filter | None) -> Bool[np.ndarray, " n"] | None:
        """Return which rows of a kind may be found; None where all may."""
        side = self.sides[kind]
        if not where:
            return side.alive
        asked = repr(where), kind  # filters with 1 and with true are equal, and ask otherwise
        found = self._masks.get(asked)
        if found is None:
            met = np.array(self._tables.meeting(where), np.int64)  # in order
            at = np.searchsorted(met, side.owner)
            at[at == len(met)] = 0
            found = met[at] == side.owner if len(met) else np.zeros(len(side.owner), np.bool_)
            self._masks[asked] = found
            while len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
        return found

    def stored(self, numbers: Sequence[int]) -> dict[int, Stored]:
        """Return items by number; those that are gone since are left out."""
        found = {number: self._known.get(number) for number in numbers}
        new = [number for number, item in found.items() if item is None]
        if new:
            fetched = self._tables.stored(new)
            self._known.update(fetched)
            while len(self._known) > _ITEMS:
                self._known.popitem(last=False)
            found |= fetched
        return {number: item for number, item in found.items() if item is not None}

    def rows_of(self, item: int) -> list[tuple[Kind, str, int, Float32[np.ndarray, " d"]]]:
        """Return an item's vectors with kind, field and number."""
        found = []
        for kind, place, name, number in self._tables.rows_of(item):
            rows = self.sides[kind].file.rows
            if place < len(rows):  # else of a later commit than this view's
                z = np.asarray(rows[place], np.float32)
                found.append((kind, self.fields.get(name, ""), number, z))
        return found

    def close(self) -> None:
        """Let go of what engines hold."""
        for side in self.sides.values():
            side.engine.close()


def file_of(folder: Path, kind: Kind, generation: int, stored: str) -> Path:
    """Return where the vectors of a kind lie."""
    suffix = {"float32": "f32", "float16": "f16"}[stored]
    return folder / f"{kind}-{generation:06d}.{suffix}"


def opened(
    folder: Path,
    record: IndexRecord,
    tables: Tables,
    *,
    writes: bool,
    before: View | None = None,
) -> View:
    """Return what the last commit left.

    Args:
        folder, record, tables: of the index.
        writes: whether engines may build.
        before: an earlier view, whose engines go on with the new rows.

    Raises:
        DataError: vectors are missing, or rows belong to places that there are not.
    """
    with tables.snapshot():
        commits, counts, generation = tables.state()
        same = before if before is not None and before.generation == generation else None
        files = {
            kind: VectorFile(
                file_of(folder, kind, generation, record.stored),
                record.space.dimensions,
                TYPES[record.stored],
                counts[kind],
            )
            for kind in KINDS
        }  # first, because their size bounds the counts
        owners = {
            kind: _owners(tables, kind, counts[kind], same and same.sides[kind]) for kind in KINDS
        }
        items, fields = tables.count(), tables.fields()
    sides: dict[Kind, Side] = {}
    for kind in KINDS:
        file = files[kind]
        owner, names, number, live, own = owners[kind]
        if same is not None:
            engine = same.sides[kind].engine
            engine.follow(file.rows)
        else:
            maker = plugins.build(record.engine)
            engine = maker.open(file.rows, folder / ENGINES / kind, writes=writes)
        sides[kind] = Side(file, owner, names, number, live, own, engine)
    return View(commits, generation, items, sides, fields, record.ranking, tables)


_Owners: TypeAlias = (
    "tuple[Int64[np.ndarray, ' n'], Int32[np.ndarray, ' n'], Int32[np.ndarray, ' n'], int, int]"
)
"""Item, field and number of each row; how many belong to an item, and to how many items."""


def _owners(tables: Tables, kind: Kind, count: int, before: Side | None) -> _Owners:
    """Return whose the rows of a kind are; where rows came since `before`, those alone are read.

    An item's rows are written at once, behind all others, and go at once: where as many are there
    as before and since, none has gone.
    """
    if before is not None and len(before.owner) <= count:
        start = len(before.owner)
        owner, names, number, live, own = _read_from(tables, kind, start, count)
        if tables.live(kind) == before.live + live:
            return (
                np.concatenate([before.owner, owner]),
                np.concatenate([before.field, names]),
                np.concatenate([before.number, number]),
                before.live + live,
                before.items + own,
            )
    return _read_from(tables, kind, 0, count)


def _read_from(tables: Tables, kind: Kind, start: int, count: int) -> _Owners:
    size = count - start
    owner = np.full(size, NOBODY, np.int64)
    names, number = np.zeros(size, np.int32), np.zeros(size, np.int32)
    live = 0
    for piece in tables.rows(kind, start):
        values = as_rows(tables.path, piece)
        own = values[values[:, 0] < count]  # a commit between two reads brings more
        at = own[:, 0] - start
        owner[at] = own[:, 1]
        names[at], number[at] = own[:, 2], own[:, 3]
        live += len(own)
    return owner, names, number, live, len(np.unique(owner[owner != NOBODY]))
