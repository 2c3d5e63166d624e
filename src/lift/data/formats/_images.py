"""Images that records name or hold: which files are images, checks, and the reading of bytes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from lift.data import kinds
from lift.data.formats._layout import Absent, Bounds
from lift.data.formats._paths import inside, read_bounded
from lift.errors import BrokenSample, DataError

ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
"""Endings of image files, in small letters, the likeliest first."""

IMAGES = frozenset(ENDINGS)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def image_of(
    value: Any, column: str, root: str, sample: str, bounds: Bounds, allow_outside: bool = False
) -> bytes:
    """Return the bytes of the image file that a cell holds or names.

    Args:
        value: bytes, a path from `root`, or a struct (`bytes`, `path`) as Hugging Face writes it.
        column: its name, for sentences.
        root: the folder that paths start from.
        sample: its key.
        bounds: what is too large.
        allow_outside: accept paths that leave `root`.

    Raises:
        BrokenSample: nothing there, a URL, a path that leads nowhere or outside, or too large.
    """
    what = f"Sample {sample}"
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        if len(value) > bounds.max_image_bytes:
            raise BrokenSample(
                kinds.IMAGE_FILE_TOO_LARGE,
                f"{what}: the image has {len(value):,} bytes; "
                f"up to {bounds.max_image_bytes:,} are read.",
            )
        return value
    if not isinstance(value, str) or not value:
        raise BrokenSample(
            kinds.IMAGE_MISSING,
            f"{what} has no image in {column!r} "
            f"(a path or bytes, not {value if value is None else type(value).__name__}).",
        )
    if _URL.match(value):
        raise BrokenSample(
            kinds.IMAGE_URL,
            f"{what}: {value:.80} in {column!r} is a URL; download the images first, for example "
            "with img2dataset, and read what it wrote.",
        )
    return image_file(root, value, sample, bounds, allow_outside)


def image_file(
    root: str, name: str, sample: str, bounds: Bounds, allow_outside: bool = False
) -> bytes:
    """Return the bytes of the image file `name` below `root`; raises BrokenSample."""
    what = f"Sample {sample}"
    image = bounded_file(root, name, bounds.max_image_bytes, what, allow_outside)
    if not image:
        raise BrokenSample(kinds.IMAGE_EMPTY, f"{what}: {name} holds no bytes.")
    return image


def bounded_file(
    root: str,
    name: str,
    most: int,
    what: str,
    allow_outside: bool = False,
    kind: str = "",
) -> bytes:
    """Return the bytes of a file below `root`.

    Raises:
        BrokenSample: it can't be read or has more than `most` bytes. `what` begins the sentence;
            `kind` is its kind, "" that of the trouble with an image.
    """
    path = ""
    try:
        path = inside(root, name, what, allow_outside)
        return read_bounded(path, most, what)
    except BrokenSample:
        raise
    except DataError as error:
        raise BrokenSample(kind or _trouble(path, most), str(error)) from error


def _trouble(path: str, most: int) -> str:
    """Return why an image could not be read; a path that leads outside was never made."""
    if not path:
        return kinds.IMAGE_OUTSIDE
    try:
        if os.stat(path).st_size > most:
            return kinds.IMAGE_FILE_TOO_LARGE
    except (FileNotFoundError, NotADirectoryError):
        return kinds.IMAGE_MISSING
    except (OSError, ValueError):
        pass
    return kinds.IMAGE_UNREADABLE


def refused(path: str, name: str, bounds: Bounds, absent: Absent) -> bool:
    """Return whether a file is no usable image by its size and kind, which `absent` is told."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        absent.add(kinds.IMAGE_MISSING, name)
        return True
    if not stat.S_ISREG(status.st_mode):
        absent.add(kinds.IMAGE_UNREADABLE, name)
    elif not status.st_size:
        absent.add(kinds.IMAGE_EMPTY, name)
    elif status.st_size > bounds.max_image_bytes:
        absent.add(kinds.IMAGE_FILE_TOO_LARGE, name)
    else:
        return False
    return True


def usable(
    root: str, name: str, bounds: Bounds, absent: Absent, allow_outside: bool = False
) -> bool:
    """Return whether a name in data is an image below `root`; `absent` is told why not."""
    if "\0" in name or not is_text(name):
        absent.add(kinds.IMAGE_PATH, ascii(name))
        return False
    path = os.path.join(root, name)
    if "/" in name or os.path.islink(path):  # others can't lead out, and following costs time
        try:
            inside(root, name, "", allow_outside)
        except DataError:
            absent.add(kinds.IMAGE_OUTSIDE, name)
            return False
    return not refused(path, name, bounds, absent)
