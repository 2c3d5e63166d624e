"""Any image file, array or PIL image to uint8 RGB on a background, the right way up."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lift.data import jpeg
from lift.errors import BrokenSample
from lift.terms import ImageLike

MAX_PIXELS = 89_478_485
"""Largest image that is decoded: a quarter of a GiB as 24-bit RGB, Pillow's own warning line."""

EMPTY, NO_IMAGE, UNREADABLE = "empty file", "not an image", "unreadable file"
DAMAGED, TOO_LARGE = "truncated or damaged image", "image too large"
"""Kinds of `BrokenSample` that are raised here. An unreadable file is missing, or no plain file."""

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

_MAX_FILE = 1 << 30
"""Bytes of the largest file that is read; 16-bit RGBA of MAX_PIXELS fits."""

_TURNING = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
"""What a PNG holds that asks for a turn, possibly behind its pixels."""

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

_SWAPPING = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Those that make rows of columns."""


class Picture:
    """An image whose size is known and whose pixels are decoded when they are asked for.

    Attributes:
        height, width: in pixels, upright (after the rotation that EXIF data asks for).
    """

    def __init__(self, name: str, height: int, width: int, load: _Load, shrinks: bool) -> None:
        self.height, self.width = height, width
        self._name, self._load, self._shrinks = name, load, shrinks

    def size(self, shrink: int = 1) -> tuple[int, int]:
        """Return the height and width that `pixels(shrink)` will have.

        A JPEG with no side below `shrink` is decoded at that fraction, to ceil(height / shrink) x
        ceil(width / shrink) pixels, in less time. Anything else comes in full.
        """
        if shrink not in jpeg.SHRINKS:
            raise ValueError(f"shrink must be one of {jpeg.SHRINKS}, not {shrink}")
        if not self._shrinks or min(self.height, self.width) < shrink:
            return self.height, self.width
        return -(-self.height // shrink), -(-self.width // shrink)

    def pixels(
        self, shrink: int = 1, out: UInt8[Tensor, " bytes"] | None = None
    ) -> UInt8[Tensor, "3 h w"]:
        """Return the pixels, a view of h x w x 3 memory.

        Args:
            shrink: 1, 2, 4 or 8; see `size`.
            out: where they are put, on the CPU; its first 3 h w bytes are written. A plain JPEG is
                decoded there, which saves a copy. None takes memory of their own.

        Raises:
            BrokenSample: the pixels are truncated or damaged; `out` may have been written to.
        """
        size = self.size(shrink)
        target = None if out is None else out[: 3 * size[0] * size[1]].view(*size, 3).numpy()
        found = self._load(shrink, target)
        if found.shape[:2] != size:
            raise BrokenSample(
                DAMAGED,
                f"{self._name} can't be read as an image ({size[1]} x {size[0]} pixels are "
                f"announced, {found.shape[1]} x {found.shape[0]} are there).",
            )
        if target is not None and found is not target:
            target[:] = found
            found = target
        return torch.from_numpy(found).permute(2, 0, 1)


def picture(
    image: ImageLike,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Open an image; what its pixels become is told at `decode`.

    Only headers are read, but for TIFFs and for PNGs with orientation data, whose size is known
    when they are decoded.

    Args:
        image: a path, the bytes of an image file, an `h w 3` uint8 array, or a PIL image.
        background: RGB below transparent pixels.
        max_pixels: more than this is refused before anything is decoded.

    Raises:
        BrokenSample: the image can't be read, is truncated, too large, or of an unknown kind.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, max_pixels)
    name = _name(image)
    if isinstance(image, Image.Image):
        with _told(name):
            return _Opened(image, name, background, max_pixels).picture()
    content = image if isinstance(image, bytes) else file_content(Path(image), name)
    if not content:
        raise BrokenSample(EMPTY, f"{name} can't be read: it is empty.")
    size = jpeg.plain(content)
    if size is None:
        return _opened(content, name, background, max_pixels).picture()
    _check_size(name, size.width, size.height, max_pixels)

    def load(shrink: int, out: _Pixels | None) -> _Pixels:
        found = jpeg.pixels(content, size, shrink, out)
        if found is None:
            return _opened(content, name, background, max_pixels).load(shrink, out)
        return found

    return Picture(name, size.height, size.width, load, shrinks=True)


def decode(
    image: ImageLike,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    at_least: int | None = None,
) -> UInt8[Tensor, "3 h w"]:
    """Return the pixels of `image` as RGB, channel by channel in memory.

    Palettes, grey, 1 bit, CMYK, HSV and YCbCr are converted; alpha is laid on `background`;
    16-bit grey is scaled by 1/257; EXIF rotation is applied; of an animation the first frame is
    taken.

    Args:
        image, background, max_pixels: as `picture` has them.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as its shorter side stays at
            or above this; None decodes in full.

    Raises:
        BrokenSample: the image can't be read, is truncated, too large, or of an unknown kind.
    """
    opened = picture(image, background=background, max_pixels=max_pixels)
    short = min(opened.height, opened.width)
    fits = [s for s in jpeg.SHRINKS if at_least is not None and short // s >= at_least]
    return opened.pixels(max(fits, default=1)).contiguous()


_Pixels = UInt8[np.ndarray, "h w 3"]
_Load = Callable[[int, _Pixels | None], _Pixels]


class _Opened:
    """What Pillow has opened: a file whose bytes we hold, or an image of the caller's."""

    def __init__(
        self,
        image: Image.Image,
        name: str,
        background: tuple[int, int, int],
        max_pixels: int,
        content: bytes | None = None,
    ) -> None:
        self._name, self._background = name, background
        self._content = content
        self._image: Image.Image | None = image
        self._is_jpeg = content is not None and image.format in ("JPEG", "MPO")
        _check_size(name, *image.size, max_pixels)
        # Asked about a turn, a PNG is decoded to its end.
        plain_png = image.format == "PNG" and content is not None and not _may_be_turned(content)
        if image.format == "TIFF":
            image.load()
        swapped = not plain_png and _turn(image) in _SWAPPING
        self._width, self._height = image.size[::-1] if swapped else image.size

    def picture(self) -> Picture:
        return Picture(self._name, self._height, self._width, self.load, self._is_jpeg)

    def load(self, shrink: int, _: _Pixels | None) -> _Pixels:
        with _told(self._name):
            image = self._image
            if self._content is None:
                assert image is not None
                return _array(image, self._background)
            self._image = None  # a file's pixels are decoded once; a second call opens it again
            image = image or _open(self._content)
            with image:
                if self._is_jpeg:
                    jpeg.draft(image, shrink)
                return _array(image, self._background)


def _opened(
    content: bytes, name: str, background: tuple[int, int, int], max_pixels: int
) -> _Opened:
    with _told(name):
        return _Opened(_open(content), name, background, max_pixels, content)


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=FORMATS)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what Pillow raises into one sentence."""
    try:
        with warnings.catch_warnings():
            # Warnings are about metadata; sizes are checked here, broken pixels raise.
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError as error:  # its own text holds an address of this process
        raise BrokenSample(
            NO_IMAGE, f"{name} can't be read: it is none of {', '.join(FORMATS)}."
        ) from error
    except _BROKEN as error:
        bomb = isinstance(error, Image.DecompressionBombError)
        reason = str(error) or type(error).__name__
        raise BrokenSample(
            TOO_LARGE if bomb else DAMAGED, f"{name} can't be read as an image ({reason})."
        ) from error


def _name(image: ImageLike) -> str:
    if isinstance(image, str | os.PathLike):
        return str(image)
    if isinstance(image, bytes):
        return f"Image of {len(image)} bytes"
    if isinstance(image, Image.Image):
        return f"PIL image of mode {image.mode}"
    raise BrokenSample(
        NO_IMAGE,
        f"A {type(image).__name__} is not an image; give a path, bytes of an image file, "
        "an h x w x 3 uint8 array or a PIL image.",
    )


def file_content(path: Path, name: str) -> bytes:
    """Return the bytes of an image file. Raises BrokenSample where it can't be read."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # a pipe or a device might never end
            raise OSError("it is not a plain file")
        if facts.st_size > _MAX_FILE:
            raise BrokenSample(
                TOO_LARGE, f"{name} has {facts.st_size:,} bytes; up to {_MAX_FILE:,} are read."
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = str(error)
        raise BrokenSample(UNREADABLE, f"{name} can't be read as an image ({reason}).") from error


def _from_array(image: np.ndarray, max_pixels: int) -> Picture:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BrokenSample(
            NO_IMAGE, f"An image array must be h x w x 3 uint8, not {image.shape} {image.dtype}."
        )
    height, width = image.shape[:2]
    name = f"Image array {image.shape}"
    _check_size(name, width, height, max_pixels)
    return Picture(name, height, width, lambda *_: np.array(image, order="C"), shrinks=False)


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1 or width * height > max_pixels:
        raise BrokenSample(
            TOO_LARGE if width > 0 and height > 0 else DAMAGED,
            f"{name} has {width} x {height} pixels; between 1 and {max_pixels:,} are read.",
        )


def _may_be_turned(png: bytes) -> bool:
    return any(word in png for word in _TURNING)


def _array(image: Image.Image, background: tuple[int, int, int]) -> _Pixels:
    image.load()
    turn = _turn(image)
    upright = image if turn is None else image.transpose(turn)
    return np.array(_rgb(upright, background))


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
