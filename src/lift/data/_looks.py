"""A bounded look into a file: the first members of a tar, the first rows of a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lift.data.formats import _tar
from lift.data.formats._caption_files import delimiter_of, first_rows
from lift.data.formats._files import ending_of
from lift.data.formats._images import IMAGES
from lift.data.formats._json_items import items
from lift.data.formats._layout import Absent
from lift.data.formats._tables import records
from lift.errors import DataError

_MEMBERS = 100
_ROWS = 100
_LINES = 1_000
"""Rows of text are quick to read; rows of parquet may hold images."""

_ENTRIES = 100
_MOST_JSON = 1 << 20

_IMAGE_NAMES = ("image", "images", "img", "jpg", "png", "image_bytes", "image_path", "file_name")
_CAPTION_NAMES = ("caption", "text", "title", "sentence", "description", "prompt", "raw")
"""What stands in the names of columns with captions."""

_KEY_NAMES = ("key", "uid", "id", "sample_id")
"""Columns that name rows. An image_id or a sku is one of an image or an item, which may have many
rows, and all but the first would be left out."""


@dataclass(frozen=True)
class TarLook:
    """What the first members of a tar are.

    Attributes:
        endings: everything behind the first dot of their names.
        record: the first `.json`.
    """

    endings: frozenset[str]
    record: dict[str, Any]


def look_into_tar(path: Path) -> TarLook:
    """Return what the first members are. Raises DataError where it is no tar."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(f"{path} can't be opened ({error.strerror}).") from error
    endings: set[str] = set()
    record: dict[str, Any] = {}
    try:
        for member in islice(_tar.members(fd, str(path)), _MEMBERS):
            name = member.name.rpartition("/")[2]
            ending = name.partition(".")[2].lower()
            if member.ordinary and ending:
                endings.add(ending)
                if ending == "json" and not record and member.size <= _MOST_JSON:
                    record = _as_object(os.pread(fd, member.size, member.offset))
    finally:
        os.close(fd)
    return TarLook(frozenset(endings), record)


@dataclass(frozen=True)
class JsonLook:
    """What the first entries of a JSON file are.

    Attributes:
        arrays: names of the arrays at the top that were met.
        entries: the objects in them, or at the top.
        captions: whether it maps names of images to captions, or lists objects with both.
        has_lists: whether it lists objects with a file's name and a list of captions.
        has_splits: whether entries name their split.
    """

    arrays: frozenset[str]
    entries: tuple[dict[str, Any], ...]
    captions: bool = False
    has_lists: bool = False
    has_splits: bool = False


def look_into_json(path: Path) -> JsonLook:
    """Return what the first entries are. Raises DataError where it is not JSON."""
    found = list(islice(items(path), _ENTRIES))
    entries = tuple(item.value for item in found if isinstance(item.value, dict))
    listed = [item.value for item in found if not item.name and isinstance(item.value, dict)]
    pairs = [item for item in found if isinstance(item.value, str)]
    columns = {name: [entry.get(name) for entry in listed] for entry in listed for name in entry}
    images = [name for name in columns if _are_images(columns[name])]
    told = [name for name in _by_name([n for n in columns if n not in images])]
    named = {"file_name", "filename"} & set(columns)
    return JsonLook(
        arrays=frozenset(item.name for item in found),
        entries=entries,
        captions=(bool(pairs) and _are_images([item.name for item in pairs]))
        or (bool(images) and any(_is_prose(columns[name]) for name in told)),
        has_lists=bool(named) and bool({"captions", "sentences"} & set(columns)),
        has_splits=any(isinstance(entry.get("split"), str) for entry in entries),
    )


def read_small_json(path: Path) -> dict[str, Any]:
    """Return a small JSON object; an empty one where the file is something else."""
    try:
        with path.open("rb") as file:
            return _as_object(file.read(_MOST_JSON))
    except OSError:
        return {}


def _as_object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def text_fields(record: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields of a record that look like captions, the likeliest first."""
    return tuple(name for name in _by_name(list(record)) if _is_prose([record[name]]))


@dataclass(frozen=True)
class TableLook:
    """Which columns of a table are what.

    Attributes:
        columns: all of them.
        image: the column with images or their paths; None where there is none.
        is_path: whether it holds paths.
        repeats: whether an image stands in several of the first rows.
        captions: columns with captions.
        key: a column of unique names.
        url: a column with addresses of images.
        mark: what parts the cells of a text table; "" elsewhere.
    """

    columns: tuple[str, ...]
    image: str | None = None
    is_path: bool = False
    repeats: bool = False
    captions: tuple[str, ...] = ()
    key: str | None = None
    url: str | None = None
    mark: str = ""
    values: dict[str, list[Any]] = field(default_factory=dict, repr=False)


def look_into_table(path: Path) -> TableLook:
    """Return which columns are what, by their names and their first rows.

    Raises:
        DataError: a file that can't be read.
    """
    rows = list(islice(_rows(path), _ROWS if path.suffix == ".parquet" else _LINES))
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row.get(name) for row in rows] for name in columns}
    images = [name for name in columns if _are_images(values[name])]
    images.sort(key=lambda name: (name.lower() not in _IMAGE_NAMES, columns.index(name)))
    image = images[0] if images else None
    rest = [name for name in columns if name not in images]
    captions = tuple(name for name in _by_name(rest) if _is_prose(values[name]))
    keys = [n for n in columns if n != image and n.lower() in _KEY_NAMES and _are_names(values[n])]
    keys.sort(key=lambda name: _KEY_NAMES.index(name.lower()))
    urls = [name for name in columns if _are_urls(values[name])]
    paths = image is not None and isinstance(_first(values[image]), str)
    named = values[image] if image is not None and paths else []
    return TableLook(
        columns=columns,
        image=image,
        is_path=paths,
        repeats=len(set(named)) < len(named),
        captions=captions,
        key=keys[0] if keys else None,
        url=urls[0] if urls else None,
        mark=delimiter_of(path) if path.suffix in (".csv", ".tsv", ".txt") else "",
        values=values,
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix != ".parquet":
        yield from first_rows(path, Absent(strict=False))
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(16, use_threads=False):
                yield from records(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as .parquet ({str(error)[:200]}).") from error


def _by_name(columns: Sequence[str]) -> list[str]:
    """Return columns named like captions; where there are none, all of them."""
    named = [c for c in columns if any(word in c.lower() for word in _CAPTION_NAMES)]
    return named or list(columns)


def _first(values: Sequence[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _are_images(values: Sequence[Any]) -> bool:
    value = _first(values)
    if isinstance(value, dict):
        return bool({"bytes", "path"} & set(value))
    if isinstance(value, bytes):
        return value.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*", b"MM"))
    return isinstance(value, str) and ending_of(value.strip()) in IMAGES and "://" not in value[:12]


def _are_urls(values: Sequence[Any]) -> bool:
    value = _first(values)
    return isinstance(value, str) and value.startswith(("http://", "https://", "s3://", "gs://"))


def _are_names(values: Sequence[Any]) -> bool:
    plain = [value for value in values if isinstance(value, int | str)]
    return len(plain) == len(values) and len(set(plain)) == len(plain)


def _is_prose(values: Sequence[Any]) -> bool:
    """Return whether values are texts of some words, or lists of such."""
    texts = [t for v in values for t in (v if isinstance(v, list) else [v]) if t is not None]
    if not texts or not all(isinstance(text, str) for text in texts) or _are_urls(texts):
        return False
    letters = sum(any(letter.isalpha() for letter in text) for text in texts)
    lengths = sum(len(text) for text in texts) / len(texts)
    return letters * 2 > len(texts) and lengths >= 3
