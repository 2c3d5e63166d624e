"""Rows of vectors on disk behind one face: `.npy` mapped into memory, parquet a block at a time."""

from __future__ import annotations

import abc
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from lift.errors import ConfigError, DataError, unknown
from lift.text.columns import Files, batches_of, map_npy, open_parquet

_BLOCK_BYTES = 8 << 20
"""Of one decoded piece of a parquet row group."""

_HELD_BYTES = 64 << 20
"""Of all decoded pieces: what reading parquet costs in memory, however large the files are."""

_MAPPED = 16
"""`.npy` files mapped at a time."""


class Rows(abc.ABC):
    """Vectors of several files, numbered through.

    Attributes:
        dimensions: length of a row.
        dtype: of the stored numbers.
    """

    dimensions: int
    dtype: np.dtype
    _starts: np.ndarray  # of each block that can be read by itself, then the number of rows

    def __len__(self) -> int:
        return int(self._starts[-1])

    @abc.abstractmethod
    def _block(self, row: int) -> tuple[int, np.ndarray]:
        """Return (number of its first row, rows) of some stretch that holds `row`."""

    @abc.abstractmethod
    def file_rows(self) -> Iterator[tuple[Path, int]]:
        """Yield every file with its number of rows, in order."""

    def read(self, rows: Int64[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"]:
        """Return rows by number. Ascending numbers that lie together are fast.

        Raises:
            DataError: a file that is damaged, or has changed, or a row of another width.
        """
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        found = np.empty((len(rows), self.dimensions), np.float32)
        done = 0
        while done < len(rows):
            start, values = self._block(int(ascending[done]))
            end = int(np.searchsorted(ascending, start + len(values)))
            # A float64 beyond float32 becomes infinite, which the caller finds.
            with np.errstate(over="ignore"):
                found[order[done:end]] = values[ascending[done:end] - start]
            done = end
        return found


def open_rows(layout: str, files: Files, column: str | None) -> Rows:
    """Return the rows of files of one layout.

    Raises:
        ConfigError: rows of different widths, or no column of vectors.
        DataError: a file that can't be read, or no rows at all.
    """
    rows = ParquetRows(files, column) if layout in ("parquet", "reference") else NpyRows(files)
    if not len(rows):
        raise DataError(f"The {len(files)} file(s) from {files[0]} on hold no rows.")
    return rows


def require_matrix(path: Path, values: np.ndarray) -> None:
    """Raise ConfigError unless `values` are rows of floating-point numbers."""
    if values.ndim == 2:
        require_width(path, values.shape[1])
    if values.ndim != 2 or values.dtype.kind != "f" or values.dtype.itemsize not in (2, 4, 8):
        raise ConfigError(
            f"{path} holds {values.dtype} of the shape {values.shape}; rows of vectors are "
            "float16, float32 or float64 of the shape (rows, dimensions)."
        )


def require_width(path: Path, width: int) -> None:
    """Raise ConfigError where rows hold no values at all."""
    if width < 1:
        raise ConfigError(f"{path} has rows of no values at all; give the files with the vectors.")


def first_width(layout: str, files: Files, column: str | None) -> int:
    """Return the length of the first row, without looking at all files; raises as `open_rows`."""
    for path in files:
        width: int | None
        if layout in ("parquet", "reference"):
            with open_parquet(path) as file:
                name = column or vector_column(path, file.schema_arrow)
                width = _vector_type(path, file.schema_arrow, name)[1]
                width = _first_width(path, file, name) if width is None else width
        else:
            values = map_npy(path)
            require_matrix(path, values)
            width = values.shape[1]
        if width is not None:
            require_width(path, width)
            return width
    raise DataError(f"The {len(files)} file(s) from {files[0]} on hold no rows.")


class NpyRows(Rows):
    """Rows of `.npy` files."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._mapped: OrderedDict[int, np.ndarray] = OrderedDict()
        ends = array("q", [0])
        for number, path in enumerate(files):
            values = map_npy(path)
            require_matrix(path, values)
            if number == 0:
                self.dimensions, self.dtype = values.shape[1], values.dtype
            elif values.shape[1] != self.dimensions:
                raise ConfigError(
                    f"{path} has rows of {values.shape[1]} values, {files[0]} of "
                    f"{self.dimensions}: one space has one width; give the files of one model."
                )
            if values.dtype.itemsize < self.dtype.itemsize:
                self.dtype = values.dtype  # the coarsest decides what counts as rounding
            ends.append(ends[-1] + len(values))
        self._starts = np.frombuffer(ends, np.int64)

    def file_rows(self) -> Iterator[tuple[Path, int]]:
        yield from zip(self._files, np.diff(self._starts).tolist(), strict=True)

    def _block(self, row: int) -> tuple[int, np.ndarray]:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        start = int(self._starts[number])
        if number not in self._mapped:
            values = map_npy(self._files[number])
            if values.shape != (int(self._starts[number + 1]) - start, self.dimensions):
                raise _changed(self._files[number])
            self._mapped[number] = values
            if len(self._mapped) > _MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(number)
        return start, self._mapped[number]


class ParquetRows(Rows):
    """Rows in a column of lists. Each row group is decoded forward, in pieces that are held.

    Parquet can't be entered in the middle of a row group: rows in the order of the files cost one
    pass, rows in random order one pass over a group for each piece that is no longer held.
    """

    def __init__(self, files: Files, column: str | None) -> None:
        self._files = files
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cursor: tuple[int, int, Iterator[pa.RecordBatch]] | None = None
        file_of, group_of, ends = array("q"), array("i"), array("q", [0])
        self.dimensions = 0
        for number, path in enumerate(files):
            with open_parquet(path) as file:
                column = column or vector_column(path, file.schema_arrow)
                kind, width = _vector_type(path, file.schema_arrow, column)
                counts = [
                    file.metadata.row_group(group).num_rows
                    for group in range(file.metadata.num_row_groups)
                ]
                if width is None and not self.dimensions:
                    width = _first_width(path, file, column)
            if width is not None:
                require_width(path, width)
            if width is not None and self.dimensions not in (0, width):
                raise ConfigError(
                    f"{path} has rows of {width} values, {files[0]} of {self.dimensions}: one "
                    "space has one width; give the files of one model."
                )
            self.dimensions = self.dimensions or width or 0
            self.dtype = kind if number == 0 else min(self.dtype, kind, key=lambda k: k.itemsize)
            for group, count in enumerate(counts):
                file_of.append(number)
                group_of.append(group)
                ends.append(ends[-1] + count)
        self._column = column or ""
        self._file_of = np.frombuffer(file_of, np.int64)
        self._group_of = np.frombuffer(group_of, np.int32)
        self._starts = np.frombuffer(ends, np.int64)

    def file_rows(self) -> Iterator[tuple[Path, int]]:
        at = np.searchsorted(self._file_of, np.arange(len(self._files) + 1))
        yield from zip(self._files, np.diff(self._starts[at]).tolist(), strict=True)

    def _block(self, row: int) -> tuple[int, np.ndarray]:
        for start, values in reversed(self._held.items()):
            if start <= row < start + len(values):
                self._held.move_to_end(start)
                return start, values
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._cursor is None or self._cursor[0] != group or self._cursor[1] > row:
            self._cursor = (group, int(self._starts[group]), self._decode(group))
        _, start, batches = self._cursor
        path = self._files[int(self._file_of[group])]
        while True:
            batch = next(batches, None)
            if batch is None:
                self._cursor = None
                raise _changed(path)
            end = start + batch.num_rows
            self._cursor = (group, end, batches)
            if end > row:
                break
            start = end
        values = _matrix(path, batch.column(0), self.dimensions)
        self._held[start] = values
        while len(self._held) > 1 and sum(v.nbytes for v in self._held.values()) > _HELD_BYTES:
            self._held.popitem(last=False)
        return start, values

    def _decode(self, group: int) -> Iterator[pa.RecordBatch]:
        path = self._files[int(self._file_of[group])]
        size = max(1, _BLOCK_BYTES // (self.dimensions * self.dtype.itemsize))
        number = int(self._group_of[group])
        with open_parquet(path) as file:
            if number >= file.metadata.num_row_groups:
                raise _changed(path)
            yield from batches_of(path, file, self._column, size, [number])


def vector_column(path: Path, schema: pa.Schema) -> str:
    """Return the one column that holds lists of floating-point numbers.

    Raises:
        ConfigError: none, or several; the known columns are named.
    """
    found = [field.name for field in schema if _value_type(field.type) is not None]
    for name in ("embedding", "embeddings", "vector"):
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    told = "several columns" if found else "no column"
    raise ConfigError(
        f"{path} has {told} of lists of floating-point numbers; name one with vector_column=... "
        f"(columns: {', '.join(f'{f.name} ({f.type})' for f in schema)})."
    )


def _vector_type(path: Path, schema: pa.Schema, column: str) -> tuple[np.dtype, int | None]:
    """Return (type of the numbers, length of a row where the schema says it)."""
    if column not in schema.names:
        raise unknown(f"column of {path}:", column, schema.names)
    kind = schema.field(column).type
    value = _value_type(kind)
    if value is None:
        raise ConfigError(
            f"The column {column!r} of {path} holds {kind}, not lists of float16, float32 or "
            f"float64 (columns: {', '.join(schema.names)})."
        )
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
    return np.dtype(value.to_pandas_dtype()), width


def _value_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of the numbers in a type of vectors, else None."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    types = pa.types
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if listed and types.is_floating(kind.value_type) else None


def _first_width(path: Path, file: pq.ParquetFile, column: str) -> int | None:
    for batch in batches_of(path, file, column, 1):
        if batch.num_rows and batch.column(0)[0].is_valid:
            return len(batch.column(0)[0])
    return None


def _matrix(path: Path, column: Any, width: int) -> np.ndarray:
    """Return an array of lists as rows, without a copy where there are no nulls."""
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    flat = lists.flatten()  # leaves out what lies under a null list
    if not pa.types.is_fixed_size_list(lists.type):
        wrong = np.flatnonzero(np.diff(lists.offsets.to_numpy()) != width)
        if len(wrong):
            raise DataError(
                f"{path} has a row of {len(lists[int(wrong[0])].as_py() or ())} values among rows "
                f"of {width}; one space has one width."
            )
    if lists.null_count or flat.null_count or len(flat) != len(lists) * width:
        raise DataError(f"{path} has nulls where vectors should be; leave those rows out.")
    return flat.to_numpy(zero_copy_only=False).reshape(len(lists), width)


def _changed(path: Path) -> DataError:
    return DataError(f"{path} changed while it was being read; start again.")
