"""Changes of an image that leave what it shows: from the bytes of a file to those of a PNG.

Pure functions: equal bytes and words give equal bytes. Nothing larger than `MOST_PIXELS` is
decoded, and nothing with a side above `MOST_SIDE` comes out.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lift.errors import BrokenSample

MOST_PIXELS = 89_478_485
"""As `lift.data.image` has it."""

MOST_SIDE = 512
"""A larger picture is shrunk to this first: models see a few hundred pixels of a side."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000", "TGA")
"""What `lift.data.image` reads: none that starts other programs."""

_LETTERS = 80
_LEAST_FONT = 6
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError),
    *(AttributeError, OverflowError, RuntimeError, MemoryError, Image.DecompressionBombError),
)
"""What Pillow raises on files that are broken on purpose or by accident."""


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        words: what it does, for the protocol.
        make: from a picture, and a text that is wrong for it, to the changed picture.
        writes: whether that text has a part in it.
    """

    words: str
    make: Callable[[Image.Image, str], Image.Image]
    writes: bool = False


def _greyscale(image: Image.Image, _: str) -> Image.Image:
    return image.convert("L").convert("RGB")


def _flipped(image: Image.Image, _: str) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _shrunk(parts: int) -> Callable[[Image.Image, str], Image.Image]:
    def make(image: Image.Image, _: str) -> Image.Image:
        width, height = (max(1, side // parts) for side in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=None)

    return make


def _jpeg(quality: int) -> Callable[[Image.Image, str], Image.Image]:
    def make(image: Image.Image, _: str) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(buffer, formats=("JPEG",)) as again:
            return again.convert("RGB")

    return make


def _written(image: Image.Image, text: str) -> Image.Image:
    """Write a text in black on a white band across the lower quarter, as large as fits."""
    band = max(1, image.height // 4)
    image = image.copy()
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, image.height - band, image.width, image.height), fill=(255, 255, 255))
    shown = " ".join(text.split())[:_LETTERS]
    size = band * 0.8
    font = ImageFont.load_default(size)
    wide = pen.textlength(shown, font=font)
    if wide > 0.96 * image.width:
        size = max(_LEAST_FONT, size * 0.96 * image.width / wide)
        font = ImageFont.load_default(size)
    middle = (image.width / 2, image.height - band / 2)
    pen.text(middle, shown, fill=(0, 0, 0), font=font, anchor="mm")
    return image


CHANGES = {
    "greyscale": Change("greyscale", _greyscale),
    "flip": Change("flipped left to right", _flipped),
    "half": Change("1/2 of each side's pixels", _shrunk(2)),
    "quarter": Change("1/4 of each side's pixels", _shrunk(4)),
    "jpeg30": Change("JPEG of quality 30", _jpeg(30)),
    "jpeg10": Change("JPEG of quality 10", _jpeg(10)),
    "text": Change("a wrong text written on the lower quarter", _written, writes=True),
}
"""By name, in the order to print."""


def changed(content: bytes, name: str, wrong_text: str = "") -> bytes:
    """Return an image after one of `CHANGES`, as the bytes of a PNG.

    Args:
        content: the bytes of an image file.
        name: of the change.
        wrong_text: what is written over it, for the change that writes.

    Raises:
        BrokenSample: the bytes are no image that can be read, or too large a one.
    """
    image = opened(content)
    try:
        after = CHANGES[name].make(image, wrong_text)
        buffer = io.BytesIO()
        after.save(buffer, "PNG", compress_level=0)  # read again at once
    except BROKEN as error:
        raise _broken(content, error) from error
    return buffer.getvalue()


def opened(content: bytes) -> Image.Image:
    """Return the picture of a file as RGB, upright, with no side above `MOST_SIDE`.

    Transparent parts lie on white, as `lift.data.image` has them.

    Raises:
        BrokenSample: no image that can be read, or too large a one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; broken pixels raise
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise ValueError(f"{width} x {height} pixels; up to {MOST_PIXELS:,} are read")
                image.draft("RGB", (MOST_SIDE, MOST_SIDE))
                upright = ImageOps.exif_transpose(image)
                plain = _on_white(upright)
    except BROKEN as error:
        raise _broken(content, error) from error
    if max(plain.size) > MOST_SIDE:
        plain.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.BICUBIC, reducing_gap=None)
    return plain


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey of 16 bits
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _broken(content: bytes, error: BaseException) -> BrokenSample:
    reason = str(error).partition("<")[0].strip() or type(error).__name__
    return BrokenSample(
        "truncated or damaged image",
        f"Image of {len(content)} bytes can't be changed ({reason}).",
    )
