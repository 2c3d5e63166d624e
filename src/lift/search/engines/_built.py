"""The folder of an approximate engine: one lookup over the first rows, and the record of it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lift.errors import StorageError
from lift.files import remove_partial, restore_old, whole_folder
from lift.search.engines import Vectors

_FOLDER, _RECORD, _LOOKUP = "built", "built.json", "lookup"
_FORMAT = 1
_LONGEST_RECORD = 65_536
_SAMPLED = 256


class Unusable(Exception):
    """What lies in the folder can't be used; the message goes on from "because"."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a lookup was built of.

    Attributes:
        engine: name of the file that built it.
        options: that it was built with.
        rows, width: of the vectors.
        kind: of their numbers.
        sample: SHA-256 of rows spread over them, which tells other vectors.
        size, hash: of the lookup's file; SHA-256.
        effort: how hard it is searched, so that `recall` is reached.
        recall: of the ten nearest, as measured after building.
    """

    engine: str
    options: dict[str, Any]
    rows: int
    width: int
    kind: str
    sample: str
    size: int
    hash: str
    effort: int
    recall: float
    format: int = _FORMAT


def stamp(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when another lookup is put into the folder, None for none."""
    try:
        found = os.stat(folder / _FOLDER / _RECORD)
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def lookup_file(folder: Path) -> Path:
    """Return where the lookup lies."""
    return folder / _FOLDER / _LOOKUP


def leads_elsewhere(folder: Path) -> bool:
    """Return whether a stranger made a link of the folder, the one it is in or the one inside."""
    return any(path.is_symlink() for path in (folder, folder.parent, folder / _FOLDER))


def tidy(folder: Path) -> None:
    """Bring back what a killed builder had moved away; remove what it left."""
    if folder.is_dir() and not leads_elsewhere(folder):
        restore_old(folder / _FOLDER)
        remove_partial(folder)


def write(folder: Path, fill: Any, **facts: Any) -> None:
    """Let `fill(path)` write a lookup and put it into the folder with its record.

    Args:
        folder: of the engine.
        fill: writes the lookup's file; returns (effort, recall).
        facts: the rest of the record's fields.

    Raises:
        StorageError: the disk refuses; the earlier lookup stays.
    """
    if leads_elsewhere(folder):
        raise StorageError(f"{folder} leads elsewhere (it is a link): nothing is built there.")
    with whole_folder(folder / _FOLDER) as aside:
        effort, recall = fill(aside / _LOOKUP)
        record = Record(
            **facts,
            effort=effort,
            recall=recall,
            size=(aside / _LOOKUP).stat().st_size,
            hash=_hash(aside / _LOOKUP),
        )
        (aside / _RECORD).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")


def refused(path: Path, error: Exception) -> StorageError:
    """Return what to raise where a library could not write a lookup."""
    return StorageError(
        f"Can't write {path}: {error}. The earlier lookup stays; make room there and build again."
    )


def read(folder: Path, engine: str, options: Mapping[str, Any]) -> Record:
    """Return the record of a lookup whose file is whole.

    Raises:
        Unusable: none, a damaged one, or one of another engine.
    """
    if stamp(folder) is None or leads_elsewhere(folder):
        raise Unusable("none was built yet")
    try:
        told = json.loads(_small(folder / _FOLDER / _RECORD))
        record = _typed(told)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Unusable(f"{_RECORD} in it can't be read") from error
    if record.engine != engine:
        raise Unusable(f"it was built by {record.engine[:40]!r}")
    if record.options != dict(options):
        raise Unusable("it was built with other options")
    path = lookup_file(folder)
    try:
        found = os.stat(path)
        whole = stat.S_ISREG(found.st_mode) and found.st_size == record.size
        whole = whole and _hash(path) == record.hash
    except OSError:
        whole = False
    if not whole:
        raise Unusable("its file is missing or damaged")
    return record


def is_of(record: Record, vectors: Vectors) -> bool:
    """Return whether a lookup was built of the first of these vectors."""
    return (
        record.width == vectors.shape[1]
        and record.rows <= len(vectors)
        and record.kind == str(vectors.dtype)
        and record.sample == sample_of(vectors, record.rows)
    )


def sample_of(vectors: Vectors, rows: int) -> str:
    """Return a hash of some of the first `rows` rows, the first and the last among them."""
    places = np.unique(np.linspace(0, max(0, rows - 1), min(rows, _SAMPLED)).astype(np.int64))
    return hashlib.sha256(np.ascontiguousarray(vectors[places]).tobytes()).hexdigest()


def _typed(told: Any) -> Record:
    record = Record(**told)
    if record.format != _FORMAT or not isinstance(record.options, dict):
        raise ValueError
    texts = (record.engine, record.kind, record.sample, record.hash)
    numbers = (record.rows, record.width, record.size, record.effort)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError
    if not isinstance(record.recall, float) or not 0 <= record.recall <= 1:
        raise ValueError
    return record


def _small(path: Path) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end
        raise ValueError
    with open(path, "rb") as file:
        text = file.read(_LONGEST_RECORD + 1)
    if len(text) > _LONGEST_RECORD:
        raise ValueError
    return text


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
