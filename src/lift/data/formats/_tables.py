"""Files of rows behind one face: parquet by row group, csv, tsv and jsonl in a mapped copy."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from lift.data.formats._captions import NotText
from lift.data.formats._layout import Refuse
from lift.data.formats._places import Places
from lift.data.formats._text_rows import CHUNK, batches_of
from lift.data.spilled import Spool
from lift.errors import DataError, unknown

SUFFIXES = (".csv", ".tsv", ".jsonl", ".jsonl.gz", ".parquet")
_MOST_COLUMNS = 1_000
"""A file with more names is no table; each one costs memory in every chunk of rows."""

Rows: TypeAlias = pa.Table | pa.RecordBatch


_ODD = (ValueError, OverflowError, KeyError, pa.ArrowException)
"""What Arrow raises for a cell whose value Python can't hold; text that is no UTF-8 too."""


@runtime_checkable
class File(Protocol):
    """One file of rows.

    Attributes:
        path: where it lies.
        columns: every column's name.
        plain: those whose values are numbers, text, booleans or dates.
        groups: rows in each group.
        chunks: how many pieces are loaded at a time.
        is_text: whether all values are text, and lists may be spelled in JSON.
        row_bytes: what a row takes in memory when a chunk is loaded; 0 where that is mapped.
    """

    path: Path
    columns: list[str]
    plain: list[str]
    groups: tuple[int, ...]
    chunks: int
    is_text: bool
    row_bytes: float

    def at(self, group: int, row: int) -> tuple[int, int]:
        """Return (chunk, place in it) of a group's row."""
        ...

    def load(self, chunk: int, columns: Sequence[str]) -> Rows:
        """Return a chunk's columns."""
        ...

    def scan(self, group: int, columns: Sequence[str], most: int = CHUNK) -> Iterator[Rows]:
        """Yield a group's columns in order, at most `most` rows at a time."""
        ...


def open_file(path: Path, quote: bool | None, refuse: Refuse) -> File:
    """Open a file of rows by its suffix; a folder is a table of its images.

    Args:
        path: of the file.
        quote: whether `"` quotes values of csv and tsv; see `_text_rows.batches_of`.
        refuse: is told (kind, sentence) of every line that is no row; it counts or raises.

    Raises:
        DataError: an unknown suffix, or a damaged file.
    """
    try:
        if path.suffix == ".parquet":
            return _Parquet(path)
        if path.name.endswith(SUFFIXES) or path.is_dir():
            return _Text(path, quote, refuse)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    raise unknown(f"suffix of {path}:", path.suffix, SUFFIXES, DataError)


def values(column: Any) -> list[Any]:
    """Return a column's values; `NotText` where a string is no UTF-8.

    A time that Python has none for (the year 300,000, a zone nobody knows) is text.
    """
    try:
        return column.to_pylist()
    except _ODD:
        return [value_of(cell) for cell in column]


def records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as they are, with such values."""
    columns = [values(column) for column in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def value_of(cell: Any) -> Any:
    """Return one cell's value, likewise."""
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        buffer = cell.as_buffer() if hasattr(cell, "as_buffer") else None
        return NotText(buffer.to_pybytes() if buffer is not None else b"\xff")
    except _ODD:
        return str(cell.value) if hasattr(cell, "value") else None


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return DataError(f"{path} can't be read as {path.suffix} ({reason}).")


def _require_columns(path: Path, names: Sequence[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise DataError(f"{path} has more than {_MOST_COLUMNS:,} columns; it is no table of pairs.")
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns of one name: {', '.join(names)}; rename one.")


def _changed(path: Path) -> DataError:
    return DataError(f"{path} changed while it was being read; start again.")


class _Parquet:
    """A parquet file; each read opens it anew, so that it can be shared by processes."""

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        with pq.ParquetFile(path) as file:
            schema, meta = file.schema_arrow, file.metadata
            self.columns = list(schema.names)
            _require_columns(path, self.columns)
            self.plain = [field.name for field in schema if is_plain(field.type)]
            groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
            self.groups = tuple(group.num_rows for group in groups)
            self.row_bytes = max(
                (g.total_byte_size / g.num_rows for g in groups if g.num_rows), default=0.0
            )
        self.chunks = len(self.groups)

    def at(self, group: int, row: int) -> tuple[int, int]:
        return group, row

    def load(self, chunk: int, columns: Sequence[str]) -> Rows:
        try:
            with pq.ParquetFile(self.path) as file:
                self._check(chunk, file)
                found = file.read_row_group(chunk, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error
        return found.combine_chunks()

    def scan(self, group: int, columns: Sequence[str], most: int = CHUNK) -> Iterator[Rows]:
        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                self._check(group, file)
                yield from file.iter_batches(
                    most, [group], columns=list(columns), use_threads=False
                )
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error

    def _check(self, group: int, file: pq.ParquetFile) -> None:
        meta = file.metadata
        if (
            meta.num_row_groups != self.chunks
            or meta.row_group(group).num_rows != (self.groups[group])
        ):
            raise _changed(self.path)


def is_plain(kind: pa.DataType) -> bool:
    """Return whether values are numbers, text, booleans or dates."""
    types = pa.types
    return not (
        types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


class _Text:
    """A text table as one group: read once into an unnamed Arrow file, where any row is near.

    Its chunks may differ in their columns, because lines of JSON do; memory holds where each
    chunk starts. A copy in another process reads the table again.
    """

    is_text = True

    def __init__(self, path: Path, quote: bool | None, refuse: Refuse) -> None:
        self.path = path
        self._quote = quote
        self.row_bytes = 0.0
        self._spool(refuse)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_data"}

    def _spool(self, refuse: Refuse) -> None:
        starts, sizes = array("q", [0]), array("q")
        plain: dict[str, bool] = {}
        with Spool() as spool:
            for batch in batches_of(self.path, self._quote, refuse):
                _require_columns(self.path, batch.schema.names)
                for field in batch.schema:
                    plain[field.name] = plain.get(field.name, True) and is_plain(field.type)
                _require_columns(self.path, list(plain))
                if batch.num_rows:
                    _write(spool, batch)
                    starts.append(spool.length)
                    sizes.append(batch.num_rows)
            self._data = pa.py_buffer(spool.mapped())
        pa.default_memory_pool().release_unused()
        self.columns, self.plain = list(plain), [name for name, is_so in plain.items() if is_so]
        self.groups, self.chunks = (sum(sizes),), len(sizes)
        self._starts, self._places = starts, Places(sizes)

    def at(self, group: int, row: int) -> tuple[int, int]:
        return self._places(row)

    def load(self, chunk: int, columns: Sequence[str]) -> Rows:
        if not hasattr(self, "_data"):
            self._spool_again()
        start, stop = self._starts[chunk : chunk + 2]
        batch = pa.ipc.open_stream(self._data.slice(start, stop - start)).read_next_batch()
        known = set(batch.schema.names)
        arrays = [
            batch.column(name) if name in known else pa.nulls(batch.num_rows, pa.string())
            for name in columns
        ]
        return pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def scan(self, group: int, columns: Sequence[str], most: int = CHUNK) -> Iterator[Rows]:
        for chunk in range(self.chunks):
            batch = self.load(chunk, columns)
            for start in range(0, batch.num_rows, most):
                yield batch.slice(start, most)

    def _spool_again(self) -> None:
        before = self.columns, self.groups, self._starts
        try:
            self._spool(lambda kind, sentence: None)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(self.path, error) from error
        if before != (self.columns, self.groups, self._starts):
            del self._data
            raise _changed(self.path)


def _write(spool: Spool, batch: pa.RecordBatch) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    spool.write(sink.getvalue())
    spool.write(bytes(-spool.length % 64))  # Arrow wants its buffers aligned
