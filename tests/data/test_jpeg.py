"""The fast decoder gives Pillow's pixels and Pillow's errors, or leaves the file to Pillow."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from lift.data import jpeg
from lift.data.image import picture
from lift.errors import BrokenSample

pytest.importorskip("simplejpeg")

QUALITIES = (30, 50, 75, 90, 95, 100)
SIZES = ((1, 1), (1, 50), (50, 1), (2, 2), (7, 3), (8, 9), (16, 16), (33, 17), (96, 128), (97, 131))
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:1:1")


def scene(height, width, seed=0):
    """Return smooth colours, edges and noise [h w 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None]
    waves = 90 * np.sin(x / rng.uniform(3, 30, 3) + y / rng.uniform(3, 30, 3)) + 120
    edges = 60 * ((x // 11 + y // 7) % 2)
    noise = rng.normal(0, 25, (height, width, 3))
    return (waves + edges + noise).clip(0, 255).astype(np.uint8)


def saved(pixels, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def outcome(content, shrink):
    """Return size and pixels, or kind and sentence."""
    try:
        opened = picture(content)
        return (opened.height, opened.width), opened.pixels(shrink)
    except BrokenSample as error:
        return error.kind, str(error)


@pytest.fixture
def equal(monkeypatch):
    """Return a function: is the outcome the same as Pillow's alone (checked), and was it fast?"""

    def check(content, shrink=1):
        fast = jpeg.plain(content) is not None
        ours = outcome(content, shrink)
        with monkeypatch.context() as without:
            without.setattr(jpeg, "decoder", lambda: None)
            theirs = outcome(content, shrink)
        assert ours[0] == theirs[0]
        if isinstance(theirs[1], str):
            assert ours[1] == theirs[1]
        else:
            assert torch.equal(ours[1], theirs[1])
        return fast

    return check


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(content, *segments):
    return content[:2] + b"".join(segments) + content[2:]


def tiff(tag=0x0112, kind=3, count=1, value=1, order="<", entries=1):
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHI", tag, kind, count)
    entry += struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
    return b"Exif\0\0" + head + struct.pack(order + "IH", 8, entries) + entry * entries + b"\0" * 4


# --- the same pixels ----------------------------------------------------------------------------


def test_simplejpeg_is_used_here():
    assert jpeg.decoder() is not None and jpeg.decoder_name().startswith("simplejpeg")


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_plain_jpeg(subsampling, progressive, equal):
    whole = scene(97, 131)
    for quality in QUALITIES:
        for number, (height, width) in enumerate(SIZES):
            more = {"restart_marker_blocks": 3} if number % 2 else {}
            content = saved(
                whole[:height, :width],
                subsampling=subsampling,
                progressive=progressive,
                quality=quality,
                **more,
            )
            for shrink in jpeg.SHRINKS:
                assert equal(content, shrink)


def test_grey_and_colours_kept_as_rgb(equal):
    for height, width in SIZES:
        for options in ({}, {"progressive": True}):
            grey = saved(scene(height, width), "L", **options)
            stored_rgb = saved(scene(height, width), keep_rgb=True, **options)
            for shrink in jpeg.SHRINKS:
                assert equal(grey, shrink) and equal(stored_rgb, shrink)


def test_4_4_0(equal):
    import simplejpeg

    for height, width in SIZES[4:]:
        pixels = np.ascontiguousarray(scene(height, width))
        content = simplejpeg.encode_jpeg(pixels, quality=80, colorsubsampling="440")
        for shrink in jpeg.SHRINKS:
            assert equal(content, shrink)


def test_real_photos(shared_data, equal):
    folder = shared_data / "coco-sugarcrepe-mini" / "images"
    photos = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    with tarfile.open(shared_data / "flickr8k" / "val-0000.tar") as shard:
        names = [name for name in shard.getnames() if name.endswith(".jpg")][:25]
        photos += [shard.extractfile(name).read() for name in names]
    fast = Counter(equal(photo, shrink) for photo in photos for shrink in jpeg.SHRINKS)
    assert len(photos) == 64 and fast[True] > 0.95 * fast.total()


@pytest.mark.parametrize("transform", [0, 1, 2, 7])
def test_what_adobe_says_of_colours(transform, equal):
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
    for pixels, mode in ((scene(40, 50), "RGB"), (scene(40, 50), "L")):
        for options in ({}, {"keep_rgb": True}) if mode == "RGB" else ({},):
            content = saved(pixels, mode, **options)
            equal(with_segments(content, adobe))
            equal(with_segments(content.replace(b"JFIF", b"JFXX"), adobe))


def test_a_progressive_file_that_lacks_its_last_scans(equal):
    """libjpeg smooths what is missing, by rules that changed between its versions."""
    content = saved(scene(97, 131), progressive=True)
    scans = [i for i in range(len(content)) if content[i : i + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for place in scans[1:]:
        for shrink in jpeg.SHRINKS:
            equal(content[:place] + b"\xff\xd9", shrink)


# --- left to Pillow -----------------------------------------------------------------------------


def test_harmless_metadata_is_no_hindrance(equal):
    content = saved(scene(20, 30))
    for more in (
        segment(0xFE, b"a comment"),
        segment(0xE1, tiff()),
        segment(0xE1, tiff(order=">")),
        segment(0xE1, tiff(tag=0x0110, kind=4, value=6)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        segment(0xE2, b"ICC_PROFILE\0\1\1" + b"profile" * 20),
        segment(0xEC, b"Ducky"),
    ):
        assert equal(with_segments(content, more)), more


@pytest.mark.parametrize(
    "marker, body",
    [
        (0xE1, tiff(value=6)),
        (0xE1, tiff(value=6, order=">")),
        (0xE1, tiff(kind=4)),
        (0xE1, tiff(count=2)),
        (0xE1, tiff()[:-8]),
        (0xE1, tiff(entries=2).replace(b"\2\0\x12", b"\xff\xff\x12")),
        (0xE1, b"Exif\0\0" + b"\xff" * 40),
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'),
        (0xE0, b"JFIF\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0" + b"\0" * 30),
        (0xE2, b"FPXR\0"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM\0\0"),
        (0xDC, b"\0\0"),
        (0xCC, b"\0\x10"),
    ],
    ids=str,
)
def test_what_pillow_might_see_differently(marker, body, equal):
    assert not equal(with_segments(saved(scene(20, 30)), segment(marker, body)))


def test_exif_data_in_two_blocks(equal):
    """Pillow joins them; the second could turn what the first does not."""
    blocks = segment(0xE1, tiff()[:12]), segment(0xE1, b"Exif\0\0" + tiff()[12:])
    assert not equal(with_segments(saved(scene(20, 30)), *blocks))
    assert not equal(with_segments(saved(scene(20, 30)), segment(0xE1, tiff()) * 2))


def test_unusual_frames(equal):
    content = saved(scene(20, 30))
    frame = content.index(b"\xff\xc0")
    assert not equal(saved(scene(20, 30), "CMYK"))
    for offset, value in ((4, 12), (5, 0), (9, 4), (9, 2), (11, 0x31), (11, 0x24), (14, 0x21)):
        changed = bytearray(content)
        changed[frame + offset] = value
        if offset == 5:
            changed[frame + 6] = 0
        assert not equal(bytes(changed)), (offset, value)
    for kind in (0xC3, 0xC9, 0xCA):  # lossless; arithmetic coding
        changed = bytearray(content)
        changed[frame + 1] = kind
        assert not equal(bytes(changed))
    assert not equal(content[:frame] + content[frame : frame + 19] * 2 + content[frame + 19 :])


def test_few_segments_are_looked_at(equal):
    content = saved(scene(20, 30))
    assert equal(with_segments(content, *[segment(0xFE, b"x")] * 40))
    assert not equal(with_segments(content, *[segment(0xFE, b"x")] * 100))


@pytest.mark.parametrize("progressive", [False, True])
def test_cut_off_files_and_bytes_behind_them(progressive, equal):
    content = saved(scene(97, 131), progressive=progressive)
    for end in range(0, len(content), len(content) // 23):
        equal(content[:end])
        equal(content[:end] + b"\xff\xd9")
    equal(content + b"something else")
    equal(content + content)
    with pytest.raises(BrokenSample, match="truncated"):
        picture(content[: len(content) // 2]).pixels()


def test_spoiled_bytes(equal):
    """Ran over 46,000 such files: no difference (2026-11)."""
    originals = [
        saved(scene(41, 57)),
        saved(scene(41, 57), progressive=True, subsampling=0),
        saved(scene(41, 57), "L"),
        saved(scene(41, 57), restart_marker_blocks=2),
        with_segments(saved(scene(41, 57)), segment(0xE1, tiff())),
    ]
    rng = np.random.default_rng(0)
    fast = Counter()
    for number in range(600):
        content = bytearray(originals[number % len(originals)])
        place = int(rng.integers(2, len(content) if number % 3 else 650))
        junk = bytes(rng.integers(0, 256, int(rng.integers(1, 5)), dtype=np.uint8))
        content[place : place + int(rng.integers(0, 3)) * 2] = junk
        fast[equal(bytes(content), int(rng.choice(jpeg.SHRINKS)))] += 1
    assert min(fast[True], fast[False]) > 60


# --- the two libraries --------------------------------------------------------------------------


@pytest.fixture
def fresh():
    jpeg.decoder.cache_clear()
    yield
    jpeg.decoder.cache_clear()


@pytest.mark.parametrize("broken", ["full", "half", "raises"])
def test_libraries_that_differ_switch_it_off(broken, fresh, monkeypatch):
    import simplejpeg

    real = simplejpeg.decode_jpeg

    def decode(content, colours, **options):
        if broken == "raises":
            raise ValueError("no")
        found = real(content, colours, **options)
        if ("min_factor" in options) == (broken == "half"):
            found[-1, -1, 2] ^= 1
        return found

    content = saved(scene(20, 30))
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    assert jpeg.decoder() is None and jpeg.plain(content) is None
    assert jpeg.decoder_name().startswith("Pillow")
    with Image.open(io.BytesIO(content)) as opened:
        wanted = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    assert torch.equal(picture(content).pixels(), wanted)


def test_without_simplejpeg(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert jpeg.decoder() is None and jpeg.pixels(b"", jpeg.Plain(1, 1), 1) is None
    assert picture(saved(scene(20, 30))).pixels(2).shape == (3, 10, 15)


def test_it_is_loaded_when_a_jpeg_is_met():
    code = "import sys, lift.data.image; assert 'simplejpeg' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
