"""One file with the captions of many images: csv, tsv, txt, jsonl, json, parquet, row by row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lift.data import kinds
from lift.data.formats._captions import Column, columns_of, spelled
from lift.data.formats._files import ending_of
from lift.data.formats._images import IMAGES
from lift.data.formats._json_items import items
from lift.data.formats._layout import Absent
from lift.data.formats._tables import is_plain, records
from lift.errors import DataError, unknown
from lift.text.reading import numbered_lines

SUFFIXES = (".csv", ".tsv", ".txt", ".token", ".jsonl", ".json", ".parquet")

CAPTION_FILES = (
    *("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl", "captions.csv"),
    *("captions.tsv", "captions.parquet", "captions.json", "captions.txt"),
)
"""Names of files with all captions, in the order in which they are looked for."""

FILE_COLUMNS = (
    *("file_name", "filename", "file", "image", "image_name", "image_path", "filepath"),
    *("path", "name", "img"),
)
CAPTION_COLUMNS = (
    *("caption", "captions", "text", "texts", "title", "comment", "sentence", "sentences"),
    *("raw", "description", "prompt"),
)
"""Columns that are taken where none is named, the first that is there."""

_ONLY = Column("caption", "raw")
_NUMBERED = re.compile(r"#\d+$")
_FORM = kinds.ROW_FORM
_HEAD = 100
"""Rows whose columns are looked at before the first is taken."""


class Row(NamedTuple):
    """One row: where it stands, its image's name, its captions by column, its other values."""

    where: str
    image: str
    told: list[tuple[Column, Any]]
    rest: dict[str, Any]


class Wanted(NamedTuple):
    """Which columns to read; None takes the usual ones, their captions in the role "raw"."""

    file: str | None = None
    captions: tuple[Column, ...] | None = None


def wanted(file: str | None, caption: str | tuple[str, ...] | None) -> Wanted:
    """Return which columns the options name."""
    return Wanted(file, None if caption is None else columns_of(caption))


def rows(path: Path, columns: Wanted, absent: Absent) -> Iterator[Row]:
    """Yield the rows of a captions file; `absent` is told of rows of another form.

    Raises:
        DataError: the file can't be read, or lacks a column.
    """
    try:
        if path.suffix == ".parquet":
            yield from _records(path, _parquet(path, columns), columns, absent)
        elif path.suffix == ".jsonl":
            yield from _records(path, _jsonl(path, absent), columns, absent)
        elif path.suffix == ".json":
            yield from _json(path, columns, absent)
        elif path.suffix in SUFFIXES:
            yield from _cells(path, columns, absent)
        else:
            raise unknown(f"suffix of {path}:", path.suffix, SUFFIXES, DataError)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or error}).") from error


def pick(path: Path, names: Sequence[str], columns: Wanted) -> tuple[str, tuple[Column, ...]]:
    """Return the column of file names and those of captions among a file's columns.

    Raises:
        DataError: a column is missing.
    """
    file = columns.file or _usual(names, FILE_COLUMNS)
    if file is None or file not in names:
        raise unknown(f"column of file names in {path}:", file or "file_name", names, DataError)
    captions = columns.captions
    if captions is None:
        usual = _usual([name for name in names if name != file], CAPTION_COLUMNS)
        if usual is None:
            raise unknown(f"column of captions in {path}:", "caption", names, DataError)
        captions = (Column(usual, "raw"),)
    for column in captions:
        if column.name not in names:
            raise unknown(f"column of {path}:", column.name, names, DataError)
    return file, captions


def _usual(names: Sequence[str], known: Sequence[str]) -> str | None:
    lowered = {name.strip().lower(): name for name in reversed(names)}
    return next((lowered[name] for name in known if name in lowered), None)


def _records(
    path: Path, found: Iterator[tuple[int, Any]], columns: Wanted, absent: Absent
) -> Iterator[Row]:
    # The first records may lack a column that others have.
    head = list(islice(found, _HEAD))
    known = [record for _, record in head if isinstance(record, dict)]
    picked = pick(path, list(dict.fromkeys(chain(*known))), columns) if known else None
    for number, record in chain(head, found):
        where = f"{path.name}, row {number}"
        if isinstance(record, dict) and picked is None:
            picked = pick(path, list(record), columns)
        image = record.get(picked[0]) if picked and isinstance(record, dict) else None
        if picked is None or not isinstance(image, str) or not image:
            absent.add(_FORM, where)
            continue
        file, captions = picked
        told = [(column, record.get(column.name)) for column in captions]
        spent = {file, *(column.name for column in captions)}
        yield Row(where, image, told, {k: v for k, v in record.items() if k not in spent})


def _json(path: Path, columns: Wanted, absent: Absent) -> Iterator[Row]:
    """Yield the rows of a list of objects, or of an object from file names to captions."""
    found = enumerate(items(path), 1)
    first = next(found, None)
    if first is None:
        return
    whole = chain([first], found)
    if not first[1].name:
        yield from _records(path, ((n, value) for n, (_, value) in whole), columns, absent)
        return
    for number, (name, value) in whole:
        if isinstance(value, str):
            # An array of texts gives one row each, which are joined with the image again.
            yield Row(f"{path.name}, row {number}", name, [(_ONLY, value)], {})
        else:
            absent.add(_FORM, f"{path.name}, row {number}")


def _parquet(path: Path, columns: Wanted) -> Iterator[tuple[int, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            picked, captions = pick(path, schema.names, columns)
            names = {picked, *(column.name for column in captions)}
            # Other columns become fields where they hold plain values, never images.
            names |= {f.name for f in schema if is_plain(f.type)}
            number = 0
            for batch in file.iter_batches(1024, columns=sorted(names), use_threads=False):
                yield from enumerate(records(batch), number + 1)
                number += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} can't be read as .parquet ({reason}).") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, numbered from 1; broken bytes become half pairs."""
    for number, line in numbered_lines(path):
        text = line.decode("utf-8", "surrogateescape")
        if text.strip():
            yield number, text


def _jsonl(path: Path, absent: Absent) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(path):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            absent.add(kinds.ROW_NO_JSON, f"{path.name}, row {number}")


def _cells(path: Path, columns: Wanted, absent: Absent) -> Iterator[Row]:
    """Yield rows of delimited files, with a header or without (name first, caption last)."""
    first = next(_lines(path), (0, ""))[1]
    mark = _delimiter(path, first)
    headed = _is_header(_cells_of(first, mark), columns)
    if path.suffix == ".csv" and mark == ",":
        table = _quoted(path)
    else:
        # Marks behind the last column belong to its text.
        table = _split(path, mark, len(_cells_of(first, mark)) - 1 if headed or mark == "|" else 1)
    header: list[str] = []
    file, captions = "", ()
    for number, cells in table:
        where = f"{path.name}, row {number}"
        if headed and not header:
            header = [cell.strip() for cell in cells]
            file, captions = pick(path, header, columns)
        elif headed and len(cells) == len(header):
            record = dict(zip(header, cells, strict=True))
            told = [(column, spelled(record[column.name])) for column in captions]
            spent = {file, *(column.name for column in captions)}
            rest = {name: v for name, v in record.items() if name not in spent and v}
            yield Row(where, _NUMBERED.sub("", record[file].strip()), told, rest)
        elif headed or len(cells) < 2:
            absent.add(_FORM, where)
        else:
            numbered = mark == "|" and len(cells) > 2 and cells[1].strip().isdigit()
            text = mark.join(cells[2 if numbered else 1 :])
            yield Row(where, _NUMBERED.sub("", cells[0].strip()), [(_ONLY, text)], {})


def delimiter_of(path: Path) -> str:
    """Return what parts the cells of a csv, tsv or txt file."""
    return _delimiter(path, next(_lines(path), (0, ""))[1])


def _delimiter(path: Path, line: str) -> str:
    """Return what parts the cells of a file, by its first line: names of images or a header."""
    if path.suffix == ".tsv":
        return "\t"
    marks = ",;\t|" if path.suffix == ".csv" else "\t|, "
    for mark in marks:
        name, found, _ = line.partition(mark)
        if found and _is_image(name.strip().strip('"')):
            return mark
    if path.suffix == ".csv":
        return max(marks, key=line.count)
    return next((mark for mark in marks[:-1] if mark in line), "\t")


def _is_image(name: str) -> bool:
    return ending_of(_NUMBERED.sub("", name)) in IMAGES


def _is_header(cells: Sequence[str], columns: Wanted) -> bool:
    names = [cell.strip() for cell in cells]
    if columns.file or columns.captions:
        return True  # `pick` says which column is missing
    return bool(_usual(names, FILE_COLUMNS) and _usual(names, CAPTION_COLUMNS))


def _quoted(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a csv file as written by spreadsheets: quoted values may hold anything."""
    lines = (line.decode("utf-8", "surrogateescape") + "\n" for _, line in numbered_lines(path))
    table = csv.reader(lines, strict=True)
    while True:
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {table.line_num}, is not csv ({error}).") from error
        if cells:
            yield table.line_num, cells


def _split(path: Path, mark: str, most: int) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(path):
        yield number, _cells_of(line, mark, most)


def _cells_of(line: str, mark: str, most: int = -1) -> list[str]:
    """Return the cells of a line, without their quotes where commas part them."""
    cells = line.split(mark, most)
    if mark == "," and '"' in line:
        try:
            quoted = next(csv.reader([line], strict=True))
        except csv.Error:
            return cells
        return quoted if most < 0 or len(quoted) == most + 1 else cells
    return cells


def first_rows(path: Path, absent: Absent) -> Iterator[dict[str, Any]]:
    """Yield the rows of csv, tsv, txt, jsonl as they are, for a look; "0", "1" without a header."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from (row for _, row in _jsonl(path, absent) if isinstance(row, dict))
        return
    first = next(_lines(path), (0, ""))[1]
    mark = _delimiter(path, first)
    if path.suffix == ".csv" and mark == ",":
        table = _quoted(path)
    else:
        table = _split(path, mark, len(_cells_of(first, mark)) - 1)
    names: list[str] = []
    for _, cells in table:
        if not names:
            # A first row with an image's name in it is no header.
            names = [cell.strip() for cell in cells]
            if not any(map(_is_image, names)):
                continue
            names = [str(number) for number in range(len(cells))]
        told = [spelled(cell.strip()) for cell in cells]
        told[:1] = [_NUMBERED.sub("", cells[0].strip())]
        yield dict(zip(names, told, strict=False))
