"""Tables (csv, tsv, jsonl, parquet) with a column of images or image paths and caption columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lift.data.formats import _tables
from lift.data.formats._captions import as_fields, captions
from lift.data.formats._paths import (
    expand,
    inside,
    key_prefixes,
    read_bounded,
    source_name,
    whereabouts,
)
from lift.data.formats._places import Places
from lift.data.formats._recent import Recent
from lift.errors import ConfigError, DataError, unknown
from lift.terms import Caption, Sample


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of tables.

    Attributes:
        path: a file (.csv, .tsv, .jsonl, .parquet), a glob, a brace range, or a list of them.
        image: the column with a path, the bytes of an image file, or a struct of both.
        caption: the column(s) with captions (text, or lists of texts); roles are their names.
        key: a column of unique names; None numbers the rows.
        fields: columns to keep as text; None keeps every column of plain values.
        root: the folder that image paths start from; None takes each table's own folder.
        allow_outside: accept paths that leave `root` (absolute ones, `..`, links).
        quote: whether `"` quotes values of csv and tsv.
        max_image_bytes: larger images are refused.
        memory_mb: how much of parquet row groups is held at a time, for each process.
    """

    path: str | tuple[str, ...] = ()
    image: str = "image"
    caption: str | tuple[str, ...] = "caption"
    key: str | None = None
    fields: tuple[str, ...] | None = None
    root: str | None = None
    allow_outside: bool = False
    quote: bool = True
    max_image_bytes: int = 64 << 20
    memory_mb: int = 512

    def __post_init__(self) -> None:
        if not self.caption:
            raise ConfigError("caption needs the name of at least one column.")
        if self.max_image_bytes < 1 or self.memory_mb < 1:
            raise ConfigError("max_image_bytes and memory_mb must be above 0.")

    def roles(self) -> tuple[str, ...]:
        """Return the caption columns."""
        return (self.caption,) if isinstance(self.caption, str) else self.caption


def build(config: Config) -> Table:
    """Open every file, check the columns and return the source.

    Raises:
        DataError: a file is missing or damaged, a column is missing, or a key repeats.
    """
    return Table(config)


class Table:
    """Rows of one or more tables. Parquet is read by row group, text formats whole.

    Attributes:
        whereabouts: the folders of the files.
        window_samples: how many samples in random order are read without loading row groups
            again and again.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._paths = expand(config.path)
        self._prefixes = key_prefixes(self._paths)
        self.name = source_name(self._paths)
        self.whereabouts = whereabouts(self._paths)
        self._files = [_tables.open_file(path, config.quote) for path in self._paths]
        groups: list[int] = []
        self._owners: list[tuple[int, int, int]] = []  # file, row group, first row in the file
        for number, file in enumerate(self._files):
            self._check_columns(file)
            first = 0
            for group, rows in enumerate(file.groups):
                self._owners.append((number, group, first))
                groups.append(rows)
                first += rows
            self._check_keys(file)
        self.groups = tuple(groups)
        # Half of the memory: a window may be longer by one group, and two meet at its ends.
        fits = (config.memory_mb << 19) / max(1.0, *(file.row_bytes for file in self._files))
        self.window_samples = max(1, int(fits))
        self._places = Places(groups)
        self._recent = self._fresh()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_recent"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._recent = self._fresh()

    def _fresh(self) -> Recent[pa.Table]:
        return Recent(self._load, self._config.memory_mb << 20, lambda table: table.nbytes)

    def __len__(self) -> int:
        return self._places.total

    def read(self, index: int) -> Sample:
        """Return sample `index`. Raises DataError naming the sample where it can't be read."""
        group, place = self._places(index)
        table = self._recent(group)
        row = {name: table.column(name)[place].as_py() for name in table.column_names}
        key = self._key(row, group, place)
        out = (self._config.image, self._config.key or self._config.image, *self._config.roles())
        return Sample(
            key=key,
            image=self._image(row[self._config.image], self._owners[group][0], key),
            captions=self._captions(row, key),
            fields=as_fields(row, out),
        )

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample in order, without reading image bytes."""
        columns = [*self._config.roles(), *([self._config.key] if self._config.key else [])]
        for group, (file, row_group, _) in enumerate(self._owners):
            rows = self._files[file].read(row_group, columns)
            for place, row in enumerate(_rows(rows)):
                key = self._key(row, group, place)
                yield key, self._captions(row, key)

    def _load(self, group: int) -> pa.Table:
        file, row_group, _ = self._owners[group]
        return self._files[file].read(row_group, self._columns(self._files[file]))

    def _columns(self, file: _tables.File) -> list[str]:
        config = self._config
        extra = file.plain if config.fields is None else config.fields
        keys = [config.key] if config.key else []
        return list(dict.fromkeys([config.image, *config.roles(), *keys, *extra]))

    def _check_columns(self, file: _tables.File) -> None:
        if not file.columns and not sum(file.groups):
            return  # an empty file holds no samples, which says more than a missing column
        for name in self._columns(file):
            if name not in file.columns:
                raise unknown(f"column of {file.path}:", name, file.columns, DataError)

    def _check_keys(self, file: _tables.File) -> None:
        if self._config.key is None:
            return
        if self._config.key not in file.plain:
            raise DataError(
                f"{file.path}: the key {self._config.key!r} is no column of plain values."
            )
        parts = [file.read(group, [self._config.key]) for group in range(len(file.groups))]
        if not parts:
            return
        column = pa.concat_tables(parts).column(0)
        if column.null_count:
            raise DataError(f"{file.path} has rows without a {self._config.key!r}.")
        if len(column.unique()) != len(column):
            counts = column.value_counts()
            twice = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
            raise DataError(
                f"{file.path} has {twice!r} more than once in {self._config.key!r}; "
                "keys must be unique (leave key out to number the rows)."
            )

    def _key(self, row: dict[str, Any], group: int, place: int) -> str:
        file, _, first = self._owners[group]
        name = row[self._config.key] if self._config.key else first + place
        return f"{self._prefixes[file]}{name}"

    def _captions(self, row: dict[str, Any], key: str) -> tuple[Caption, ...]:
        roles = self._config.roles()
        return tuple(found for role in roles for found in captions(row[role], role, key))

    def _image(self, value: Any, file: int, key: str) -> bytes:
        what = f"Sample {key}"
        if isinstance(value, dict):  # the struct of Hugging Face's Image feature
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) and value:
            if len(value) > self._config.max_image_bytes:
                raise DataError(
                    f"{what}: the image has {len(value):,} bytes; "
                    f"up to {self._config.max_image_bytes:,} are read."
                )
            return value
        if not isinstance(value, str) or not value:
            raise DataError(
                f"{what} has no image in {self._config.image!r} "
                f"(a path or bytes, not {value if value is None else type(value).__name__})."
            )
        root = self._config.root or str(self._paths[file].parent)
        path = inside(root, value, what, self._config.allow_outside)
        return read_bounded(path, self._config.max_image_bytes, what)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()
