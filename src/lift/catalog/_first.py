"""A glance at the first entry of a file: never an error, never more than a piece of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lift.data.formats._json_items import items
from lift.errors import DataError

_FILES = 40
_LINE = 1 << 20


def files(folder: Path, pattern: str) -> list[Path]:
    """Return some files of a folder whose names match, sorted; none where it can't be listed."""
    try:
        return [file for file in sorted(folder.glob(pattern))[:_FILES] if file.is_file()]
    except OSError:
        return []


def entry(file: Path) -> dict[str, Any]:
    """Return the first object of a JSON file, or of the array or object that it is; {} for none."""
    try:
        value = next((item.value for item in items(file)), None)
    except DataError:
        return {}
    return value if isinstance(value, dict) else {}


def line(file: Path) -> dict[str, Any]:
    """Return the object of a file's first line, {} where it is none."""
    if not file.is_file():  # a pipe would never end
        return {}
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.readline(_LINE))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def columns(file: Path) -> list[str]:
    """Return the columns of a parquet file, none where it is none."""
    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return []


def has_folder(folders: tuple[Path, ...], names: tuple[str, ...]) -> bool:
    """Return whether one of the folders holds a folder of one of the names."""
    return any((folder / name).is_dir() for folder in folders for name in names)
