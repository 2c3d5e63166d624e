"""Texts of a file, or keys of their images, a chunk at a time: lines, jsonl, csv, parquet, npy."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from lift.errors import ConfigError, DataError, unknown
from lift.text.columns import batches_of, damaged, map_npy, open_parquet

SUFFIXES = (".txt", ".jsonl", ".csv", ".tsv", ".parquet", ".npy", ".txt.gz", ".jsonl.gz")
"""What texts may stand in."""

TEXT_COLUMNS = ("caption", "text", "captions", "texts", "sentence", "title")
KEY_COLUMNS = ("key", "id", "ids", "uid", "image_path", "filename", "url")
"""Columns that are taken where none is named, the first that is there."""

_CHUNK = 4_096
_MARK = b"\xef\xbb\xbf"
"""What some editors put in front of UTF-8; no part of the first text."""
_LONGEST_LINE = 16 << 20


def texts_of(path: Path, column: str | None, keys: bool) -> Iterator[list[str | None]]:
    """Yield the texts of one file in order, in chunks; None where a text is missing.

    Args:
        path: of one of `SUFFIXES`.
        column: where the file has columns; None takes the usual one.
        keys: whether keys of images are wanted rather than texts; numbers are keys too.

    Raises:
        ConfigError: no such column (with the known ones), or a file without columns.
        DataError: a file that can't be read.
    """
    plain = path.name.removesuffix(".gz")
    if column is not None and not has_columns(path):
        raise no_columns(path, column)
    if plain.endswith(".txt"):
        yield from _chunks(_lines(path))
    elif plain.endswith(".jsonl"):
        yield from _chunks(_jsonl(path, column, keys))
    elif path.suffix in (".csv", ".tsv"):
        yield from _delimited(path, column, keys)
    elif path.suffix == ".parquet":
        yield from _parquet(path, column, keys)
    elif path.suffix == ".npy":
        yield from _npy(path, keys)
    else:
        raise unknown(f"suffix of {path}:", path.suffix, SUFFIXES, DataError)


def has_columns(path: Path) -> bool:
    """Return whether a file of this suffix may have columns."""
    return not path.name.endswith((".txt", ".txt.gz", ".npy"))


def no_columns(path: Path, column: str) -> ConfigError:
    """Return the sentence about a column that is asked of a file without any."""
    return ConfigError(
        f"{path} has no columns, one text stands in each row, so there is no {column!r}; leave "
        "the column out, or give a table (.csv, .tsv, .jsonl, .parquet)."
    )


def pick_column(path: Path, names: list[str], column: str | None, keys: bool) -> str:
    """Return the column to read; raises ConfigError with the known ones where none fits."""
    usual = KEY_COLUMNS if keys else TEXT_COLUMNS
    if column is None and len(names) == 1:
        return names[0]
    for name in (column,) if column else usual:
        if name in names:
            return name
    option = "id_column" if keys else "text_column"
    raise unknown(f"column of {path} ({option}=...):", column or " or ".join(usual), names)


def _chunks(items: Iterator[str | None]) -> Iterator[list[str | None]]:
    chunk: list[str | None] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def check_encoding(path: Path) -> None:
    """Raise DataError for a text file that says it is UTF-16, as spreadsheets may write."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16, not UTF-8; save it as UTF-8.")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line without its end) of a text file, also a gzipped one.

    Only line feeds end a line, U+2028 and the like do not. Memory holds one line.

    Raises:
        DataError: a file that can't be read, or a line of more than 16 MB.
    """
    try:
        check_encoding(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise DataError(
                        f"{path}, line {number}, is longer than {_LONGEST_LINE:,} bytes; "
                        "give a text file with one text a line."
                    )
                line = line.removeprefix(_MARK) if number == 1 else line
                yield number, line.removesuffix(b"\n").removesuffix(b"\r")
    except (OSError, EOFError, zlib.error) as error:
        told = getattr(error, "strerror", None) or error
        raise DataError(f"{path} can't be read ({told}).") from error


def _lines(path: Path) -> Iterator[str]:
    for number, line in numbered_lines(path):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}, is not UTF-8 ({error}).") from error


def _jsonl(path: Path, column: str | None, keys: bool) -> Iterator[str | None]:
    picked: str | None = None
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}, is not JSON ({error}).") from error
        if isinstance(row, dict):
            picked = picked or pick_column(path, list(row), column, keys)
            row = row.get(picked)
        elif column is not None and row is not None:
            raise DataError(
                f"{path}, line {number}: {row!r:.80} is no object, so it has no {column!r}; leave "
                "the column out."
            )
        yield _text(row, f"{path}, line {number}", keys)


def _delimited(path: Path, column: str | None, keys: bool) -> Iterator[list[str | None]]:
    # Quotes in .tsv are part of the text (as in IANA's text/tab-separated-values): taken for
    # quoting, a single one would swallow all rows up to the next.
    quoted = path.suffix == ".csv"
    parse = pyarrow.csv.ParseOptions(
        delimiter="," if quoted else "\t",
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
    )
    read = pyarrow.csv.ReadOptions(use_threads=False)
    try:
        check_encoding(path)
        with pyarrow.csv.open_csv(path, read_options=read, parse_options=parse) as file:
            column = pick_column(path, file.schema.names, column, keys)
        # A guessed type would turn the id 007 into 7.
        convert = pyarrow.csv.ConvertOptions(
            column_types={column: pa.string()}, include_columns=[column]
        )
        with pyarrow.csv.open_csv(
            path, read_options=read, parse_options=parse, convert_options=convert
        ) as file:
            for batch in file:
                yield from _sliced(batch.column(0).to_pylist())
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(path, error) from error


def _parquet(path: Path, column: str | None, keys: bool) -> Iterator[list[str | None]]:
    with open_parquet(path) as file:
        schema = file.schema_arrow
        column = pick_column(path, schema.names, column, keys)
        kind = schema.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or (keys and pa.types.is_integer(kind))):
            raise DataError(
                f"The column {column!r} of {path} holds {kind}, not text; name another one "
                f"({', '.join(schema.names)})."
            )
        for batch in batches_of(path, file, column, _CHUNK):
            try:
                values = batch.column(0).to_pylist()
            except UnicodeDecodeError as error:
                raise damaged(path, error) from error
            yield values if _is_text(kind) else [None if v is None else str(v) for v in values]


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _npy(path: Path, keys: bool) -> Iterator[list[str | None]]:
    values = map_npy(path)
    if values.ndim != 1 or values.dtype.kind not in ("USiu" if keys else "US"):
        raise DataError(
            f"{path} holds {values.dtype} of the shape {values.shape}, not one text a row; save "
            "texts with astype(str), or as .txt or .jsonl."
        )
    for start in range(0, len(values), _CHUNK):
        try:
            chunk = values[start : start + _CHUNK].tolist()
            yield [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in chunk]
        except (UnicodeDecodeError, SystemError, ValueError) as error:
            # numpy gives characters beyond Unicode to Python unchecked, which says SystemError.
            raise DataError(f"{path}: a text from {start} on is not Unicode ({error}).") from error


def _sliced(values: list[str | None]) -> Iterator[list[str | None]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _text(value: object, where: str, keys: bool) -> str | None:
    if value is None or isinstance(value, str):
        if value and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:  # half of a pair, which JSON can spell
                raise DataError(
                    f"{where}: {value!r:.80} is not valid Unicode ({error.reason})."
                ) from error
        return value
    if keys and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: {value!r:.80} is not text.")
