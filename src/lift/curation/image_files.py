"""What an image file says of itself, and a smaller file of the same picture."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

from PIL import Image

from lift.data.image import FORMATS, decode
from lift.errors import BrokenSample, DataError

_ORIENTATION = 0x0112
_LONGEST_JPEG = 65_500
"""libjpeg's own limit of a side."""

_SPARE = 2
"""A JPEG decoded at a fraction keeps this many times the side needed, for the resize to smooth."""

_UNREADABLE = "image that can't be read"
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Header:
    """What is known before any pixel is decoded.

    Attributes:
        format: as Pillow calls it: JPEG, PNG, ...
        mode: of its pixels: RGB, P, RGBA, L, CMYK, ...
        width, height: in pixels, as stored, before any turn.
        orientation: the EXIF turn that it asks for; 1 is upright, 0 damaged EXIF data.
        frames: more than 1 in an animation.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    frames: int

    @property
    def kind(self) -> str:
        """Return format and mode in words: "JPEG RGB", "PNG palette"."""
        return f"{self.format} {_MODES.get(self.mode, self.mode)}"

    @property
    def upright_size(self) -> tuple[int, int]:
        """Return width and height of the picture as it is looked at."""
        sideways = 5 <= self.orientation <= 8
        return (self.height, self.width) if sideways else (self.width, self.height)


_MODES = {
    "P": "palette",
    "PA": "palette with alpha",
    "L": "grey",
    "LA": "grey with alpha",
    "1": "black and white",
    "I": "16-bit grey",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "F": "float grey",
}


def header_of(content: bytes) -> Header:
    """Return what an image file says of itself.

    Raises:
        BrokenSample: it is no image file of a format that is read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return Header(
                    format=image.format or "unknown",
                    mode=image.mode,
                    width=image.width,
                    height=image.height,
                    orientation=_orientation(image),
                    frames=int(getattr(image, "n_frames", 1)),
                )
    except _BROKEN as error:
        raise BrokenSample(
            _UNREADABLE, f"An image of {len(content):,} bytes is none of {', '.join(FORMATS)}."
        ) from error


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:  # says nothing about the pixels, but the file is not plain
        return 0
    return value if isinstance(value, int) else 0


def smaller(content: bytes, side: int, quality: int) -> tuple[bytes, bool]:
    """Return a JPEG whose shorter side is at most `side`, and whether it is `content` itself.

    A plain JPEG (RGB, upright, one picture) that is small enough stays as it is, to the byte.
    Everything else is decoded, turned upright, laid on white, made smaller (antialiased bicubic,
    never larger) and written as a JPEG with half the colour resolution.

    Raises:
        BrokenSample: it can't be decoded, or is too long for a JPEG.
    """
    header = header_of(content)
    short = min(header.width, header.height)
    plain = header.format == "JPEG" and header.mode == "RGB"
    keep = plain and header.orientation == 1 and short <= side
    try:
        # A file that stays is decoded too: a cut one is no sample.
        pixels = decode(content, at_least=None if keep else _SPARE * side)
    except DataError as error:
        raise BrokenSample(kind_of(error), str(error)) from error
    if keep:
        return content, True
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    if min(image.size) > side:
        scale = side / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    if max(image.size) > _LONGEST_JPEG:
        raise BrokenSample(
            "image too long for a JPEG",
            f"An image of {header.width} x {header.height} pixels is longer than a JPEG can be "
            f"({_LONGEST_JPEG:,}).",
        )
    return jpeg(image, quality), False


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Return an RGB image as the bytes of a JPEG; equal pixels give equal bytes."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling="4:2:0")
    return out.getvalue()


def kind_of(error: DataError) -> str:
    """Return the reason that many broken samples share."""
    return error.kind if isinstance(error, BrokenSample) else _UNREADABLE
