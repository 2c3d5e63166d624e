"""Data sets of the Hugging Face library `datasets`: saved, local parquet or arrow, or of the hub.

Images are never decoded by it: what is stored goes on as it is. Code that comes with a data set is
never run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lift import plugins
from lift.data.formats._captions import as_fields, captions_of, columns_of
from lift.data.formats._images import image_of
from lift.data.formats._layout import Absent, Bounds, Layout, Told
from lift.data.formats._paths import expand
from lift.data.formats._recent import Recent
from lift.data.formats._rows import KeptRows, new_keys
from lift.data.formats._tables import CHUNK, is_plain, value_of, values
from lift.errors import ConfigError, DataError, unknown
from lift.terms import Caption, Sample
from lift.text.columns import listed
from lift.text.keys import KeySet

_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of Hugging Face data sets, besides those of every layout.

    Attributes:
        path: a folder that `save_to_disk` wrote; a folder, file or glob of parquet or arrow files;
            any other folder that `load_dataset` knows; or the name of a data set of the hub.
        split: of the data set.
        subset: its configuration, where it has several.
        revision: a branch, tag or commit of the hub.
        image: the column with images.
        caption: the column(s) with captions, each `NAME` or `NAME:ROLE`; of a column of classes
            (ClassLabel) the names are the captions.
        key: a column of unique names; None numbers the rows.
        fields: columns to keep as text; None keeps every column of plain values.
        streaming: read file by file instead of copying the whole into the library's own cache.
            Opening then reads everything once, to count the rows.
        allow_outside: accept image paths that leave the folder of the data set.
        memory_mb: how much of files is held at a time when streaming, for each process.
    """

    path: str = ""
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    image: str = "image"
    caption: str | tuple[str, ...] = "caption"
    key: str | None = None
    fields: tuple[str, ...] | None = None
    streaming: bool = False
    allow_outside: bool = False
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.caption:
            raise ConfigError("caption needs the name of at least one column.")
        columns_of(self.caption)
        if self.memory_mb < 1:
            raise ConfigError(f"memory_mb must be above 0, not {self.memory_mb}.")


def build(config: Config) -> HuggingFace:
    """Load the data set, check the columns and return the source.

    Raises:
        MissingPackage: `datasets` is not installed.
        DataError: no such data set or split, a damaged file, or a missing column.
        BrokenSample: strict, and a key is missing or repeats.
    """
    plugins.require("datasets", "datasets", "data/formats/huggingface")
    if not config.path:
        raise DataError("No path was given; set path to a folder, files, or a name of the hub.")
    return HuggingFace(config)


class HuggingFace(Layout):
    """Rows of a data set, mapped; or, streaming, those of one of its files after the other."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._columns = columns_of(config.caption)
        self._root = config.path if os.path.isdir(config.path) else str(Path(config.path).parent)
        self._data: Any = _load(config)
        self._wanted: list[str] = []
        self._labels = _label_names(self._data.features)
        self._row_bytes = 0.0
        absent, seen = Absent(strict=config.strict), KeySet()

        def mask(rows: pa.Table) -> np.ndarray:
            if config.key is None:
                return np.ones(rows.num_rows, bool)
            names = values(rows.column(config.key))
            return new_keys(names, seen, config.path, config.key, absent.refuse)

        rows = self._counted(mask) if config.streaming else self._mapped(mask)
        name = f"{Path(config.path).name or config.path} ({config.split})"
        super().__init__(name, config.path, rows.groups, config, absent.tally)
        self._kept = rows
        self._starts = [0, *accumulate(self._rows_of)]
        if config.streaming:
            fits = (config.memory_mb << 19) / max(1.0, self._row_bytes)
            self.window_samples = max(1, int(fits))
        if absent.tally.counts and not len(self):
            raise DataError(f"{self.name} holds no samples: {absent.tally.sentence()}.")
        self._recent = self._fresh()

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n not in ("_recent", "_data")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._data = None  # opened where it is needed
        self._recent = self._fresh()

    def _fresh(self) -> Recent[pa.Table]:
        return Recent(self._group, self._config.memory_mb << 20, lambda table: table.nbytes)

    def _open(self) -> Any:
        if self._data is None:
            self._data = _load(self._config)
        return self._data

    # --- what is there ------------------------------------------------------------------------

    def _mapped(self, mask: Callable[[pa.Table], np.ndarray]) -> KeptRows:
        self._choose(self._data.features.arrow_schema)
        self._rows_of = [len(self._data)]
        key = self._config.key
        masks = None if key is None else (mask(rows) for rows in self._scan_raw(0, [key]))
        return KeptRows([(len(self._data), masks)])

    def _counted(self, mask: Callable[[pa.Table], np.ndarray]) -> KeptRows:
        """Read every file once; there is no other way to know how many rows each has."""
        self._rows_of = []

        def groups() -> Iterator[tuple[int, list[np.ndarray]]]:
            for group in range(self._data.num_shards):
                masks, rows = [], 0
                for table in self._scan_raw(group, None):
                    if not self._wanted:
                        self._choose(table.schema)
                    masks.append(mask(table))
                    self._row_bytes = max(self._row_bytes, table.nbytes / max(1, table.num_rows))
                    rows += table.num_rows
                self._rows_of.append(rows)
                yield rows, masks

        return KeptRows(groups())

    def _choose(self, schema: pa.Schema) -> None:
        config = self._config
        plain = [field.name for field in schema if is_plain(field.type)]
        wanted = [config.image, *(column.name for column in self._columns)]
        wanted += [config.key] if config.key else []
        wanted += plain if config.fields is None else config.fields
        for name in wanted:
            if name not in schema.names:
                raise unknown(f"column of {config.path}:", name, schema.names, DataError)
        if config.key is not None and config.key not in plain:
            raise DataError(f"{config.path}: the key {config.key!r} is no column of plain values.")
        self._wanted = list(dict.fromkeys(wanted))

    # --- reading ------------------------------------------------------------------------------

    def _read(self, group: int, place: int) -> Sample:
        number = self._kept.row(group, place)
        if self._config.streaming:
            row = self._recent(group).slice(number, 1)
        else:
            with _plainly(self._config.path):
                row = self._arrow(self._wanted)[number : number + 1]
        cells = {name: value_of(row.column(name)[0]) for name in self._wanted}
        key, config = self._key(cells, group, number), self._config
        out = (config.image, config.key or config.image, *(c.name for c in self._columns))
        image = image_of(
            cells[config.image], config.image, self._root, key, self.bounds, config.allow_outside
        )
        return Sample(key, image, self._captions(cells, key), as_fields(cells, out))

    def _told(self, group: int) -> Iterator[Told]:
        names = [column.name for column in self._columns]
        names += [self._config.key] if self._config.key else []
        names = list(dict.fromkeys(names))
        first = 0
        for rows in self._scan_raw(group, names):
            numbers, kept = self._kept.of(group, first, rows)
            first += rows.num_rows
            cells = [values(kept.column(name)) for name in names]
            for place, number in enumerate(numbers.tolist()):
                row = {name: column[place] for name, column in zip(names, cells, strict=True)}
                key = self._key(row, group, number)
                yield key, partial(self._captions, row, key)

    def _key(self, row: Mapping[str, Any], group: int, number: int) -> str:
        return str(row[self._config.key] if self._config.key else self._starts[group] + number)

    def _captions(self, row: Mapping[str, Any], key: str) -> tuple[Caption, ...]:
        told = {c.name: _named(row[c.name], self._labels.get(c.name)) for c in self._columns}
        return captions_of(told, self._columns, key, self.bounds.max_caption_chars)

    def _arrow(self, columns: Sequence[str] | None) -> Any:
        data = self._open()
        return (data if columns is None else data.select_columns(list(columns))).with_format(
            "arrow"
        )

    def _scan_raw(self, group: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield all rows of a group in pieces."""
        path, streaming = self._config.path, self._config.streaming
        files = [str(file) for file in _files(path)[1]] if streaming else []
        with _plainly(files[group] if group < len(files) else path):
            data = self._arrow(columns)
            if streaming:
                data = data.shard(num_shards=data.num_shards, index=group)
            yield from data.iter(CHUNK)

    def _group(self, group: int) -> pa.Table:
        found = pa.concat_tables(list(self._scan_raw(group, self._wanted)))
        if found.num_rows != self._rows_of[group]:
            raise DataError(f"{self._config.path} changed while it was being read; start again.")
        return found.combine_chunks()


def _label_names(features: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Return the names of classes, by the column that holds their numbers (or lists of them)."""
    found = {}
    for column, feature in (features or {}).items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if isinstance(names, list):
            found[column] = names
    return found


def _named(value: Any, names: list[str] | None) -> Any:
    """Return the names of classes in place of their numbers; None for a number that is none."""
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


@contextlib.contextmanager
def _plainly(path: str) -> Iterator[None]:
    """Turn what `datasets` says of missing and damaged data into a DataError."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (
        DatasetsError,
        pa.ArrowException,
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{path} can't be read by the library datasets ({reason}).") from error


def _load(config: Config) -> Any:
    """Return the data set's split, mapped or as a stream of files."""
    import datasets

    with _plainly(config.path):
        if os.path.isfile(os.path.join(config.path, "dataset_dict.json")):
            splits = sorted(os.listdir(config.path))
            if config.split not in splits:
                known = [name for name in splits if name != "dataset_dict.json"]
                raise unknown(f"split of {config.path}:", config.split, known, DataError)
            return _saved(os.path.join(config.path, config.split), config)
        if os.path.isfile(os.path.join(config.path, "state.json")):
            return _saved(config.path, config)
        suffix, files = _files(config.path)
        options: dict[str, Any] = {"split": config.split, "streaming": config.streaming}
        with _quiet(datasets):
            if files:
                data_files = {config.split: [str(file) for file in files]}
                return datasets.load_dataset(_BUILDERS[suffix], data_files=data_files, **options)
            return datasets.load_dataset(
                config.path, config.subset, revision=config.revision, **options
            )


def _saved(folder: str, config: Config) -> Any:
    """Return what `save_to_disk` wrote; a stream has one shard a file."""
    import datasets

    if not config.streaming:
        return datasets.load_from_disk(folder)
    files = [str(file) for file in listed(Path(folder), ".arrow")]
    with _quiet(datasets):
        return datasets.load_dataset(
            "arrow", data_files={"train": files}, split="train", streaming=True
        )


def _files(path: str) -> tuple[str, list[Path]]:
    """Return the suffix and the parquet or arrow files that a path names; none for other things."""
    for suffix in _BUILDERS:
        if os.path.isdir(path):
            found = listed(Path(path), suffix)
        elif path.endswith(suffix):
            found = expand(path)
        else:
            found = []
        if found:
            return suffix, found
    return "", []


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Hold back the library's progress bars."""
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()
