"""Turn image files into small pictures inside the page (JPEG data URIs)."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable, Mapping

from PIL import Image, ImageOps, UnidentifiedImageError

SIDE = 208
"""Longest side of a picture in pixels: twice its usual size on the page."""

QUALITY = 78
"""JPEG quality; about 8 kB a photograph at this size."""

Thumbnails = Mapping[str, bytes] | Callable[[str], bytes | None]
"""Image file bytes by key: a mapping, or a function that returns None for an unknown key."""


class Pictures:
    """Makes each key's picture once and counts those that could not be shown.

    Attributes:
        missing: keys without bytes.
        broken: keys whose bytes are no image that can be read.
    """

    def __init__(self, thumbnails: Thumbnails | None) -> None:
        self._thumbnails = thumbnails
        self._made: dict[str, str | None] = {}
        self.missing: list[str] = []
        self.broken: list[str] = []

    def __call__(self, key: str) -> str | None:
        """Return the data URI of the image `key`, or None where there is none to show."""
        if key not in self._made:
            self._made[key] = self._make(key)
        return self._made[key]

    def _make(self, key: str) -> str | None:
        if self._thumbnails is None:
            return None
        find = self._thumbnails
        data = find.get(key) if isinstance(find, Mapping) else find(key)
        if data is None:
            self.missing.append(key)
            return None
        try:
            return data_uri(data)
        # What Pillow raises on damaged files: short reads, bad headers, bombs, broken EXIF.
        except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
            self.broken.append(key)
            return None


def data_uri(data: bytes) -> str:
    """Return a JPEG of at most `SIDE` pixels a side as a data URI, upright and on white.

    Raises:
        OSError: the bytes are no image that Pillow reads.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise OSError("not an image") from error
    with image:
        image.draft("RGB", (SIDE, SIDE))
        small = ImageOps.exif_transpose(image)
        if small.mode in ("RGBA", "LA", "PA") or "transparency" in small.info:
            small = small.convert("RGBA")
            white = Image.new("RGBA", small.size, "white")
            small = Image.alpha_composite(white, small)
        small = small.convert("RGB")
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
