"""Recap-DataComp: parquet with two captions a row, beside a folder of downloaded images.

Both captions are kept: the alt text of the web (`org_caption`, role "raw") and the long one that a
model wrote (`re_caption`, role "rewrite"). Images that were never downloaded are the rule there,
so what is on disk is listed once, and rows without an image are counted, not tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from lift.data import kinds
from lift.data.formats import _rows
from lift.data.formats._captions import Column, as_fields, captions_of
from lift.data.formats._files import is_folder
from lift.data.formats._images import ENDINGS, image_file, is_text
from lift.data.formats._layout import Bounds, Told
from lift.data.formats._ragged import chunked
from lift.data.formats._tables import File, Rows, values
from lift.data.spilled import Mapped, Spool
from lift.errors import ConfigError, DataError, unknown
from lift.terms import Caption, Sample
from lift.text.keys import KeyIndex, KeySet, keys_of

_ENDINGS = tuple(f".{ending}" for ending in ENDINGS)
_EXTENSION = "extension"
"""The column that the code of the LIFT paper reads; the published files have none."""


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of Recap-DataComp, besides those of every layout.

    Attributes:
        path: the parquet files: a path, a glob, a brace range, or a list of them.
        images: the folder of the images.
        pattern: an image's path in that folder, without its ending: `{key}`, or for example
            `{shard}/{key}`, where the shard is the name of the parquet file without `.parquet`.
        key: the column that names images.
        raw: the column with the web's caption.
        rewrite: the column with the model's caption.
        fields: columns to keep as text; None keeps every other column of plain values.
        allow_outside: accept links that leave `images`.
        memory_mb: how much of row groups is held at a time, for each process.
    """

    path: str | tuple[str, ...] = ()
    images: str = ""
    pattern: str = "{key}"
    key: str = "key"
    raw: str = "org_caption"
    rewrite: str = "re_caption"
    fields: tuple[str, ...] | None = None
    allow_outside: bool = False
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_mb < 1:
            raise ConfigError(f"memory_mb must be above 0, not {self.memory_mb}.")
        pattern = _Pattern(self.pattern)
        rest = self.pattern.replace("{key}", "").replace("{shard}", "")
        wild = "{" in rest or "}" in rest
        if pattern.last.count("{key}") != 1 or "{key}" in pattern.folder or wild:
            raise ConfigError(
                f"pattern={self.pattern!r} must have {{key}} once, behind its last slash, and no "
                "placeholder but {key} and {shard}."
            )


def build(config: Config) -> Recap:
    """Open every file, list the images, and return the source.

    Raises:
        DataError: a file or the folder is missing or damaged, a column is missing, or no image
            of a file is there.
        BrokenSample: strict, and a row has no image or its key was there before.
    """
    return Recap(config)


class Recap(_rows.RowLayout):
    """Rows whose image is on disk."""

    def __init__(self, config: Config) -> None:
        if not os.path.isdir(config.images):
            raise DataError(f"No folder of images at {config.images!r}; set images=FOLDER.")
        self._config = config
        table = _rows.Table(config.path, config.memory_mb, config.strict)
        self._columns = _caption_columns(table, config)
        table.use(self._wanted)
        with Spool() as endings:
            finder = _Finder(table, config, endings)
            kept = _rows.KeptRows(
                (table.rows_of(group), finder.masks(group)) for group in range(len(table.groups))
            )
            self._ending_of = Mapped(endings, np.uint8)
        self._endings = tuple(finder.endings)
        self._pattern = _Pattern(config.pattern)
        self._starts = [0, *accumulate(kept.groups)]
        super().__init__(table, kept, config, table.settled(kept.groups))

    def _wanted(self, file: File) -> Iterator[str]:
        """Yield the columns that are read of a file."""
        yield self._config.key
        yield from (column.name for column in self._columns)
        yield from file.plain if self._config.fields is None else self._config.fields

    def _read(self, group: int, place: int) -> Sample:
        _, row = self._row(group, place)
        file = self._table.groups[group].file
        key = self._key(row, file)
        ending = self._endings[self._ending_of.values[self._starts[group] + place]]
        shard, allowed = self._table.paths[file].stem, self._config.allow_outside
        name = self._pattern.path(shard, row[self._config.key]) + ending
        out = (self._config.key, *(column.name for column in self._columns))
        return Sample(
            key=key,
            image=image_file(self._config.images, name, key, self.bounds, allowed),
            captions=self._captions(row, key),
            fields=as_fields(row, out),
        )

    def _told(self, group: int) -> Iterator[Told]:
        names = list(dict.fromkeys([self._config.key, *(c.name for c in self._columns)]))
        for _, row in self._scan(group, names):
            key = self._key(row, self._table.groups[group].file)
            yield key, partial(self._captions, row, key)

    def _key(self, row: Mapping[str, Any], file: int) -> str:
        return f"{self._prefixes[file]}{row[self._config.key]}"

    def _captions(self, row: Mapping[str, Any], key: str) -> tuple[Caption, ...]:
        """Return the captions that can be used; raises BrokenSample where there is none."""
        return captions_of(row, self._columns, key, self.bounds.max_caption_chars)


def _caption_columns(table: _rows.Table, config: Config) -> tuple[Column, ...]:
    """Return the caption columns that all files have: both, or the one that is there."""
    found = tuple(
        column
        for column in (Column(config.raw, "raw"), Column(config.rewrite, "rewrite"))
        if all(column.name in file.columns for file in table.files)
    )
    if not found:
        file = table.files[0]
        raise unknown(
            f"column of {file.path}:", f"{config.raw} or {config.rewrite}", file.columns, DataError
        )
    return found


class _Pattern:
    """Where an image lies, without its ending; keys are put in as they are, never formatted."""

    def __init__(self, pattern: str) -> None:
        self.folder, self._slash, self.last = pattern.rpartition("/")

    def below(self, shard: str) -> str:
        """Return the folder of a shard's images."""
        return self.folder.replace("{shard}", shard)

    def name(self, shard: str, key: Any) -> str:
        """Return an image's name in that folder."""
        return self.last.replace("{shard}", shard).replace("{key}", str(key))

    def path(self, shard: str, key: Any) -> str:
        """Return both."""
        return self.below(shard) + self._slash + self.name(shard, key)


class _Finder:
    """Finds the image file of each row in listings of the folders.

    Attributes:
        endings: of the files that were found; of each sample, the number of its own is spooled.
    """

    def __init__(self, table: _rows.Table, config: Config, spool: Spool) -> None:
        self.endings: list[str] = []
        self._table, self._config, self._spool = table, config, spool
        self._pattern = _Pattern(config.pattern)
        self._seen = [KeySet() for _ in table.files]
        self._folder: str | None = None

    def masks(self, group: int) -> Iterator[np.ndarray]:
        """Yield which rows of a group have a key of their own and an image."""
        at = self._table.groups[group].file
        shard = self._table.paths[at].stem
        self._list(os.path.join(self._config.images, self._pattern.below(shard)))
        names = [self._config.key]
        names += [_EXTENSION] if _EXTENSION in self._table.files[at].columns else []
        for rows in self._table.scan(group, names):
            yield self._mask(rows, at)

    def _list(self, folder: str) -> None:
        if folder == self._folder:
            return
        usual: set[str] = set()

        def names() -> Iterator[str]:
            for entry in _entries(folder):
                ending = os.path.splitext(entry.name)[1]
                if ending.lower() in _ENDINGS:
                    usual.add(ending)
                if not is_folder(entry) and is_text(entry.name):
                    yield entry.name

        chunks = (keys_of(chunk) for chunk in chunked(names(), 4_096))
        self._folder, self._files = folder, KeyIndex.on_disk(chunks)
        self._usual = sorted(usual, key=lambda ending: (_ENDINGS.index(ending.lower()), ending))

    def _mask(self, rows: Rows, at: int) -> np.ndarray:
        path, refuse = self._table.paths[at], self._table.refuse(at)
        keys = values(rows.column(0))
        mask = _rows.new_keys(keys, self._seen[at], path, self._config.key, refuse)
        told = values(rows.column(1)) if rows.num_columns > 1 else [None] * len(keys)
        endings = np.array([_dotted(ending) for ending in told], object)
        found = np.full(len(keys), -1)
        for ending in dict.fromkeys(endings[mask].tolist()):
            # Without one, every ending that the folder has, in an order that never changes.
            for choice in [ending] if ending else self._usual:
                places = np.flatnonzero(mask & (found < 0) & (endings == ending))
                names = [self._pattern.name(path.stem, keys[p]) + choice for p in places.tolist()]
                there = places[self._files.find(keys_of(names)) >= 0]
                if len(there):
                    found[there] = self._number(choice)
        for place in np.flatnonzero(mask & (found < 0)).tolist():
            mask[place] = False
            name = self._pattern.path(path.stem, keys[place]) + (endings[place] or ".*")
            refuse(kinds.IMAGE_MISSING, f"{path}: {name:.200} is not in {self._config.images}.")
        self._spool.append(found[mask].astype(np.uint8))
        return mask

    def _number(self, ending: str) -> int:
        if ending not in self.endings:
            if len(self.endings) == 255:
                raise DataError(f"{_EXTENSION!r} has more than 255 values; it is no such column.")
            self.endings.append(ending)
        return self.endings.index(ending)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(f"{folder} can't be listed ({error.strerror}).") from error


def _dotted(ending: Any) -> str:
    """Return `.jpg` for `jpg` and `.jpg`, "" for nothing."""
    text = "" if ending is None else str(ending).strip()
    return text if text.startswith(".") or not text else "." + text
