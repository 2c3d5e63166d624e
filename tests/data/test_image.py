"""Every kind of picture ends as the right colours; every broken one as a sentence."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from lift.data import image as image_module
from lift.data.image import FORMATS, decode, picture
from lift.errors import BrokenSample, DataError

RED, BLUE, WHITE = (200, 30, 10), (20, 40, 220), (255, 255, 255)


def saved(image, kind="PNG", **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def pixel(image, x=0, y=0, **more):
    return tuple(decode(image, **more)[:, y, x].tolist())


def two(mode, first, second, size=(4, 3)):
    """Return an image whose left pixel column is `first`, the rest `second`."""
    image = Image.new(mode, size, second)
    image.paste(first, (0, 0, 1, size[1]))
    return image


def both(source):
    """Return the image itself and the file it makes, where PNG can hold it."""
    return [source] if source.mode == "I" else [source, saved(source)]


# --- modes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode, first, second, expected",
    [
        ("1", 0, 1, ((0, 0, 0), WHITE)),
        ("L", 7, 130, ((7,) * 3, (130,) * 3)),
        ("LA", (100, 255), (100, 0), ((100,) * 3, WHITE)),
        ("LA", (100, 51), (0, 128), ((224,) * 3, (127,) * 3)),
        ("RGB", RED, BLUE, (RED, BLUE)),
        ("RGBA", (*RED, 255), (*RED, 0), (RED, WHITE)),
        ("RGBA", (200, 0, 0, 51), BLUE, ((244, 204, 204), BLUE)),
        ("I;16", 257 * 90, 65535, ((90,) * 3, WHITE)),
        ("I", 257 * 90, 0, ((90,) * 3, (0, 0, 0))),
    ],
)
def test_modes_that_png_can_hold(mode, first, second, expected):
    for source in both(two(mode, first, second)):
        got = decode(source)
        assert got.shape == (3, 3, 4) and got.dtype == torch.uint8 and got.is_contiguous()
        for place, colour in zip((0, 3), expected, strict=True):
            assert np.abs(np.subtract(pixel(source, place), colour)).max() <= 1, (mode, place)


def test_float_grey():
    assert pixel(Image.new("F", (2, 2), 0.5)) == (128,) * 3
    assert pixel(Image.new("F", (2, 2), 130.4)) == (130,) * 3
    assert pixel(saved(Image.new("F", (2, 2), 0.25), "TIFF")) == (64,) * 3
    with pytest.raises(DataError, match="not finite"):
        decode(Image.new("F", (2, 2), float("nan")))


def test_integers_beyond_the_range_are_clipped():
    values = np.array([[-5, 70_000]], dtype=np.int32)
    assert decode(Image.fromarray(values))[0].tolist() == [[0, 255]]


def test_palettes():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE, 0, 0, 0])
    image.putpixel((1, 0), 1)
    for source in both(image):
        assert pixel(source) == RED and pixel(source, 1) == BLUE
    gif = saved(image, "GIF", transparency=1)
    assert pixel(gif) == RED and pixel(gif, 1, background=(1, 2, 3)) == (1, 2, 3)
    by_bytes = saved(image, "PNG", transparency=bytes([255, 51]))
    assert pixel(by_bytes) == RED
    expected = [51 / 255 * c + 204 / 255 * 255 for c in BLUE]
    assert np.abs(np.subtract(pixel(by_bytes, 1), expected)).max() <= 1


@pytest.mark.parametrize("mode, key", [("RGB", RED), ("L", 90)])
def test_a_colour_that_stands_for_transparent(mode, key):
    image = two(mode, key, BLUE if mode == "RGB" else 10)
    content = saved(image, "PNG", transparency=key)
    assert pixel(content, background=(9, 8, 7)) == (9, 8, 7)
    assert pixel(content, 3) == (BLUE if mode == "RGB" else (10,) * 3)


def test_premultiplied_and_padded_modes():
    clear = Image.new("RGBA", (2, 2), (200, 0, 0, 51))
    assert np.abs(np.subtract(pixel(clear.convert("RGBa")), (244, 204, 204))).max() <= 3
    assert pixel(Image.new("LA", (1, 1), (80, 0)).convert("La")) == WHITE
    assert pixel(Image.new("RGBX", (2, 2), (*RED, 0))) == RED
    palette = Image.new("P", (2, 2)).convert("PA")
    assert decode(palette).shape == (3, 2, 2)


def test_cmyk():
    cyan_magenta_yellow_black = (0, 255, 255, 0)
    image = Image.new("CMYK", (16, 16), cyan_magenta_yellow_black)
    assert pixel(image) == (255, 0, 0)
    half = Image.new("CMYK", (16, 16), (0, 0, 0, 128))
    for source in (half, saved(half, "JPEG", quality=100), saved(half, "TIFF")):
        assert np.abs(np.subtract(pixel(source), 127)).max() <= 2


def test_ycbcr_and_hsv():
    """JFIF's formula: R = Y + 1.402 (Cr - 128), ..."""
    y, cb, cr = 100, 90, 180
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    got = pixel(Image.new("YCbCr", (8, 8), (y, cb, cr)))
    assert np.abs(np.subtract(got, (red, green, blue))).max() <= 1
    assert pixel(Image.new("HSV", (2, 2), (85, 255, 255)))[1] == 255


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"])
def test_formats(kind, tmp_path):
    image = Image.new("RGB", (16, 12), (200, 30, 10))
    content = saved(image, kind)
    path = tmp_path / "picture"
    path.write_bytes(content)
    for source in (content, path, str(path)):
        got = decode(source)
        assert got.shape == (3, 12, 16)
        assert np.abs(np.subtract(tuple(got[:, 5, 5].tolist()), RED)).max() <= 4


# --- which way is up ----------------------------------------------------------------------------


def oriented(orientation):
    """Return an upright array and a PNG that stores it turned, as cameras do.

    What row 0 and column 0 of the stored picture are, in the upright one, is the definition:
    6 means "row 0 is the right side, column 0 the top".
    """
    upright = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3)
    sides = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }  # fmt: skip
    first_row, first_column = sides[orientation]
    stored = upright
    if "right" in (first_row, first_column):
        stored = stored[:, ::-1]
    if "bottom" in (first_row, first_column):
        stored = stored[::-1]
    if first_row in ("left", "right"):
        stored = stored.transpose(1, 0, 2)
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return upright, image, exif.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright, image, exif = oriented(orientation)
    for kind in ("PNG", "TIFF"):
        content = saved(image, kind, exif=exif)
        assert np.array_equal(decode(content).permute(1, 2, 0).numpy(), upright), kind
    opened = Image.open(io.BytesIO(saved(image, "PNG", exif=exif)))
    assert np.array_equal(decode(opened).permute(1, 2, 0).numpy(), upright)
    assert opened.size == image.size, "the caller's own image was turned"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg_that_is_decoded_smaller(orientation):
    _, _, exif = oriented(orientation)
    image = two("RGB", RED, BLUE, (64, 32)).resize((640, 320), Image.Resampling.NEAREST)
    got = decode(saved(image, "JPEG", exif=exif), at_least=40)
    assert sorted(got.shape[1:]) == [40, 80]
    assert (got.shape[1] > got.shape[2]) == (orientation >= 5)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 50]
)
def test_damaged_exif_says_nothing_about_the_pixels(exif):
    image = Image.new("RGB", (16, 16), RED)
    got = pixel(saved(image, "JPEG", exif=exif, quality=95))
    assert np.abs(np.subtract(got, RED)).max() <= 4


def test_an_orientation_that_does_not_exist():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert pixel(saved(Image.new("RGB", (2, 1), RED), "PNG", exif=exif.tobytes())) == RED


# --- animations, smaller decoding, arrays -------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, (0, 255, 0))]
    more = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **more)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.n_frames == 3
    assert np.abs(np.subtract(pixel(content), RED)).max() <= 2


@pytest.mark.parametrize(
    "at_least, expected", [(None, 600), (400, 600), (300, 300), (151, 300), (150, 150), (20, 75)]
)
def test_a_jpeg_may_be_decoded_smaller(at_least, expected):
    content = saved(Image.new("RGB", (900, 600), RED), "JPEG")
    got = decode(content, at_least=at_least)
    assert got.shape == (3, expected, math.ceil(expected * 3 / 2))
    whole = decode(Image.open(io.BytesIO(content)), at_least=at_least)
    assert whole.shape == (3, 600, 900), "an image of the caller's is not touched"


def test_arrays():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for view in (array, array[::-1], array[:, ::2], np.asfortranarray(array)):
        got = decode(view)
        assert np.array_equal(got.permute(1, 2, 0).numpy(), view) and got.is_contiguous()
    got = decode(array)
    got.zero_()
    assert array.any(), "the caller's array was written to"
    for wrong in (array[..., 0], array.astype(float), array[:0], array[..., :2]):
        with pytest.raises(DataError, match="h x w x 3 uint8"):
            decode(wrong)
    with pytest.raises(DataError, match="between 1 and 30 are read"):
        decode(array, max_pixels=30)


# --- a picture that is not decoded yet ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_known_upright(kind, orientation):
    _, _, exif = oriented(orientation)
    content = saved(Image.new("RGB", (50, 30), RED), kind, exif=exif)
    opened = picture(content)
    assert (opened.height, opened.width) == ((50, 30) if orientation >= 5 else (30, 50))
    assert opened.pixels().shape == (3, opened.height, opened.width)
    assert torch.equal(opened.pixels(), decode(content)), "a second call gives the same"
    from_pil = picture(Image.open(io.BytesIO(content)))
    assert (from_pil.height, from_pil.width) == (opened.height, opened.width)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TGA"])
def test_only_headers_are_read_for_the_size(kind, monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    content = saved(Image.new("RGB", (50, 30), RED), kind)
    with Image.open(io.BytesIO(content)) as opened:
        monkeypatch.setattr(type(opened), "load", load)
    assert (picture(content).height, picture(content).width) == (30, 50)


def test_orientation_behind_the_pixels_of_a_png():
    upright, image, exif = oriented(6)
    content = saved(image, exif=exif)
    start = content.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    opened = picture(moved)
    assert (opened.height, opened.width) == upright.shape[:2]
    assert np.array_equal(opened.pixels().permute(1, 2, 0).numpy(), upright)


@pytest.mark.parametrize("shrink, size", [(1, (601, 903)), (2, (301, 452)), (8, (76, 113))])
def test_a_jpeg_is_decoded_at_a_fraction_and_others_in_full(shrink, size):
    image = Image.new("RGB", (903, 601), RED)
    for options in ({}, {"exif": oriented(3)[2]}):
        opened = picture(saved(image, "JPEG", quality=95, **options))
        got = opened.pixels(shrink)
        assert got.shape == (3, *size) and (opened.height, opened.width) == (601, 903)
        assert np.abs(np.subtract(got[:, -1, -1].tolist(), RED)).max() <= 4
        assert opened.pixels().shape == (3, 601, 903), "a later call decodes in full"
    for other in (saved(image), saved(image, "WEBP"), image, np.asarray(image)):
        assert picture(other).pixels(shrink).shape == (3, 601, 903)
    small = picture(saved(image.resize((50, 7)), "JPEG"))
    assert small.pixels(8).shape == (3, 7, 50), "a side below the fraction"
    with pytest.raises(ValueError, match="one of"):
        small.pixels(3)


def test_pixels_lie_side_by_side_in_memory_of_their_own():
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    grey = image.convert("L")
    for source in (array, image, saved(image), saved(image, "JPEG"), saved(grey, "JPEG")):
        opened = picture(source)
        first = opened.pixels()
        assert first.permute(1, 2, 0).is_contiguous()
        kept = first.clone()
        first.zero_()
        assert torch.equal(opened.pixels(), kept)
    assert array.any() and np.asarray(image).any(), "the caller's pixels were written to"


def test_pixels_in_given_memory():
    array = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    turned = saved(image, "JPEG", exif=oriented(6)[2])
    for source in (array, image, saved(image), saved(image, "JPEG"), turned):
        for shrink in (1, 2):
            opened = picture(source)
            wanted = opened.pixels(shrink)
            assert wanted.shape[1:] == opened.size(shrink)
            room = torch.full((wanted.numel() + 5,), 77, dtype=torch.uint8)
            got = opened.pixels(shrink, out=room)
            assert torch.equal(got, wanted) and got.data_ptr() == room.data_ptr()
            assert room[-5:].tolist() == [77] * 5
            assert torch.equal(room[:-5].view(*opened.size(shrink), 3).permute(2, 0, 1), wanted)
    with pytest.raises(RuntimeError):
        picture(saved(image, "JPEG")).pixels(out=torch.zeros(100, dtype=torch.uint8))


def test_a_size_that_is_not_what_was_announced(monkeypatch):
    """Should a reader ever do this, shapes would not fit the crop that was drawn."""
    opened = picture(np.zeros((4, 6, 3), dtype=np.uint8))
    opened.height = 5
    with pytest.raises(BrokenSample, match="6 x 5 pixels are announced, 6 x 4 are there"):
        opened.pixels()


# --- broken on purpose --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"Image of \d+ bytes can't be read"):
        decode(content[: int(share * len(content))])


def test_a_damaged_avif_ends_in_pixels_or_a_sentence():
    """Its reader raises RuntimeError where the colours are spoiled."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(noise), "AVIF")
    sentences = []
    for place in range(0, len(whole), 20):
        content = bytearray(whole)
        content[place : place + 20] = b"\xff" * len(content[place : place + 20])
        try:
            assert decode(bytes(content)).shape[0] == 3
        except DataError as error:
            sentences.append(str(error))
    assert any("color planes failed" in sentence for sentence in sentences)


def test_spoiled_bytes_end_in_pixels_or_a_sentence():
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    refused = 0
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"):
        whole = saved(Image.fromarray(noise), kind)
        for _ in range(60):
            content = bytearray(whole)
            for place in rng.integers(0, min(len(content), 200), 3):
                content[place] = rng.integers(256)
            try:
                assert decode(bytes(content)).shape[0] == 3
            except DataError:
                refused += 1
    assert refused > 50


def png_of_size(width, height):
    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
def test_bombs_are_refused_before_they_are_decoded(side):
    with pytest.raises(DataError, match=r"between 1 and 89,478,485|decompression bomb"):
        decode(png_of_size(side, side))
    with pytest.raises(DataError, match="30 x 30 pixels; between 1 and 899 are read"):
        decode(saved(Image.new("RGB", (30, 30))), max_pixels=899)


@pytest.mark.parametrize("content", [b"hello", b"\0" * 500, b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image(content, tmp_path):
    with pytest.raises(DataError, match=f"Image of {len(content)} bytes can't be read") as caught:
        decode(content)
    assert " at 0x" not in str(caught.value)  # equal errors have equal sentences
    assert caught.value.kind == "not an image"
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.jpg can't be read: it is none of JPEG"):
        decode(path)
    assert "EPS" not in FORMATS


def kind_of(image, **more):
    with pytest.raises(BrokenSample) as caught:
        picture(image, **more).pixels()
    return caught.value.kind


def test_kinds(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = {kind: saved(Image.fromarray(noise), kind) for kind in ("JPEG", "PNG", "WEBP")}
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert kind_of(b"") == kind_of(empty) == "empty file"
    assert kind_of(b"<html>") == kind_of([1]) == kind_of(noise[0]) == "not an image"
    for content in whole.values():
        assert kind_of(content[: len(content) // 2]) == "truncated or damaged image"
        assert kind_of(content, max_pixels=4095) == "image too large"
    assert kind_of(png_of_size(60_000, 60_000)) == "image too large"
    assert kind_of(noise, max_pixels=4095) == "image too large"
    for path in (tmp_path, tmp_path / "gone.jpg", "with\0nul"):
        assert kind_of(path) == "unreadable file"


def test_a_wrong_extension_is_no_matter(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(saved(Image.new("RGB", (3, 2), RED)))
    assert pixel(path) == RED


def test_a_pipe_or_an_enormous_file_is_not_read(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)  # opening it would wait for ever
    with pytest.raises(BrokenSample, match=r"pipe\.jpg .*not a plain file"):
        decode(pipe)
    monkeypatch.setattr(image_module, "_MAX_FILE", 1000)
    enormous = tmp_path / "x.png"
    enormous.write_bytes(b"\0" * 1001)
    with pytest.raises(BrokenSample, match="has 1,001 bytes; up to 1,000 are read"):
        decode(enormous)


def test_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg can't be read as an image"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="A list is not an image; give a path"):
        decode([1, 2])
    with pytest.raises(DataError, match="can't be read"):
        decode(str(tmp_path))


def test_warnings_about_metadata_do_not_cost_the_image():
    """A damaged index of further pictures (MPF) makes Pillow warn; the pixels are sound."""
    plain = saved(Image.new("RGB", (16, 16), RED), "JPEG", quality=95)
    index = b"MPF\0 no index at all "
    content = plain[:2] + b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index + plain[2:]
    with (
        pytest.warns(UserWarning, match="malformed MPO"),
        Image.open(io.BytesIO(content)) as opened,
    ):
        opened.load()
    assert pixel(content) == pixel(plain)
