"""Tables (csv, tsv, jsonl, parquet) with a column of images or image paths and caption columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lift.data.formats import _rows
from lift.data.formats._captions import as_fields, captions_of, columns_of, spelled
from lift.data.formats._images import image_of
from lift.data.formats._layout import Bounds, Told
from lift.data.formats._tables import File
from lift.errors import ConfigError
from lift.terms import Caption, Sample


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of tables, besides those of every layout.

    Attributes:
        path: a file (.csv, .tsv, .jsonl, .jsonl.gz, .parquet), a glob, a brace range, or a list
            of them.
        image: the column with a path, the bytes of an image file, or a struct of both.
        caption: the column(s) with captions (text, or lists of texts), each `NAME` or
            `NAME:ROLE`; without a role the name is it.
        language: a column with the language of a row's captions ("de", "pt-BR").
        key: a column of unique names; None numbers the rows.
        fields: columns to keep as text; None keeps every column of plain values.
        root: the folder that image paths start from; None takes each table's own folder.
        allow_outside: accept paths that leave `root` (absolute ones, `..`, links).
        quote: whether `"` quotes values of csv and tsv; None: in csv, and in tsv a
            value of one line that is quoted as a whole.
        memory_mb: how much of parquet row groups is held at a time, for each process.
    """

    path: str | tuple[str, ...] = ()
    image: str = "image"
    caption: str | tuple[str, ...] = "caption"
    language: str | None = None
    key: str | None = None
    fields: tuple[str, ...] | None = None
    root: str | None = None
    allow_outside: bool = False
    quote: bool | None = None
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.caption:
            raise ConfigError("caption needs the name of at least one column.")
        columns_of(self.caption)
        if self.memory_mb < 1:
            raise ConfigError(f"memory_mb must be above 0, not {self.memory_mb}.")


def build(config: Config) -> Table:
    """Open every file, check the columns and return the source.

    Raises:
        DataError: a file is missing or damaged or holds no sample, or a column is missing.
        BrokenSample: strict, and a line is no row or a key repeats.
    """
    return Table(config)


class Table(_rows.RowLayout):
    """Rows of one or more tables. Parquet is read by row group, text formats are copied once
    into an unnamed Arrow file, where any order of reading costs the same."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._columns = columns_of(config.caption)
        table = _rows.Table(config.path, config.memory_mb, config.strict, config.quote)
        table.use(self._wanted)
        kept = _rows.KeptRows(
            (table.rows_of(g), masks) for g, masks in _rows.masks(table, config.key)
        )
        super().__init__(table, kept, config, table.settled(kept.groups))

    def _wanted(self, file: File) -> Iterator[str]:
        """Yield the columns that are read of a file."""
        config = self._config
        yield config.image
        yield from (column.name for column in self._columns)
        yield from [name for name in (config.key, config.language) if name]
        yield from file.plain if config.fields is None else config.fields

    def _read(self, group: int, place: int) -> Sample:
        number, row = self._row(group, place)
        key = self._key(row, group, number)
        config, at = self._config, self._table.groups[group].file
        root = config.root or str(self._table.paths[at].parent)
        out = (config.image, config.key or config.image, *(c.name for c in self._columns))
        return Sample(
            key=key,
            image=image_of(
                row[config.image], config.image, root, key, self.bounds, config.allow_outside
            ),
            captions=self._captions(row, key, group),
            fields=as_fields(row, out),
        )

    def _told(self, group: int) -> Iterator[Told]:
        names = [column.name for column in self._columns]
        names += [name for name in (self._config.key, self._config.language) if name]
        for number, row in self._scan(group, list(dict.fromkeys(names))):
            key = self._key(row, group, number)
            yield key, partial(self._captions, row, key, group)

    def _key(self, row: Mapping[str, Any], group: int, number: int) -> str:
        file, _, first = self._table.groups[group]
        name = row[self._config.key] if self._config.key else first + number
        return f"{self._prefixes[file]}{name}"

    def _captions(self, row: Mapping[str, Any], key: str, group: int) -> tuple[Caption, ...]:
        at = self._table.groups[group].file
        said = row[self._config.language] if self._config.language else None
        if self._table.files[at].is_text:  # where lists and objects are spelled in JSON
            row = {column.name: spelled(row[column.name]) for column in self._columns}
        found = captions_of(row, self._columns, key, self.bounds.max_caption_chars)
        return found.in_language(said) if isinstance(said, str) and said.strip() else found
