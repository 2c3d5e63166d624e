"""Photos described at length, in the form that each data set has: rows to be joined with images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lift.data import kinds
from lift.data.formats._caption_files import Row
from lift.data.formats._captions import Column
from lift.data.formats._files import ending_of, scan, without_ending
from lift.data.formats._images import bounded_file, is_text
from lift.data.formats._json_items import items
from lift.data.formats._layout import Absent
from lift.data.formats._ragged import in_order
from lift.errors import BrokenSample, DataError
from lift.text.reading import numbered_lines

LONG, SHORT = Column("caption", "long"), Column("short", "short")
_MOST_FILE = 64 << 20
"""Bytes of one annotation; those of DCI hold masks."""

_PROBES = 50
_FILES = 20
"""Files of a folder that are looked into for the first line."""


@dataclass(frozen=True)
class Form:
    """How one data set lies on disk.

    Attributes:
        rows: yields its rows; `absent` is told of those of another form.
        images: folders where its photos may be, from the data set's own.
        fits: whether a folder holds it.
        file: the one file with all captions, where there is one.
    """

    rows: Callable[[Path, Absent], Iterator[Row]]
    images: tuple[str, ...]
    fits: Callable[[Path], bool]
    file: Callable[[Path], Path | None] = lambda folder: None


def objects(file: Path, absent: Absent) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, object) of every line of JSON. Raises DataError where it can't be read."""
    try:
        for number, line in numbered_lines(file):
            if not line.strip():
                continue
            where = f"{file.name}, row {number}"
            try:
                found = json.loads(line.decode("utf-8", "surrogateescape"))
            except (ValueError, RecursionError):
                absent.add(kinds.ROW_NO_JSON, where)
                continue
            if isinstance(found, dict):
                yield where, found
            else:
                absent.add(kinds.ROW_FORM, where)
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror or error}).") from error


def first_objects(file: Path, count: int = _PROBES) -> list[dict[str, Any]]:
    """Return the objects of the first lines; none of a file that can't be read."""
    try:
        return [row for _, row in islice(objects(file, Absent(strict=False)), count)]
    except DataError:
        return []


def _names(folder: str, ending: str, absent: Absent) -> Iterator[str]:
    """Yield the names of the files of an ending in a folder, in order, never all in memory."""

    def found() -> Iterator[bytes]:
        for entry in scan(folder, folder):
            if ending_of(entry.name) == ending and is_text(entry.name):
                yield entry.name.encode()
            else:
                absent.tally.add(kinds.FILE_OTHER, ascii(entry.name))

    return map(bytes.decode, in_order(found()))


def _row(where: str, image: Any, told: Any, rest: dict[str, Any], absent: Absent) -> Iterator[Row]:
    """Yield one row with a long caption, or tell `absent` that it is none."""
    if isinstance(image, str) and image and isinstance(told, str):
        yield Row(where, image, [(LONG, told)], rest)
    else:
        absent.add(kinds.ROW_FORM, where)


# --- Urban1k: image/NAME.jpg and caption/NAME.txt (huggingface.co/datasets/BeichenZhang/Urban1k) --


def _urban1k(folder: Path, absent: Absent) -> Iterator[Row]:
    captions = str(folder / "caption")
    for name in _names(captions, "txt", absent):
        where = f"caption/{name}"
        try:
            told = bounded_file(captions, name, _MOST_FILE, where, kind=_UNREADABLE)
            # One text may be wrapped over lines.
            text = " ".join(told.decode("utf-8-sig").split())
        except BrokenSample as error:
            absent.broken(error)
        except UnicodeDecodeError as error:
            absent.refuse(kinds.CAPTION_NO_UTF8, f"{where} is not UTF-8 ({error}).")
        else:
            yield Row(where, without_ending(name), [(LONG, text)], {})


_UNREADABLE = kinds.CAPTION_UNREADABLE


# --- DOCCI: docci_descriptions.jsonlines and images/ (google.github.io/docci) ---------------------


_DOCCI = "docci_descriptions.jsonlines"


def _docci(folder: Path, absent: Absent) -> Iterator[Row]:
    for where, row in objects(folder / _DOCCI, absent):
        rest = {name: row[name] for name in ("example_id", "split") if name in row}
        yield from _row(where, row.get("image_file"), row.get("description"), rest, absent)


# --- DCI: annotations/NAME.json and photos/ (github.com/facebookresearch/DCI) ---------------------


def _dci(folder: Path, absent: Absent) -> Iterator[Row]:
    base = str(folder / "annotations")
    for name in _names(base, "json", absent):
        where = f"annotations/{name}"
        try:
            told = json.loads(bounded_file(base, name, _MOST_FILE, where, kind=_UNREADABLE))
        except BrokenSample as error:
            absent.broken(error)
            continue
        except (ValueError, RecursionError) as error:
            absent.refuse(kinds.DAMAGED_JSON, f"{where} is not JSON ({error}).")
            continue
        image, short, extra = (
            told.get(field) if isinstance(told, dict) else None
            for field in ("image", "short_caption", "extra_caption")
        )
        if isinstance(image, str) and isinstance(short, str) and isinstance(extra, str):
            whole = f"{short.strip()} {extra.strip()}".strip()
            yield Row(where, image, [(LONG, whole), (SHORT, short)], {})
        else:
            absent.add(kinds.ROW_FORM, where)


# --- ShareGPT4V: a list of conversations about a photo (sharegpt4v.github.io) ---------------------

_SHARED = ("share-captioner_coco_lcs_sam_1246k_1107.json", "sharegpt4v*.json", "*sharegpt4v*.json")


def _conversations(folder: Path) -> Path | None:
    found = [file for pattern in _SHARED for file in sorted(folder.glob(pattern))]
    return next((file for file in found if file.is_file()), None)


def _sharegpt4v(folder: Path, absent: Absent) -> Iterator[Row]:
    file = _conversations(folder)
    assert file is not None, "`fits` looked"
    for number, (_, entry) in enumerate(items(file), 1):
        where = f"{file.name}, entry {number}"
        said = entry.get("conversations") if isinstance(entry, dict) else None
        turns = [turn for turn in said if isinstance(turn, dict)] if isinstance(said, list) else []
        answer = next((turn.get("value") for turn in turns if turn.get("from") == "gpt"), None)
        image = entry.get("image") if isinstance(entry, dict) else None
        yield from _row(where, image, answer, {}, absent)


# --- ImageInWords: a line for each photo (github.com/google/imageinwords) -------------------------


def _lines_of_iiw(folder: Path) -> Path | None:
    for file in sorted(folder.glob("*.jsonl"))[:_FILES]:
        if file.is_file() and any("IIW" in row for row in first_objects(file, 1)):
            return file
    return None


def _iiw(folder: Path, absent: Absent) -> Iterator[Row]:
    file = _lines_of_iiw(folder)
    assert file is not None, "`fits` looked"
    for where, row in objects(file, absent):
        yield from _row(where, row.get("image/key", row.get("image")), row.get("IIW"), {}, absent)


def _holds(folder: Path, *names: str) -> bool:
    return all(os.path.isdir(folder / name) for name in names)


FORMS = {
    "urban1k": Form(_urban1k, ("image",), lambda folder: _holds(folder, "image", "caption")),
    "docci": Form(
        _docci,
        ("images", "."),
        lambda folder: (folder / _DOCCI).is_file(),
        lambda folder: folder / _DOCCI,
    ),
    "dci": Form(_dci, ("photos",), lambda folder: _holds(folder, "annotations", "photos")),
    "sharegpt4v": Form(
        _sharegpt4v,
        (".", "images", "data"),
        lambda folder: _conversations(folder) is not None,
        _conversations,
    ),
    "iiw": Form(
        _iiw, ("images", "."), lambda folder: _lines_of_iiw(folder) is not None, _lines_of_iiw
    ),
}
