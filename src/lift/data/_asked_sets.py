"""Data sets of questions: right and wrong captions, sentences that are true or false."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lift.config import Part
from lift.data._looks import TableLook, look_into_json
from lift.errors import DataError

ROOM = "data/formats"
Asked = tuple[Part, str]
"""A layout and what was seen, as a sentence."""

_ARO = ("visual_genome_relation.json", "visual_genome_attribution.json")
_WINOGROUND = ("examples.jsonl", "data/examples.jsonl")
_PP = ("", "sugarcrepe_pp", "data")
_PAIR = {"image_0", "image_1", "caption_0", "caption_1"}
_CORPUS = {"sentence", "identifier", "directory", "label"}
_FOILS = ("foil", "foils", "negative_caption", "negative_captions", "neg_caption", "hard_negative")
_FILES = 20
_LINE = 1 << 20


def asked_set(path: str, files: Sequence[str]) -> Asked | None:
    """Return the data set of questions that a folder holds; None where it is none."""
    if set(_ARO) & set(files):
        return Part(ROOM, "aro", {"path": path}), f"{path} holds files of ARO."
    for name in _WINOGROUND:
        if _PAIR <= set(_first_line(Path(path, name))):
            file = os.path.join(path, name)
            why = f"{name} has two images and two captions a line, as Winoground has."
            return Part(ROOM, "winoground", {"path": file}), why
    for below in _PP:
        folder = Path(path, below)
        names = files if not below else _json_names(folder)
        if any(_is_pp(folder / name) for name in _some_json(names)):
            why = f"{folder} holds questions with caption2, as SugarCrepe++'s files do."
            return Part(ROOM, "sugarcrepe_pp", {"path": path}), why
    return _corpora(path, files)


def _corpora(path: str, files: Sequence[str]) -> Asked | None:
    for name in _some_json(files):
        found = asked_lines(Path(path, name))
        if found is not None and os.path.isdir(os.path.join(path, "images")):
            return found
    return None


def asked_lines(file: Path) -> Asked | None:
    """Return NLVR where a file has its sentences, a line of JSON each; None elsewhere."""
    if not _CORPUS <= set(_first_line(file)):
        return None
    part = Part(ROOM, "nlvr", {"path": str(file)})
    return part, f"{file.name} holds sentences and labels, as NLVR's files do."


def asked_file(file: Path, entries: Sequence[Mapping[str, Any]]) -> Asked | None:
    """Return the data set of questions that a JSON file is of, by its first objects."""
    if any("caption2" in entry and "negative_caption" in entry for entry in entries):
        part = Part(ROOM, "sugarcrepe_pp", {"path": str(file.parent)})
        return part, f"{file.name} holds two right captions and a wrong one."
    if any("caption_options" in e or {"true_caption", "false_caption"} <= set(e) for e in entries):
        part = Part(ROOM, "aro", {"path": str(file)})
        return part, f"{file.name} holds right and wrong captions, as ARO's files do."
    return None


def asked_table(path: str, first: Path, look: TableLook, tables: tuple[Part, ...]) -> Asked | None:
    """Return the layout of questions that a table has; None where it asks nothing.

    Args:
        path: as the user named it.
        first: the file that was looked into.
        look: what was seen.
        tables: how it would be read as pairs; the first gives image, root and key.
    """
    if _PAIR <= set(look.columns):
        why = f"{first.name} has two images and two captions a row, as Winoground has."
        return Part(ROOM, "winoground", {"path": path}), why
    if not tables or look.repeats:
        return None
    kept = {k: v for k, v in tables[0].options.items() if k in ("path", "image", "root", "key")}
    if {"sentence", "label"} <= set(look.columns) and _are_labels(look.values["label"]):
        why = f"{first.name} says in 'label' whether 'sentence' is true of the image."
        return Part(ROOM, "nlvr", kept), why
    foil = next((name for name in _FOILS if name in look.columns), None)
    right = next((name for name in ("caption", "captions") if name in look.columns), None)
    if foil and right:
        asked = {"caption": right, "foil": foil}
        kind = {"kind": "kind"} if "kind" in look.columns else {}
        why = f"{first.name} has right captions in {right!r} and wrong ones in {foil!r}."
        return Part(ROOM, "triplets", {**kept, **asked, **kind}), why
    return None


def _are_labels(values: Sequence[Any]) -> bool:
    said = {str(value).lower() for value in values if value is not None}
    return bool(said) and (said <= {"true", "false"} or said <= {"0", "1"})


def _some_json(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.endswith(".json")][:_FILES]


def _json_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.endswith(".json"))
    except OSError:
        return []


def _is_pp(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        found = look_into_json(file).entries
    except (DataError, OSError, ValueError):
        return False
    return any("caption2" in entry and "negative_caption" in entry for entry in found)


def _first_line(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        with file.open("rb") as opened:
            found = json.loads(opened.readline(_LINE))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
