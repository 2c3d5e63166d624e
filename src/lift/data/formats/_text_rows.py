"""Lines of csv, tsv and jsonl to batches of rows, in bounded memory; broken lines are told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lift.data import kinds
from lift.data.formats._files import ending_of, without_ending
from lift.data.formats._images import IMAGES, is_text
from lift.data.formats._layout import Refuse
from lift.data.formats._ragged import chunked, in_order
from lift.text.reading import check_encoding, numbered_lines

CHUNK = 4_096
_FOLDER = pa.schema([("item", pa.string()), ("image", pa.string())])
_CHUNK_BYTES = 8 << 20
_compute: Any = pc
"""Its functions are made when it is imported, so no checker of types knows them."""

_BLOCK_BYTES = 1 << 19
"""What Arrow parses at a time; it reads 32 ahead. A file with a longer row is refused."""


def batches_of(path: Path, quote: bool | None, refuse: Refuse) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a text table in order, all columns as text or lists of texts.

    Args:
        path: of the table; of a folder, its images.
        quote: whether `"` quotes values of csv and tsv, so that they may hold what parts values
            and rows. None: of csv. Tsv is often written without, and a single `"` would swallow
            all rows up to the next: there a value keeps to its line, and loses its quotes if it
            is quoted as a whole.
        refuse: is told (kind, sentence) of what is no row.

    Raises:
        DataError: a file that can't be read, or a line that is far too long.
        pyarrow.ArrowException, OSError, UnicodeDecodeError: what Arrow says of a csv.
    """
    if path.is_dir():
        yield from _folder(path, refuse)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _jsonl(path, refuse)
    else:
        yield from _delimited(path, "," if path.suffix == ".csv" else "\t", quote, refuse)


# --- csv and tsv --------------------------------------------------------------------------------


def _delimited(
    path: Path, mark: str, quote: bool | None, refuse: Refuse
) -> Iterator[pa.RecordBatch]:
    def ragged(row: pyarrow.csv.InvalidRow) -> str:
        broken.append((row.number, row.actual_columns, row.text or ""))
        return "skip"

    # Arrow can't pass an error through the handler, so they are told when the block is there.
    broken: list[tuple[int | None, int, str]] = []
    quotes = mark == "," if quote is None else quote
    options: dict[str, Any] = {
        "read_options": pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter=mark,
            quote_char='"' if quotes else False,
            newlines_in_values=quotes,
            invalid_row_handler=ragged,
        ),
    }
    check_encoding(path)
    with pyarrow.csv.open_csv(path, **options) as file:
        names = file.schema.names
    broken.clear()  # the first block is parsed again
    bare = quote is None and not quotes
    schema = pa.schema([(_bare(name) if bare else name, pa.string()) for name in names])
    yield _empty(schema)
    if len(set(schema.names)) < len(names):
        return
    # Every value stays text: a guessed type would turn the key 007 into 7. Bytes, because one
    # value that is no UTF-8 would end the reading of all.
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))
    rows = 0
    with pyarrow.csv.open_csv(path, convert_options=convert, **options) as file:
        while True:
            try:
                block = file.read_next_batch()
            except StopIteration:
                block = None
            for number, columns, text in broken:
                refuse(
                    kinds.ROW_FORM,
                    f"{path}, row {number}, has {columns:,} columns instead of {len(names)}: "
                    f"{text[:80]!r}",
                )
            broken.clear()
            if block is None:
                return
            for start in range(0, block.num_rows, CHUNK):
                piece = block.slice(start, CHUNK).rename_columns(schema.names)
                ready = _as_text(path, piece, schema, rows, refuse)
                yield _unquoted(ready) if bare else ready
                rows += piece.num_rows


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


def _as_text(
    path: Path, batch: pa.RecordBatch, schema: pa.Schema, first: int, refuse: Refuse
) -> pa.RecordBatch:
    try:
        return batch.cast(schema)
    except pa.ArrowInvalid:
        keep = []
        for place in range(batch.num_rows):
            for name in schema.names:
                if not _is_utf8(batch.column(name)[place].as_py()):
                    refuse(
                        kinds.ROW_NO_UTF8,
                        f"{path}, row {first + place:,} of those with all columns (from 0), has "
                        f"text in {name!r} that is not UTF-8.",
                    )
                    break
            else:
                keep.append(place)
        return batch.take(pa.array(keep, pa.int64())).cast(schema)


def _unquoted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows without the quotes around whole values."""
    columns = []
    for column in batch.columns:
        if _compute.any(_compute.starts_with(column, '"')).as_py():
            column = pa.array([_bare(value) for value in column.to_pylist()], pa.string())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _bare(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    inner = value[1:-1].replace('""', "\0")
    return value if '"' in inner else inner.replace("\0", '"')


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


# --- jsonl --------------------------------------------------------------------------------------


def _jsonl(path: Path, refuse: Refuse) -> Iterator[pa.RecordBatch]:
    """Yield text and lists of texts as they are, other values as JSON text.

    Python's parser, not Arrow's: that one reads a caption "2012-03-04" as a date.
    """
    rows: list[dict[str, Any]] = []
    held = 0
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        row = _parsed(f"{path}, line {number},", line, refuse)
        if row is None:
            continue
        rows.append(row)
        held += len(line)
        if len(rows) == CHUNK or held > _CHUNK_BYTES:
            yield _batch(rows)
            rows, held = [], 0
    if rows:
        yield _batch(rows)


def _parsed(where: str, line: bytes, refuse: Refuse) -> dict[str, Any] | None:
    try:
        text = line.decode()
        row = json.loads(text)
        if not isinstance(row, dict):
            refuse(kinds.ROW_NO_JSON, f"{where} is not a JSON object.")
            return None
        row = {name: _plain(value) for name, value in row.items()}
        if "\\u" in text:  # half of a surrogate pair, which JSON can spell and UTF-8 can't
            for name, value in row.items():
                "".join([name, *filter(None, value or "")]).encode()
    except UnicodeDecodeError as error:
        refuse(kinds.ROW_NO_UTF8, f"{where} is not UTF-8 ({error}).")
    except UnicodeEncodeError as error:
        refuse(kinds.ROW_NO_UTF8, f"{where} has text that can't be written as UTF-8 ({error}).")
    except (ValueError, RecursionError) as error:
        refuse(kinds.ROW_NO_JSON, f"{where} is not JSON ({error}).")
    else:
        return row
    return None


def _plain(value: Any) -> str | list[str | None] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(item is None or isinstance(item, str) for item in value):
        return value  # a null in it is no caption, which is told later
    return json.dumps(value, ensure_ascii=False)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [_column([row.get(name) for row in rows]) for name in names]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _column(values: list[Any]) -> pa.Array:
    listed = any(isinstance(value, list) for value in values)
    if listed:
        values = [[value] if isinstance(value, str) else value for value in values]
    return pa.array(values, type=pa.list_(pa.string()) if listed else pa.string())


# --- a folder of images -------------------------------------------------------------------------


def _folder(path: Path, refuse: Refuse) -> Iterator[pa.RecordBatch]:
    """Yield (item, image): the name of each image without its ending, and the name, sorted."""

    def names() -> Iterator[bytes]:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield os.fsencode(entry.name)

    for chunk in chunked(in_order(names()), CHUNK):
        items, images = [], []
        for name in chunk:
            text = os.fsdecode(name)
            if ending_of(text) not in IMAGES or not is_text(text):
                refuse(kinds.FILE_OTHER, f"{path}/{text!a} has no name of an image.")
            else:
                items.append(without_ending(text))
                images.append(text)
        yield pa.RecordBatch.from_pydict({"item": items, "image": images}, _FOLDER)
