"""Files below a folder: a listing that never lies in memory, checks, and the reading of images."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lift.data.formats._layout import Bounds
from lift.data.formats._paths import inside, read_bounded
from lift.data.tally import Tally
from lift.errors import BrokenSample, DataError

IMAGES = frozenset(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"))
"""Endings of image files, in small letters."""

_DEEPEST = 64
_PLAIN = ("readme", "license", "licence", "thumbs.db", "desktop.ini")
"""How the names of files start that are no data and often lie beside images."""


@dataclass(kw_only=True)
class Absent:
    """What is left out while opening: counted, or raised where the layout is strict."""

    strict: bool
    tally: Tally = field(default_factory=Tally)

    def add(self, kind: str, example: str) -> None:
        """Count one more. Raises BrokenSample if strict."""
        if self.strict:
            raise BrokenSample(kind, f"{example}: {kind}; strict=true stops at the first.")
        self.tally.add(kind, example)

    def broken(self, error: BrokenSample) -> None:
        """Count what an error says. Raises it if strict."""
        if self.strict:
            raise error
        self.tally.add(error.kind, str(error))


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
    stack = [(_scan(root, root), _identity(root), "")]
    while stack:
        entries, _, prefix = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        name = prefix + entry.name
        if _is_passed_over(entry, name, real, allow_outside, absent):
            continue
        if entry.is_dir():
            here = _identity(entry.path)
            if here in (above for _, above, _ in stack):
                absent.tally.add("link to a folder above it", name)
            elif len(stack) >= _DEEPEST:
                absent.add(f"folder more than {_DEEPEST} deep", name)
            else:
                stack.append((_scan(entry.path, root), here, name + "/"))
        elif (ending := ending_of(name)) not in endings:
            if name != known and not entry.name.lower().startswith(_PLAIN):
                absent.tally.add("other file", name)
        elif ending not in IMAGES or not refused(entry.path, name, bounds, absent):
            yield File(name, ending)


def _is_passed_over(
    entry: os.DirEntry[str], name: str, real: str, allow_outside: bool, absent: Absent
) -> bool:
    """Return whether a name or link is not followed, which `absent` is told."""
    if not is_text(name):
        absent.add("file name that is not UTF-8", ascii(name))
    elif entry.name.startswith("."):
        absent.tally.add("hidden file", name)
    elif allow_outside or not entry.is_symlink():
        return False
    elif not _leads_inside(entry.path, real):
        absent.add("link out of the folder", name)
    elif entry.is_dir():
        absent.tally.add("link to a folder", name)  # its files are listed where they are
    else:
        return False
    return True


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scan(folder: str, root: str) -> Iterator[os.DirEntry[str]]:
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


def refused(path: str, name: str, bounds: Bounds, absent: Absent) -> bool:
    """Return whether a file is no usable image by its size and kind, which `absent` is told."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        absent.add("missing image", name)
        return True
    if not stat.S_ISREG(status.st_mode):
        absent.add("image that is not an ordinary file", name)
    elif not status.st_size:
        absent.add("empty image file", name)
    elif status.st_size > bounds.max_image_bytes:
        absent.add("image over max_image_bytes", name)
    else:
        return False
    return True


def usable(
    root: str, name: str, bounds: Bounds, absent: Absent, allow_outside: bool = False
) -> bool:
    """Return whether a name in data is an image below `root`; `absent` is told why not."""
    if "\0" in name or not is_text(name):
        absent.add("file name that is no path", ascii(name))
        return False
    path = os.path.join(root, name)
    if "/" in name or os.path.islink(path):  # others can't lead out, and following costs time
        try:
            inside(root, name, "", allow_outside)
        except DataError:
            absent.add("image outside the folder", name)
            return False
    return not refused(path, name, bounds, absent)


def read_image(root: str, name: str, bounds: Bounds, key: str, allow_outside: bool) -> bytes:
    """Return the bytes of the image `name` below `root`.

    Raises:
        BrokenSample: missing, empty, too large, or outside the folder.
    """
    what = f"Sample {key}"
    image = read_file(root, name, bounds.max_image_bytes, what, "image", allow_outside)
    if not image:
        raise BrokenSample("empty image file", f"{what}: {name} holds no bytes.")
    return image


def read_file(
    root: str, name: str, most: int, what: str, kind: str, allow_outside: bool = False
) -> bytes:
    """Return the bytes of a file below `root`; BrokenSample says what `kind` of file failed."""
    try:
        return read_bounded(inside(root, name, what, allow_outside), most, what)
    except BrokenSample:
        raise
    except DataError as error:
        raise BrokenSample(f"unreadable {kind} file", str(error)) from error


def folder_of(words: str, what: str) -> str:
    """Return a folder that exists. Raises DataError that says what to set."""
    if not words:
        raise DataError(f"No path was given; set path to {what}.")
    if not os.path.isdir(words):
        raise DataError(f"No folder is at {words}; set path to {what}.")
    return words
