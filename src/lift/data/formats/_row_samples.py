"""Layouts of tables whose rows are samples of another kind than image and captions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lift.data.formats import _rows
from lift.data.formats._captions import as_fields, spelled
from lift.data.formats._images import image_of
from lift.data.formats._layout import Bounds, Told
from lift.data.formats._tables import File
from lift.errors import ConfigError
from lift.terms import Caption, Foil, Sample


@dataclass(frozen=True, kw_only=True)
class RowOptions(Bounds):
    """Options of every such table; `lift.data.formats.table` says more.

    Attributes:
        path: a file (.csv, .tsv, .jsonl, .jsonl.gz, .parquet), a glob, a brace range, or a list.
        image: the column with a path, the bytes of an image file, or a struct of both.
        key: a column of unique names; None numbers the rows.
        root: the folder that image paths start from; None takes each table's own folder.
        allow_outside: accept paths that leave `root` (absolute ones, `..`, links).
        quote: whether `"` quotes values of csv and tsv; None as in `table`.
        memory_mb: how much of parquet row groups is held at a time, for each process.
    """

    path: str | tuple[str, ...] = ()
    image: str = "image"
    key: str | None = None
    root: str | None = None
    allow_outside: bool = False
    quote: bool | None = None
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_mb < 1:
            raise ConfigError(f"memory_mb must be above 0, not {self.memory_mb}.")


class RowSamples(_rows.RowLayout):
    """One sample a row; what is told of it is up to the layout."""

    def __init__(self, config: RowOptions, told: Sequence[str], key: str | None = None) -> None:
        """Open every file.

        Args:
            config: options.
            told: columns that captions and foils are made of; all must be there.
            key: the column of keys, where it is another than `config.key`.
        """
        self._config, self._columns = config, tuple(dict.fromkeys(told))
        self._key_column = config.key or key
        table = _rows.Table(config.path, config.memory_mb, config.strict, config.quote)
        table.use(self._wanted)
        masks = _rows.masks(table, self._key_column)
        kept = _rows.KeptRows((table.rows_of(group), found) for group, found in masks)
        super().__init__(table, kept, config, table.settled(kept.groups))

    def _wanted(self, file: File) -> Iterator[str]:
        yield self._config.image
        yield from self._columns
        yield from [self._key_column] if self._key_column else []
        yield from file.plain

    def _read(self, group: int, place: int) -> Sample:
        number, row = self._row(group, place)
        key, config = self._key(row, group, number), self._config
        at = self._table.groups[group].file
        root = config.root or str(self._table.paths[at].parent)
        captions, foils = self._made(row, key, group)
        return Sample(
            key=key,
            image=image_of(
                row[config.image], config.image, root, key, self.bounds, config.allow_outside
            ),
            captions=captions,
            fields=as_fields(row, (config.image, self._key_column or config.image)),
            foils=foils,
        )

    def _told(self, group: int) -> Iterator[Told]:
        names = [*self._columns, *([self._key_column] if self._key_column else [])]
        for number, row in self._scan(group, list(dict.fromkeys(names))):
            key = self._key(row, group, number)
            yield key, partial(self._captions_only, row, key, group)

    def _captions_only(self, row: Mapping[str, Any], key: str, group: int) -> tuple[Caption, ...]:
        return self._made(row, key, group)[0]

    def _made(
        self, row: Mapping[str, Any], key: str, group: int
    ) -> tuple[tuple[Caption, ...], tuple[Foil, ...]]:
        at = self._table.groups[group].file
        if self._table.files[at].is_text:  # where lists and objects are spelled in JSON
            row = {**row, **{name: spelled(row[name]) for name in self._columns}}
        return self._texts(row, key)

    def _key(self, row: Mapping[str, Any], group: int, number: int) -> str:
        file, _, first = self._table.groups[group]
        name = row[self._key_column] if self._key_column else first + number
        return f"{self._prefixes[file]}{name}"

    @abstractmethod
    def _texts(
        self, row: Mapping[str, Any], key: str
    ) -> tuple[tuple[Caption, ...], tuple[Foil, ...]]:
        """Return the captions and the foils of a row. Raises BrokenSample."""
