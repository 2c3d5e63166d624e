"""What several files of this room ask, and how they find what lies beside a data set."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lift.catalog import quoted
from lift.config import Part
from lift.data.source import open_source
from lift.errors import LiftError

HELD_OUT = ("test", "val", "validation", "valid", "dev")
"""Splits that models are judged on, the first that is there."""

TAUGHT = ("train", "training")
_SPLIT = re.compile(rf"({'|'.join((*HELD_OUT, *TAUGHT))})(?![a-z])")
_ABOVE = 2
_SAMPLES = 50
_LARGEST = 8 << 20
_PLAIN = re.compile(r"[\w./ *-]*[A-Za-z_./*-][\w./ *-]*")


def words_of(part: Part) -> str:
    """Return a part as the words that make it again."""
    options = ",".join(f"{key}={_value(value)}" for key, value in part.options.items())
    return f"{part.name}:{options}" if options else part.name


def _value(value: Any) -> str:
    plain = isinstance(value, str) and _PLAIN.fullmatch(value)
    return value if plain and value not in ("true", "false", "null") else json.dumps(value)


def split_of(name: str) -> str:
    """Return the split that a file's name starts with, "" for none."""
    match = _SPLIT.match(name)
    return match[0] if match else ""


def by_split(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files to be judged on, and those to learn from.

    Where no name tells a split, all are judged on. Files to learn from are judged on only where
    there are no others.
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of(file.name), []).append(file)
    taught = next((splits[name] for name in TAUGHT if name in splits), [])
    held = next((splits[name] for name in (*HELD_OUT, "") if name in splits), [])
    return held or taught, taught if held else []


def near(folder: Path, *names: str) -> Path | None:
    """Return the first file of some names in a folder, in those above it, or in `text` there."""
    for place in (folder, *list(folder.absolute().parents)[:_ABOVE]):
        for name in names:
            for file in (place / name, place / "text" / name):
                if file.is_file():
                    return file
    return None


def prompts(folder: Path, name: str, *, classes: bool = False) -> str:
    """Return the options of zeroshot for a set of `clip_prompts.json` near a folder, "" for none.

    Args:
        folder: of the data set.
        name: that begins with the set's, whatever its capitals ("caltech101-a").
        classes: also take the names of the classes from there.
    """
    file = near(folder, "clip_prompts.json")
    sets = read(file) if file is not None else None
    if file is None or not isinstance(sets, dict):
        return ""
    fitting = [one for one in sets if _plainly(name).startswith(_plainly(one)) and "," not in one]
    if not fitting:
        return ""
    known = max(fitting, key=len)
    more = f",class_set={known}" if classes else ""
    return f",template_file={quoted(file)},template_set={known}{more}"


def _plainly(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read(file: Path) -> Any:
    """Return what a JSON file holds; None where it can't be read or is large."""
    try:
        if file.stat().st_size > _LARGEST:
            return None
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def of_pairs(data: str, benchmark: str, *, several: bool) -> list[str]:
    """Return what is asked of images and captions; `several` captions an image."""
    known = f",benchmark={benchmark}" if benchmark else ""
    asked = [f"retrieval:data=[{data}]{known},protocol=all-captions"]
    if several:
        asked += [
            f"retrieval:data=[{data}]{known},protocol=first-caption",
            f"mixed:data=[{data}]{known}",
        ]
    return [*asked, f"robustness:data=[{data}]{known}"]


def captions_of(data: str) -> list[int] | None:
    """Return how many different captions each of the first images has; None where none opens."""
    try:
        found = islice(open_source(data).texts(), _SAMPLES)
        return [len({caption.text for caption in captions}) for _, captions in found]
    except (LiftError, OSError):
        return None


def of_classes(data: str, label: str, train: str = "") -> list[str]:
    """Return what is asked of images with labels, where others with labels may be learned from."""
    asked = [f"zeroshot:data=[{data}],label={label}"]
    if train:
        asked += [
            f"{name}:data=[{data}],label={label},train=[{train}]"
            for name in ("knn", "linear_probe", "few_shot")
        ]
    return asked
