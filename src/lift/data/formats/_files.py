"""Files below a folder: a listing that never lies in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from lift.data import kinds
from lift.data.formats._images import IMAGES, is_text, refused
from lift.data.formats._layout import Absent, Bounds
from lift.errors import DataError

_DEEPEST = 64
PLAIN = ("readme", "license", "licence", "thumbs.db", "desktop.ini")
"""How the names of files start that are no data and often lie beside images."""


class File(NamedTuple):
    """A file below a folder: its path from there, and its ending in small letters."""

    name: str
    ending: str


def ending_of(name: str) -> str:
    """Return what stands behind the last dot of a file's name, in small letters."""
    stem, dot, ending = name[name.rfind("/") + 1 :].rpartition(".")
    return ending.lower() if dot and stem else ""


def without_ending(name: str) -> str:
    """Return the name up to the last dot behind the last slash."""
    return name[: -1 - len(ending)] if (ending := ending_of(name)) else name


def walk(
    root: str,
    endings: frozenset[str],
    bounds: Bounds,
    absent: Absent,
    allow_outside: bool = False,
    known: str = "",
) -> Iterator[File]:
    """Yield the files of some endings below a folder, in no order.

    Images that are empty or too large, names that are not UTF-8 and links that lead out of the
    folder are left out through `absent`; other files but `known` are counted.

    Raises:
        DataError: no such folder.
    """
    real = os.path.realpath(root)
    stack = [(scan(root, root), _identity(root), "")]
    while stack:
        entries, _, prefix = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        name = prefix + entry.name
        if _is_passed_over(entry, name, real, allow_outside, absent):
            continue
        if is_folder(entry):
            here = _identity(entry.path)
            if here in (above for _, above, _ in stack):
                absent.tally.add(kinds.LINK_UP, name)
            elif len(stack) >= _DEEPEST:
                absent.add(kinds.FOLDER_TOO_DEEP, name)
            else:
                stack.append((scan(entry.path, root), here, name + "/"))
        elif (ending := ending_of(name)) not in endings:
            if name != known and not entry.name.lower().startswith(PLAIN):
                absent.tally.add(kinds.FILE_OTHER, name)
        elif ending not in IMAGES or not refused(entry.path, name, bounds, absent):
            yield File(name, ending)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is an ordinary file or a link to one."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_passed_over(
    entry: os.DirEntry[str], name: str, real: str, allow_outside: bool, absent: Absent
) -> bool:
    """Return whether a name or link is not followed, which `absent` is told."""
    if not is_text(name):
        absent.add(kinds.FILE_NO_UTF8, ascii(name))
    elif entry.name.startswith("."):
        absent.tally.add(kinds.FILE_HIDDEN, name)
    elif allow_outside or not entry.is_symlink():
        return False
    elif not _leads_inside(entry.path, real):
        absent.add(kinds.LINK_OUT, name)
    elif is_folder(entry):
        absent.tally.add(kinds.LINK_TO_FOLDER, name)  # its files are listed where they are
    else:
        return False
    return True


def scan(folder: str, root: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder below `root`. Raises DataError where it can't be listed."""
    try:
        found = os.scandir(folder)
    except OSError as error:
        below = "" if folder == root else f" (below {root})"
        raise DataError(f"{folder}{below} can't be listed ({error.strerror}).") from error
    with found:
        yield from found


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise DataError(f"{folder} can't be listed ({error.strerror}).") from error
    return status.st_dev, status.st_ino


def _leads_inside(path: str, real: str) -> bool:
    return (os.path.realpath(path) + os.sep).startswith(real.rstrip(os.sep) + os.sep)


def folder_of(words: str, what: str) -> str:
    """Return a folder that exists. Raises DataError that says what to set."""
    if not words:
        raise DataError(f"No path was given; set path to {what}.")
    if not os.path.isdir(words):
        raise DataError(f"No folder is at {words}; set path to {what}.")
    return words
