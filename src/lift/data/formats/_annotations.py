"""Where annotation files of well-known data sets and their folders of photos lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lift.errors import DataError


def annotation_file(
    path: str,
    patterns: Sequence[str],
    folders: Sequence[str],
    what: str,
    ends: tuple[str, ...] = (),
) -> Path:
    """Return the annotation file that a path names, or that lies in a folder that it names.

    Args:
        path: the file or the folder.
        patterns: globs of file names; the first with a match counts.
        folders: where in the folder to look ("." for itself).
        what: it should be, for the sentence.
        ends: of several files of a pattern, the one whose name ends so is meant.

    Raises:
        DataError: none, or several of one pattern.
    """
    if not path:
        raise DataError(f"No path was given; set path to {what}, or to the folder with it.")
    if os.path.isfile(path):
        return Path(path)
    for pattern in patterns:
        found = [file for folder in folders for file in sorted(Path(path, folder).glob(pattern))]
        found = [file for file in found if file.is_file()]
        meant = [file for file in found if file.stem.endswith(ends)] if ends else []
        if len(found) > 1 and len(meant) != 1:
            named = ", ".join(file.name for file in found[:5])
            raise DataError(f"{path} holds several files to read ({named}); set path to one.")
        if found:
            return (meant or found)[0]
    raise DataError(f"No {' or '.join(patterns)} is in {path}; set path to {what}.")


def image_folder(
    given: str | None, bases: Sequence[Path], names: Iterable[str], probes: Sequence[str]
) -> str:
    """Return the folder of photos: the one given, or the first of some that holds a photo.

    Args:
        given: by the user; None looks at each of `names` in each of `bases`.
        bases: folders.
        names: of folders in them ("." for themselves).
        probes: names of some photos; where none is found, the first folder there is counts.

    Raises:
        DataError: no such folder.
    """
    names = list(names)
    choices = [Path(given)] if given is not None else [b / name for b in bases for name in names]
    there = [choice for choice in choices if choice.is_dir()]
    for choice in there:
        if any(_is_file(choice, probe) for probe in probes):
            return str(choice)
    for choice in there:
        if choice not in bases or given is not None:
            return str(choice)
    tried = " or ".join(str(choice) for choice in choices[:4])
    raise DataError(f"No folder of photos at {tried}; set images=FOLDER.")


def _is_file(folder: Path, name: str) -> bool:
    if os.path.isabs(name) or ".." in name.split("/"):
        return False  # it would be there from any folder
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):  # longer than a name can be, or no name
        return False
