"""Files of rows behind one face: parquet by row group, csv, tsv and jsonl as one group of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lift.errors import DataError, unknown

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@runtime_checkable
class File(Protocol):
    """One file of rows.

    Attributes:
        path: where it lies.
        columns: every column's name.
        plain: those whose values are numbers, text, booleans or dates.
        groups: rows in each group.
        row_bytes: what a row takes in memory when a group is read; 0 where all is held anyway.
    """

    path: Path
    columns: list[str]
    plain: list[str]
    groups: tuple[int, ...]
    row_bytes: float

    def read(self, group: int, columns: Sequence[str]) -> pa.Table: ...


def open_file(path: Path, quote: bool) -> File:
    """Open a file of rows by its suffix.

    Raises:
        DataError: an unknown suffix, or a damaged file.
    """
    try:
        if path.suffix == ".parquet":
            return _Parquet(path)
        if path.suffix in (".csv", ".tsv"):
            return _Text(path, _read_delimited(path, "," if path.suffix == ".csv" else "\t", quote))
        if path.suffix == ".jsonl":
            return _Text(path, _read_jsonl(path))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    raise unknown(f"suffix of {path}:", path.suffix, SUFFIXES, DataError)


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} can't be read as {path.suffix} ({reason}).")


class _Parquet:
    """A parquet file; each read opens it anew, so that it can be shared by processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pq.ParquetFile(path) as file:
            schema, meta = file.schema_arrow, file.metadata
            self.columns = list(schema.names)
            _require_distinct(path, self.columns)
            self.plain = [field.name for field in schema if _is_plain(field.type)]
            groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
            self.groups = tuple(group.num_rows for group in groups)
            self.row_bytes = max(
                (g.total_byte_size / g.num_rows for g in groups if g.num_rows), default=0.0
            )

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        try:
            with pq.ParquetFile(self.path) as file:
                found = file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error
        if found.num_rows != self.groups[group]:
            raise DataError(f"{self.path} changed while it was being read; start again.")
        return found.combine_chunks()


def _require_distinct(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns of one name: {', '.join(names)}.")


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    return not (
        types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


class _Text:
    """A text table, held whole as columns."""

    def __init__(self, path: Path, table: pa.Table) -> None:
        self.path = path
        self._table = table
        self.columns = list(table.column_names)
        self.plain = [field.name for field in table.schema if _is_plain(field.type)]
        self.groups = (table.num_rows,)
        self.row_bytes = 0.0  # the selection shares the memory of the whole

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        assert group == 0, "a text table is one group"
        return self._table.select(list(columns))


def _read_delimited(path: Path, delimiter: str, quote: bool) -> pa.Table:
    parse = pyarrow.csv.ParseOptions(
        delimiter=delimiter, quote_char='"' if quote else False, newlines_in_values=quote
    )
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=16 << 20)
    with pyarrow.csv.open_csv(path, read_options=read, parse_options=parse) as file:
        names = file.schema.names
    _require_distinct(path, names)
    # Every value stays text: a guessed type would turn the key 007 into 7.
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = pyarrow.csv.read_csv(
        path, read_options=read, parse_options=parse, convert_options=convert
    )
    return table.combine_chunks()


def _read_jsonl(path: Path) -> pa.Table:
    """Return text and lists of texts as they are, other values as JSON text.

    Python's parser, not Arrow's: that one reads a caption "2012-03-04" as a date.
    """
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}, is not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}, is not a JSON object.")
            rows.append({name: _plain(value) for name, value in row.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column(path, name, [row.get(name) for row in rows]) for name in names})


def _plain(value: Any) -> str | list[str] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _column(path: Path, name: str, values: list[Any]) -> pa.Array:
    listed = any(isinstance(value, list) for value in values)
    if listed:
        values = [[value] if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values, type=pa.list_(pa.string()) if listed else pa.string())
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        broken = next(n for n, value in enumerate(values) if not _is_writable(value))
        raise DataError(
            f"{path}: row {broken} (from 0) has text in {name!r} that can't be written as UTF-8 "
            f"({error}); mend it or leave the row out."
        ) from error
    except pa.ArrowException as error:
        raise DataError(f"{path}: column {name!r} can't be kept as text ({error}).") from error


def _is_writable(value: str | list[str] | None) -> bool:
    try:
        "".join(value or "").encode()
    except UnicodeEncodeError:
        return False
    return True
