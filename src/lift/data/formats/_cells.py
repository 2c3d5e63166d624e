"""A cell of a table to the bytes of an image: bytes, a path, or a struct of both."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from lift.data.formats._layout import Bounds
from lift.data.formats._paths import inside, read_bounded
from lift.errors import BrokenSample, DataError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


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
                "image file too large",
                f"{what}: the image has {len(value):,} bytes; "
                f"up to {bounds.max_image_bytes:,} are read.",
            )
        return value
    if not isinstance(value, str) or not value:
        raise BrokenSample(
            "no image",
            f"{what} has no image in {column!r} "
            f"(a path or bytes, not {value if value is None else type(value).__name__}).",
        )
    if _URL.match(value):
        raise BrokenSample(
            "image that is a URL",
            f"{what}: {value:.80} in {column!r} is a URL; download the images first, for example "
            "with img2dataset, and read what it wrote.",
        )
    return image_file(root, value, sample, bounds, allow_outside)


def image_file(
    root: str, name: str, sample: str, bounds: Bounds, allow_outside: bool = False
) -> bytes:
    """Return the bytes of the image file `name` below `root`; raises BrokenSample."""
    what = f"Sample {sample}"
    try:
        path = inside(root, name, what, allow_outside)
    except BrokenSample:
        raise
    except DataError as error:
        raise BrokenSample("image path outside", str(error)) from error
    try:
        image = read_bounded(path, bounds.max_image_bytes, what)
    except BrokenSample:
        raise
    except DataError as error:
        raise BrokenSample(_kind(path, bounds), str(error)) from error
    if not image:
        raise BrokenSample("empty image file", f"{what}: {path} holds no bytes.")
    return image


def _kind(path: str, bounds: Bounds) -> str:
    try:
        if os.stat(path).st_size > bounds.max_image_bytes:
            return "image file too large"
    except (FileNotFoundError, NotADirectoryError):
        return "image file missing"
    except (OSError, ValueError):
        pass
    return "unreadable image file"
