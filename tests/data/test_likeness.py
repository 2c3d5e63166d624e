"""Looks: copies of real photos are near, other photos are far, and the size changes nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lift.data.image import picture
from lift.data.likeness import ALIKE_BITS, differing_bits, file_hash, look_at, look_of
from lift.data.source import open_source

COPIES = 150


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def look(content: bytes) -> int:
    return look_at(picture(content))


def _half(image: Image.Image) -> bytes:
    return jpeg(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC))


def _squashed(image: Image.Image) -> bytes:
    return jpeg(image.resize((200, 150), Image.Resampling.LANCZOS))


def _cropped(image: Image.Image) -> bytes:
    across, down = round(image.width * 0.025), round(image.height * 0.025)
    return jpeg(image.crop((across, down, image.width - across, image.height - down)))


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> list[bytes]:
    source = open_source(str(shared_data / "flickr8k" / "train-0000.tar"))
    return [source.read(number).image for number in range(COPIES)]


def bits_of_copies(photos: list[bytes], copy: Callable[[Image.Image], bytes]) -> np.ndarray:
    ours = np.array([look(content) for content in photos])
    theirs = [look(copy(Image.open(io.BytesIO(c)).convert("RGB"))) for c in photos]
    return np.bitwise_count((ours ^ np.array(theirs)).view(np.uint64))


@pytest.mark.parametrize("copy", [lambda i: jpeg(i, 75), lambda i: jpeg(i, 40), _half, _squashed])
def test_photos_saved_again_or_resized_look_the_same(photos: list[bytes], copy) -> None:
    bits = bits_of_copies(photos, copy)
    assert np.median(bits) <= 1 and bits.max() <= ALIKE_BITS - 1, bits.max()


def test_most_photos_that_lost_their_edges_look_the_same(photos: list[bytes]) -> None:
    bits = bits_of_copies(photos, _cropped)
    assert 0.5 < (bits <= ALIKE_BITS).mean() < 0.9 and bits.max() <= 16


def test_distinct_photos_do_not_collide(shared_data: Path) -> None:
    source = open_source(str(shared_data / "flickr8k" / "train-000{0,1,2,3}.tar"))
    looks = np.array([look(source.read(number).image) for number in range(len(source))])
    assert len(looks) == 2600
    near = [differing_bits(looks[i : i + 1], looks[i + 1 :])[0] for i in range(len(looks))]
    assert min(near) > ALIKE_BITS
    some = looks[:500]
    away = np.bitwise_count((some[:, None] ^ some[None]).view(np.uint64))[np.triu_indices(500, 1)]
    assert 31 < away.mean() < 32.5


def test_a_look_is_the_rise_of_exact_areas() -> None:
    """By hand: each cell is a mean over its part of the picture, fractions of pixels included."""
    pixels = np.random.default_rng(3).integers(0, 256, (13, 20, 3), np.uint8)
    grey = pixels @ np.array((0.299, 0.587, 0.114))
    fine = np.kron(grey, np.ones((8, 9)))  # 8 x 9 pixels for each: cells end between pixels
    cells = fine.reshape(8, 13, 9, 20).mean(axis=(1, 3))
    bits = np.diff(cells, axis=1) > 0.5
    expected = int(np.packbits(bits).view(np.int64)[0])
    assert look_of(torch.from_numpy(pixels).permute(2, 0, 1)) == expected
    larger = np.kron(pixels, np.ones((3, 2, 1), np.uint8))
    assert look_of(torch.from_numpy(larger).permute(2, 0, 1)) == expected


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (33, 64), (640, 480)])
def test_a_plain_ground_has_no_bits_at_any_size(size: tuple[int, int]) -> None:
    assert look(jpeg(Image.new("RGB", size, (255, 254, 250)))) == 0


def test_the_nearest_of_many_is_found() -> None:
    dice = np.random.default_rng(0)
    one = dice.integers(-(2**63), 2**63 - 1, 40)
    other = dice.integers(-(2**63), 2**63 - 1, 70_000)  # more than one block
    other[69_999] = one[7] ^ 0b1011
    other[3] = one[8]
    found = differing_bits(one, other)
    naive = [bin((int(one[i]) ^ int(b)) % 2**64).count("1") for i in (0, 1) for b in other[:500]]
    assert found[7] == 3 and found[8] == 0
    assert found[0] <= min(naive[:500]) and found[1] <= min(naive[500:])
    assert np.array_equal(
        differing_bits(one[:2], other[:500]), [min(naive[:500]), min(naive[500:])]
    )
    assert differing_bits(one, other[:0]).tolist() == [64] * 40


def test_files_are_equal_where_their_bytes_are() -> None:
    assert file_hash(b"a") == file_hash(b"a") != file_hash(b"b")
    assert 0 < min(map(file_hash, (b"", b"a"))) and max(map(file_hash, (b"", b"a"))) < 2**63
