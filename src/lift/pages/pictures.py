"""Turn image files into small pictures inside the page (JPEG data URIs)."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping

from PIL import Image

from lift.data.image import decode
from lift.errors import DataError

SIDE = 208
"""Longest side of a picture in pixels: twice its usual size on the page."""

QUALITY = 78
"""JPEG quality; about 8 kB a photograph at this size."""

Lookup = Mapping[str, bytes] | Callable[[str], bytes | None]
"""Image file bytes by key: a mapping, or a function that returns None for an unknown key."""

Thumbnails = Mapping[str, Lookup]
"""The lookup of each data set, by the name that results have in `data`.

Keys belong to their data set: two tables both have a row 0.
"""


class Pictures:
    """Makes each picture once and counts those that could not be shown.

    Attributes:
        missing: keys without bytes.
        broken: keys whose bytes are no image that can be read.
        unknown: data sets whose pictures were asked for and are not at hand.
    """

    def __init__(self, thumbnails: Thumbnails | None, side: int = SIDE) -> None:
        self._thumbnails = thumbnails
        self._side = side
        self._made: dict[tuple[str, str], str | None] = {}
        self.missing: list[str] = []
        self.broken: list[str] = []
        self.unknown: list[str] = []

    def __call__(self, data: str, key: str) -> str | None:
        """Return the data URI of the image `key` of `data`, or None where there is none."""
        if self._thumbnails is None:
            return None
        if data not in self._thumbnails:
            if data not in self.unknown:
                self.unknown.append(data)
            return None
        if (data, key) not in self._made:
            self._made[data, key] = self._make(self._thumbnails[data], key)
        return self._made[data, key]

    def _make(self, find: Lookup, key: str) -> str | None:
        try:
            content = find.get(key) if isinstance(find, Mapping) else find(key)
            if content is not None:
                return data_uri(content, self._side)
        except DataError:
            self.broken.append(key)
            return None
        self.missing.append(key)
        return None


def data_uri(content: bytes, side: int = SIDE) -> str:
    """Return a JPEG of at most `side` pixels a side as a data URI, upright and on white.

    Raises:
        DataError: the bytes are no image that can be read.
    """
    pixels = decode(content, at_least=side)
    small = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def picture_notes(pictures: Pictures, any_gallery: bool, why: str) -> list[str]:
    """Return what a page says of pictures that could not be shown.

    Args:
        pictures: what made them.
        any_gallery: whether the page shows any.
        why: data may be unknown.
    """
    notes = []
    for keys, what in (
        (pictures.missing, "had no picture to show"),
        (pictures.broken, "could not be read as a picture"),
    ):
        if any_gallery and keys:
            notes.append(f"{len(keys)} of the images {what}; the first is {keys[0]}.")
    if pictures.unknown:
        names = ", ".join(pictures.unknown)
        notes.append(f"Keys stand in for the pictures of {names}: {why}.")
    return notes
