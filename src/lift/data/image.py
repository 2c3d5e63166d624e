"""Any image file, array or PIL image to uint8 RGB on a background, the right way up."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lift.errors import DataError
from lift.terms import ImageLike

MAX_PIXELS = 89_478_485
"""Largest image that is decoded: a quarter of a GiB as 24-bit RGB, Pillow's own warning line."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000", "TGA")
"""Formats that are tried. Those that start other programs (EPS) are not."""

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
    RuntimeError,  # AVIF; NotImplementedError too
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise on files that are broken on purpose or by accident."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each EXIF orientation but the first (upright) asks for."""


def decode(
    image: ImageLike,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    at_least: int | None = None,
) -> UInt8[Tensor, "3 h w"]:
    """Return the pixels of `image` as RGB.

    Palettes, grey, 1 bit, CMYK, HSV and YCbCr are converted; alpha is laid on `background`;
    16-bit grey is scaled by 1/257; EXIF rotation is applied; of an animation the first frame is
    taken.

    Args:
        image: a path, the bytes of an image file, an `h w 3` uint8 array, or a PIL image.
        background: RGB below transparent pixels.
        max_pixels: more than this is refused before anything is decoded.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as its shorter side stays at
            or above this; None decodes in full.

    Raises:
        DataError: the image can't be read, is truncated, too large, or of an unknown kind.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, max_pixels)
    name = _name(image)
    try:
        with warnings.catch_warnings():
            # Warnings are about metadata; sizes are checked below, broken pixels raise.
            warnings.simplefilter("ignore")
            if isinstance(image, Image.Image):
                return _tensor(_rgb(_opened(image, name, max_pixels, None), background))
            with _open(image) as file:
                return _tensor(_rgb(_opened(file, name, max_pixels, at_least), background))
    except UnidentifiedImageError as error:  # its own text holds an address of this process
        raise DataError(f"{name} can't be read: it is none of {', '.join(FORMATS)}.") from error
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{name} can't be read as an image ({reason}).") from error


def _name(image: ImageLike) -> str:
    if isinstance(image, str | os.PathLike):
        return str(image)
    if isinstance(image, bytes):
        return f"Image of {len(image)} bytes"
    if isinstance(image, Image.Image):
        return f"PIL image of mode {image.mode}"
    raise DataError(
        f"A {type(image).__name__} is not an image; give a path, bytes of an image file, "
        "an h x w x 3 uint8 array or a PIL image."
    )


def _open(image: str | os.PathLike[str] | bytes) -> Image.Image:
    if isinstance(image, bytes):
        return Image.open(io.BytesIO(image), formats=FORMATS)
    return Image.open(Path(image), formats=FORMATS)


def _from_array(image: np.ndarray, max_pixels: int) -> UInt8[Tensor, "3 h w"]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(f"An image array must be h x w x 3 uint8, not {image.shape} {image.dtype}.")
    _check_size(f"Image array {image.shape}", image.shape[1], image.shape[0], max_pixels)
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1 or width * height > max_pixels:
        raise DataError(
            f"{name} has {width} x {height} pixels; between 1 and {max_pixels:,} are read."
        )


def _opened(image: Image.Image, name: str, max_pixels: int, at_least: int | None) -> Image.Image:
    """Check the size, decode (smaller where that is allowed) and turn upright."""
    _check_size(name, *image.size, max_pixels)
    if at_least is not None and image.format in ("JPEG", "MPO"):
        shrink = at_least / min(image.size)
        if shrink <= 0.5:
            # draft() picks the largest of 1/2, 1/4, 1/8 that keeps both sides at or above these.
            image.draft(None, (-int(-image.width * shrink // 1), -int(-image.height * shrink // 1)))
    image.load()
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what the EXIF data asks for; damaged data says nothing about the pixels, so None."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except _BROKEN:
        return None
    return _TURNS.get(value) if isinstance(value, int) else None


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data or image.mode == "RGBa":
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale integer grey from 16 bits, and float grey from [0, 1] (or [0, 255]), to 8 bits."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    if image.mode == "F":
        scale = 255.0 if values.max() <= 1.0 else 1.0
    else:
        scale = 1 / 257
    return Image.fromarray(np.rint(values * scale).clip(0, 255).astype(np.uint8))


def _tensor(image: Image.Image) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
