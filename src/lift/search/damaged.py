"""What a database tells, looked at before it is believed: a stranger may have written it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from lift.errors import DataError
from lift.search.prepared import MOST_ROWS
from lift.search.terms import Fact, Stored

_LARGEST = 1 << 31


def damaged(path: Path, why: object) -> DataError:
    """Return what to raise where a database says what can't be."""
    return DataError(f"{path} can't be read as the items of an index ({why}); build it again.")


def require_schema(base: sqlite3.Connection, path: Path, script: str) -> None:
    """Raise DataError unless the database has the tables that `script` makes, and nothing else.

    A view could be one that never ends; a trigger would do what its author likes.
    """
    ours = sqlite3.connect(":memory:")
    try:
        ours.executescript(script)
        if _schema(base) != _schema(ours):
            raise damaged(path, "its tables are others")
    finally:
        ours.close()


def _schema(base: sqlite3.Connection) -> list[tuple[str, str, str]]:
    found = base.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return sorted(
        (str(kind), str(name), " ".join(str(sql).split()))
        for kind, name, sql in found
        if not (kind == "table" and str(name).startswith("sqlite_stat"))  # what ANALYZE leaves
    )


def as_rows(path: Path, piece: list[tuple[Any, ...]]) -> Int64[np.ndarray, "n 4"]:
    """Return (place, item, field, number) of rows. Raises DataError where they are no numbers."""
    try:
        found = np.array(piece, np.int64).reshape(-1, 4)
    except (ValueError, TypeError, OverflowError) as error:
        raise damaged(path, "rows that are no numbers") from error
    others = found[:, 2:]
    if found[:, 0].min(initial=0) < 0:
        raise damaged(path, "rows at places below 0")
    if others.min(initial=0) < 0 or others.max(initial=0) >= _LARGEST:
        raise damaged(path, "rows of strange fields")
    return found


def as_bytes(path: Path, value: Any) -> bytes:
    """Return what has to be bytes. Raises DataError."""
    if not isinstance(value, bytes):
        raise damaged(path, "words in place of bytes")
    return value


def as_stored(path: Path, key: Any, texts: Any, facts: Mapping[Any, Any], images: Any) -> Stored:
    """Return an item. Raises DataError where its parts are of wrong types."""
    if not isinstance(key, str) or not isinstance(images, int) or not 0 <= images <= MOST_ROWS:
        raise damaged(path, "an item without key, or with a strange number of images")
    for name, value in facts.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise damaged(path, "facts that are no texts, numbers or truths")
    try:
        told = json.loads(texts)
    except (ValueError, TypeError) as error:
        raise damaged(path, "texts that are no JSON") from error
    if not isinstance(told, dict) or not all(
        isinstance(own, list) and all(isinstance(text, str) for text in own)
        for own in told.values()
    ):
        raise damaged(path, "texts that are none")
    known: dict[str, Fact] = dict(facts)
    return Stored(
        key=key,
        texts={name: tuple(own) for name, own in told.items()},
        facts=known,
        images=images,
    )
