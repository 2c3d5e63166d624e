"""Any pairs of images and captions whose layout `lift.data.guess` tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found
from lift.catalog._plans import (
    HELD_OUT,
    TAUGHT,
    captions_of,
    of_classes,
    of_pairs,
    split_of,
    words_of,
)
from lift.config import Part
from lift.data.formats.classes import SPLITS
from lift.data.guess import guess
from lift.errors import LiftError

TITLE = "Any pairs"
WHERE = "Your own: images with captions in any layout of docs/data.md."
LAYOUT = "what `lift data inspect FOLDER` understands"

_NO_IMAGES = "texts"
_OF_A_SET = SPLITS | {"data", "images", "annotations", "sugarcrepe"}
"""Folders that are part of the data set above them."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return retrieval on the pairs that lie there, or the classes of folders; see the room.

    Where splits lie beside each other, the one that is not trained on is judged. A file of texts
    alone is nothing to judge images by.
    """
    if folder.name.lower() in TAUGHT and _has_others(folder):
        return []
    try:
        found = guess(str(folder))
    except (LiftError, OSError):
        return []
    same = [part for part in (found.part, *found.others) if part.name == found.part.name]
    if found.part.name == _NO_IMAGES or _is_below(found.part, folder):
        return []
    part = _of_split(same, HELD_OUT, folder) or found.part
    taught = _of_split(same, TAUGHT, folder)
    data = words_of(part)
    if part.name == "classes":
        train = words_of(taught) if taught is not None and taught != part else ""
        words = of_classes(data, "class", train)
    else:
        counts = captions_of(data)
        if not counts or not any(counts):
            return []
        words = of_pairs(data, "", several=max(counts) > 1)
    return [Found("any_pairs", str(folder), tuple(words))]


def _of_split(parts: Sequence[Part], splits: Sequence[str], folder: Path) -> Part | None:
    """Return the part of the first of some splits that there is, by its path or its option."""
    for split in splits:
        for part in parts:
            inner = _inside(part, folder)
            names = inner.parts if inner is not None else ()
            told = part.options.get("split", "")
            if told == split or any(split_of(name.lower()) == split for name in names):
                return part
    return None


def _inside(part: Part, folder: Path) -> Path | None:
    """Return the path of a part from a folder; None where it lies elsewhere."""
    try:
        return Path(str(part.options.get("path", ""))).relative_to(folder)
    except ValueError:
        return None


def _is_below(part: Part, folder: Path) -> bool:
    """Return whether pairs lie in a folder below that is looked at by itself."""
    inner = _inside(part, folder)
    first = folder / inner.parts[0] if inner is not None and inner.parts else folder
    return first != folder and first.is_dir() and first.name.lower() not in _OF_A_SET


def _has_others(folder: Path) -> bool:
    """Return whether another split lies beside a folder, so that the one above is looked at."""
    try:
        return any(
            other.name.lower() in SPLITS and other.name != folder.name and other.is_dir()
            for other in folder.parent.iterdir()
        )
    except OSError:
        return False
