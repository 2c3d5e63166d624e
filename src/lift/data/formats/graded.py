"""Relevance data: a table of (query, item, grade) and the items' images, as graded pairs.

Clicks and judgements are what shops and search engines have instead of captions. Every image of an
item is a sample; the queries that found the item are its captions, with grades as weights, beside
the item's own texts. The two tables are joined on disk: memory does not grow with either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np

from lift.data.formats import _rows
from lift.data.formats._captions import as_fields, columns_of
from lift.data.formats._images import image_of
from lift.data.formats._judgements import (
    QUERY,
    Join,
    Options,
    columns_of_judgements,
    images_of,
    key_of,
)
from lift.data.formats._layout import Layout, Told
from lift.data.formats._paths import source_name, whereabouts
from lift.data.formats._tables import File, value_of
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Sample


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of graded pairs, besides those of every layout and the columns of `Options`.

    Attributes:
        path: the judgements: csv, tsv, jsonl or parquet files; a glob, a brace range or a list.
        items: the items, likewise; or a folder of images, each named ITEM.jpg (.png, ...).
        scale: whether weights are grades divided by the largest one, and so at most 1.
        fields: columns of the items to keep; None keeps every other column of plain values.
        root: the folder that image paths start from; None takes each items file's own.
        allow_outside: accept paths that leave `root`.
        quote: whether `"` quotes values of csv and tsv; None: in csv, and in tsv a
            value of one line that is quoted as a whole.
        memory_mb: how much of the items' row groups is held at a time, for each process.
    """

    path: str | tuple[str, ...] = ()
    items: str | tuple[str, ...] = ()
    scale: bool = True
    fields: tuple[str, ...] | None = None
    root: str | None = None
    allow_outside: bool = False
    quote: bool | None = None
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        columns_of(self.text)
        if self.memory_mb < 1 or not 0 <= self.min_grade < math.inf:
            raise ConfigError(
                "memory_mb must be above 0 and min_grade a number from 0 on, not "
                f"{self.memory_mb} and {self.min_grade}."
            )


def build(config: Config) -> Graded:
    """Join the judgements with the items and return the source.

    Raises:
        DataError: a file is missing or damaged, a column is missing, or nothing is left.
        BrokenSample: strict, and something can't be used.
    """
    return Graded(config)


class Graded(Layout):
    """One sample an image of an item: `ITEM`, its second image `ITEM/2`.

    An item may stand in several rows, each with images and texts. Queries come after its own
    texts, in the order of the judgements.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._columns = columns_of(config.text)
        self._items = _rows.Table(
            config.items, config.memory_mb, config.strict, config.quote, folders=True
        )
        self._items.use(self._wanted)
        judged = _rows.Table(config.path, config.memory_mb, config.strict, config.quote)
        judged.use(lambda file: columns_of_judgements(config))
        join = Join(config, self._items, judged)
        groups = join.images()
        absent = self._items.left_out()
        for tally in (judged.left_out(), join.tally):
            absent.update(tally.counts, tally.first)
        paths = judged.paths
        super().__init__(source_name(paths), whereabouts(paths), groups, config, absent)
        if not len(self):
            raise DataError(f"{self.name} holds no samples: {absent.sentence()}.")
        self.window_samples = self._items.window()
        self._owners, self._texts, self._told_of = join.owners, join.texts, join.told_of
        self._facts, self._samples = join.facts, join.samples
        self._largest = join.largest if config.scale else 1.0
        self._starts = [0, *accumulate(groups)]

    def _wanted(self, file: File) -> Iterator[str]:
        """Yield the columns that are read of an items file."""
        config = self._config
        yield from (config.id, config.image)
        yield from (column.name for column in self._columns)
        yield from file.plain if config.fields is None else config.fields

    def _read(self, group: int, place: int) -> Sample:
        row, image, ordinal = self._samples.values[self._starts[group] + place].tolist()
        config, at = self._config, self._items.groups[group].file
        cells = self._items.row(group, row - self._items.before[group])
        key, folder = key_of(cells[config.id], ordinal), self._items.paths[at]
        root = config.root or str(folder if folder.is_dir() else folder.parent)
        value = images_of(cells[config.image])[image]
        out = (config.id, config.image, *(column.name for column in self._columns))
        return Sample(
            key=key,
            image=image_of(value, config.image, root, key, self.bounds, config.allow_outside),
            captions=self._captions(row),
            fields=as_fields(cells, out),
        )

    def _told(self, group: int) -> Iterator[Told]:
        samples = self._samples.values[self._starts[group] : self._starts[group + 1]]
        at, start = 0, self._items.before[group]
        for rows in self._items.scan(group, [self._config.id]):
            end = int(np.searchsorted(samples["row"], start + rows.num_rows))
            names = rows.column(0)
            for row, _, ordinal in samples[at:end].tolist():
                yield key_of(value_of(names[row - start]), ordinal), partial(self._captions, row)
            at, start = end, start + rows.num_rows

    def _captions(self, row: int) -> tuple[Caption, ...]:
        found = []
        for number in self._told_of[int(self._owners.values[row])].tolist():
            _, weight, role = self._facts.values[number].tolist()
            text = self._texts[number].decode()
            if role == QUERY:
                found.append(Caption(text, "query", weight / self._largest))
            else:
                found.append(Caption(text, self._columns[role].role))
        return tuple(dict.fromkeys(found))
