"""Plain JPEGs decoded by simplejpeg where it is installed: Pillow's pixels, in half the time.

Pillow stays the judge. Whatever is not plain (see `plain`), whatever simplejpeg complains about,
and everything where the two libraries were found to differ is left to Pillow, so that neither
pixels nor errors depend on what is installed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SHRINKS = (1, 2, 4, 8)
"""Divisors of the side at which a JPEG can be decoded without decoding all of it."""

_SEGMENTS = 64
"""Segments that are looked at before the pixels; a plain file has about ten."""

_SAMPLINGS = {(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)}
"""Luma samples for one chroma sample, across and down: 4:4:4, 4:2:2, 4:4:0, 4:2:0 and 4:1:1."""

_SOF = (0xC0, 0xC1, 0xC2)
_TABLES = (0xC4, 0xDB, 0xDD, 0xFE)
"""Frames (baseline, extended, progressive), and what may stand before them: tables, comments."""

_SOS = 0xDA
_ORIENTATION, _SHORT = 0x0112, 3

Pixels = UInt8[np.ndarray, "h w 3"]


class Plain(NamedTuple):
    """Size of a plain JPEG, in pixels."""

    height: int
    width: int


def plain(content: bytes) -> Plain | None:
    """Return the size of a JPEG that `pixels` may decode, or None where Pillow should see it.

    Plain is: 8 bits, baseline or progressive, Huffman coded, grey or three components in a usual
    subsampling, upright, one picture, and no metadata that Pillow might stumble over. Reads headers
    only, and no more than a few of them.
    """
    if decoder() is None:
        return None
    try:
        return _scan(content)
    except (struct.error, ValueError):  # cut off, or nothing that we know
        return None


def pixels(content: bytes, size: Plain, shrink: int, out: Pixels | None = None) -> Pixels | None:
    """Return the pixels of a plain JPEG [ceil(h / shrink) ceil(w / shrink) 3], in `out` if given.

    None where simplejpeg complains (Pillow may repair the file, or say what is wrong with it) and
    where a side is shorter than `shrink`.
    """
    decode = decoder()
    if decode is None or min(size) < shrink:
        return None
    found = _decoded(decode, content, size, shrink, out)
    return found if found is None or out is None else out


@functools.cache
def decoder() -> Callable[..., Pixels] | None:
    """Return simplejpeg's decoder if it is installed and decodes as Pillow does, else None.

    Both bring a copy of libjpeg-turbo; copies of different versions may round differently, so they
    are compared on a few small pictures, once in a process (some 15 ms).
    """
    try:
        import simplejpeg

        return simplejpeg.decode_jpeg if _agrees(simplejpeg) else None
    except (ImportError, ValueError):  # ValueError: built for another numpy, or it can't encode
        return None


def decoder_name() -> str:
    """Return what decodes plain JPEGs here, for logs and benchmarks."""
    if decoder() is None:
        return f"Pillow {importlib.metadata.version('pillow')}"
    return f"simplejpeg {importlib.metadata.version('simplejpeg')}"


def by_pillow(content: bytes, shrink: int) -> Image.Image:
    """Return a JPEG opened by Pillow, told to decode at a fraction where it can."""
    opened = Image.open(io.BytesIO(content), formats=("JPEG",))
    draft(opened, shrink)
    return opened


def draft(image: Image.Image, shrink: int) -> None:
    """Tell an opened JPEG to decode at a fraction; nothing where a side is shorter than that."""
    if shrink > 1 and min(image.size) >= shrink:
        # Rounded down: draft() divides the size by this and takes the next smaller fraction.
        image.draft(None, (image.width // shrink, image.height // shrink))


def _decoded(
    decode: Callable[..., Pixels],
    content: bytes,
    size: Plain,
    shrink: int,
    out: Pixels | None = None,
) -> Pixels | None:
    height, width = -(-size.height // shrink), -(-size.width // shrink)
    least = {} if shrink == 1 else {"min_height": height, "min_width": width, "min_factor": shrink}
    try:
        found = decode(content, "RGB", buffer=out, **least)
    except (ValueError, MemoryError):
        return None
    return found if found.shape == (height, width, 3) else None


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments up to the first scan.

    Raises:
        ValueError, struct.error: what stands there is no segment, or there are too many.
    """
    if content[:3] != b"\xff\xd8\xff":
        raise ValueError
    place = 2
    for _ in range(_SEGMENTS):
        mark, marker, length = struct.unpack_from(">BBH", content, place)
        end = place + 2 + length
        if mark != 0xFF or length < 2 or end > len(content):
            raise ValueError
        yield marker, content[place + 4 : end]
        if marker == _SOS:
            return
        place = end
    raise ValueError


def _scan(content: bytes) -> Plain | None:
    """Return the size of a plain JPEG."""
    size, exif_blocks = None, 0
    for marker, segment in _segments(content):
        if marker == _SOS:
            return size
        if marker in _SOF:
            if size is not None or (size := _size(segment)) is None:
                return None
        elif not _harmless(marker, segment):
            return None
        exif_blocks += marker == 0xE1 and segment.startswith(b"Exif")
        if exif_blocks > 1:  # Pillow joins them
            return None
    return None


def _size(frame: bytes) -> Plain | None:
    """Return the size that a frame header tells, None for unusual frames."""
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if bits != 8 or height < 1 or width < 1 or len(frame) != 6 + 3 * components:
        return None
    if components == 1:
        return Plain(height, width)
    across, down = frame[7] >> 4, frame[7] & 15
    usual = components == 3 and (across, down) in _SAMPLINGS and frame[10] == frame[13] == 0x11
    return Plain(height, width) if usual else None


def _harmless(marker: int, segment: bytes) -> bool:
    """Return whether a segment changes nothing of how Pillow shows the file."""
    if not 0xE0 <= marker <= 0xEF:
        return marker in _TABLES
    if marker == 0xE0:
        return len(segment) >= 14 or not segment.startswith(b"JFIF")
    if marker == 0xE1:
        if segment.startswith(b"Exif"):
            return _upright(segment)
        return b"tiff:Orientation" not in segment
    if marker == 0xE2:  # a colour profile, which Pillow ignores; but not an index of pictures
        return segment.startswith(b"ICC_PROFILE\0") and len(segment) >= 14
    return not (marker == 0xED and segment.startswith(b"Photoshop 3.0\0"))


def _upright(segment: bytes) -> bool:
    """Return whether EXIF data is sound and asks for no turn."""
    if segment[:10] not in (b"Exif\0\0II*\0", b"Exif\0\0MM\0*"):
        return False
    order, tiff = "<" if segment[6:7] == b"I" else ">", segment[6:]
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    if start < 8 or start + 2 + 12 * count > len(tiff):
        return False
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, value = struct.unpack_from(order + "HHIH", tiff, place)
        if tag == _ORIENTATION and (kind, values, value) != (_SHORT, 1, 1):
            return False
    return True


def _agrees(simplejpeg: Any) -> bool:
    """Compare the two libraries on noise, in every subsampling, progressive or not, and grey."""
    # Squares modulo a prime are as good as noise, and the same everywhere.
    numbers = np.arange(45 * 83 * 3, dtype=np.int64)
    noise = (numbers * numbers % 65_521 % 256).astype(np.uint8).reshape(45, 83, 3)
    for content in _samples(noise, simplejpeg):
        size = _scan(content)
        for shrink in SHRINKS:
            found = size and _decoded(simplejpeg.decode_jpeg, content, size, shrink)
            with by_pillow(content, shrink) as opened:
                wanted = np.asarray(opened.convert("RGB"))
            if found is None or not np.array_equal(found, wanted):
                return False
    return True


def _samples(noise: Pixels, simplejpeg: Any) -> list[bytes]:
    made: list[bytes] = [simplejpeg.encode_jpeg(noise, quality=75, colorsubsampling="440")]
    for kind, options in (
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"subsampling": "4:2:2", "quality": 95}),
        ("RGB", {"subsampling": "4:2:0"}),
        ("RGB", {"subsampling": "4:2:0", "progressive": True, "quality": 40}),
        ("RGB", {"subsampling": "4:1:1"}),
        ("L", {}),
    ):
        file = io.BytesIO()
        Image.fromarray(noise).convert(kind).save(file, "JPEG", **options)
        made.append(file.getvalue())
    return made
