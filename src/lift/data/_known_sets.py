"""Data sets whose folders can't be mistaken: photos described at length, or in many languages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from lift.config import Part
from lift.data._asked_sets import asked_set
from lift.data._guessed_files import ROOM, Guess, packed_folder
from lift.data.formats._images import ENDINGS
from lift.data.formats._layout import Absent
from lift.data.formats._long_texts import FORMS, first_objects
from lift.errors import LiftError

_PROBES = 20
_XM3600 = "captions.jsonl"


def known_set(path: str, files: Sequence[str]) -> Guess | None:
    """Return the data set that a folder holds, or what `lift data pack` wrote; None for neither."""
    if (packed := packed_folder(path, files)) is not None:
        return packed
    if (asked := asked_set(path, files)) is not None:
        return Guess(*asked)
    folder = Path(path)
    for name, form in FORMS.items():
        if not form.fits(folder):
            continue
        try:
            rows = islice(form.rows(folder, Absent(strict=False)), _PROBES)
            shown = _is_shown([row.image for row in rows], [folder / f for f in form.images])
        except LiftError:
            continue
        if shown:
            options = {"path": path, "layout": name}
            return Guess(Part(ROOM, "long_texts", options), f"{path} is laid out as {name} is.")
    if _XM3600 in files:
        keys = [str(row.get("image/key", "")) for row in first_objects(folder / _XM3600, _PROBES)]
        if any(keys) and _is_shown(keys, [folder / "images", folder / "xm3600_images", folder]):
            why = f"{_XM3600} of {path} has image/key and captions by language, as XM3600 has."
            return Guess(Part(ROOM, "xm3600", {"path": path}), why)
    return None


def _is_shown(names: Iterable[str], folders: Sequence[Path]) -> bool:
    """Return whether one of some photos, named with or without ending, is in one of the folders."""
    endings = ("", *(f".{ending}" for ending in ENDINGS))
    return any(
        _is_file(folder, name + ending)
        for name in names
        if name and not name.startswith("/") and ".." not in name.split("/")
        for folder in folders
        for ending in endings
    )


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):
        return False
