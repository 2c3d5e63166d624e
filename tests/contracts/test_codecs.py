"""What every file in `cache/codecs/` promises."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from lift import plugins
from lift.cache.codecs._rotation import Rotation, dct
from lift.config import part
from lift.errors import CacheError, ConfigError

ROOM = "cache/codecs"
NAMES = plugins.names(ROOM)
WIDTHS = (1, 3, 24, 384, 511)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def half(width: int) -> int:
    return (width + 1) // 2


def build(name: str, width: int, **options):
    if name == "prefix":
        options = {"dimensions": half(width), **options}
    return plugins.build(part(ROOM, name, **options), width)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=WIDTHS)
def codec(request, name):
    return build(name, request.param)


def rows_like(kind: str, width: int, count: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, width)).astype(np.float32)
    scale = {"large": 1_000, "tiny": 1e-7, "subnormal": 1e-40, "zero": 0}
    if kind == "unit":
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if kind == "one value":  # all of a row's weight in one place
        return np.eye(width, dtype=np.float32)[rng.integers(0, width, count)]
    if kind == "constant":
        return np.full_like(rows, 0.3)
    return rows * np.float32(scale[kind])


def there_and_back(codec, rows):
    return codec.decode(codec.stored(codec.encode(rows)))


KINDS = ["unit", "large", "tiny", "subnormal", "zero", "one value", "constant"]


def test_is_named_as_its_file_and_knows_its_width(codec, name):
    assert codec.name == name and codec.dimensions in WIDTHS


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_is_within_the_declared_error(codec, kind):
    rows = rows_like(kind, codec.dimensions)
    column = codec.encode(rows)
    assert column.type == codec.type and len(column) == 50 and column.null_count == 0
    decoded = codec.decode(codec.stored(column))
    assert decoded.dtype == np.float32 and decoded.shape == rows.shape
    bound = codec.bound(rows)
    assert bound.dtype == np.float32 and bound.shape == rows.shape
    assert (np.abs(decoded - rows) <= bound).all()
    if codec.exact:
        assert np.array_equal(decoded, rows)
    if kind == "zero":
        assert not decoded.any()


@pytest.mark.parametrize("kind", ["unit", "large", "constant"])
def test_length_of_a_row_stays_within_its_declared_error(name, kind):
    for width in (24, 384, 511):
        codec = build(name, width)
        rows = rows_like(kind, width)
        ratio = np.linalg.norm(there_and_back(codec, rows), axis=1) / np.linalg.norm(rows, axis=1)
        assert np.abs(ratio - 1).max() <= codec.length_error + 1e-6


def test_declared_error_is_not_idle(codec):
    rows = rows_like("unit", codec.dimensions)
    error = np.abs(there_and_back(codec, rows) - rows)
    bound = codec.bound(rows)
    if codec.exact:
        assert not bound.any()
    elif codec.dimensions > 1:  # one value: its own scale says it all
        assert (error / bound).max() > (0.35 if codec.name in ("int4", "binary") else 0.8)
        assert (codec.bound(rows[:1] * 1_000) > 100 * codec.bound(rows[:1])).all()


@pytest.mark.parametrize(
    ("name", "least"),
    [("float16", 0.9999999), ("int8", 0.9999), ("int4", 0.9945), ("binary", 0.79)],
)
def test_rows_keep_their_direction(name, least):
    rows = rows_like("unit", 384, 500)
    decoded = there_and_back(build(name, 384), rows)
    cosines = (rows * decoded).sum(1) / np.linalg.norm(decoded, axis=1)
    assert least < cosines.mean() and (cosines.mean() < 0.99999 or name == "float16")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("float32", lambda d: 4 * d),
        ("float16", lambda d: 2 * d),
        ("int8", lambda d: d + 4),
        ("int4", lambda d: (d + 1) // 2 + 4),
        ("binary", lambda d: (d + 7) // 8 + 4),
        ("prefix", lambda d: 2 * half(d)),
    ],
)
def test_bytes_of_a_row(name, size):
    for width in WIDTHS:
        codec = build(name, width)
        stored = codec.stored(codec.encode(rows_like("unit", width)))
        assert stored.nbytes == 50 * size(width) and codec.bytes_per_row == size(width)
        assert codec.empty(50).shape == stored.shape and codec.empty(0).dtype == stored.dtype


# The format: what is on somebody's disk has to be read by every later version.
ROW = (np.arange(10, dtype=np.float32)[None] - 4) / 8
GOLDEN = {
    "float32": "000000bf0000c0be000080be000000be000000000000003e0000803e0000c03e0000003f0000203f",
    "float16": "00b800b600b400b0000000300034003600380039",
    "int8": "9ab4cde70019334c667f8542a13b",
    "int4": "424b563378f754c33e",
    "binary": "b83e66216b3e",
    "prefix": "bcba0db9bcb6bcb2",
}


def test_stored_bytes_are_what_they_always_were(name):
    codec = build(name, 10, **({"dimensions": 4} if name == "prefix" else {}))
    assert codec.stored(codec.encode(ROW)).tobytes().hex() == GOLDEN[name]


def rotation_matrix(width: int) -> np.ndarray:
    """Return, as one dense matrix, what `Rotation` does in steps."""
    rotation = Rotation(width)
    whole = np.eye(width)
    for step in rotation._rounds:
        outer, inner = step.outer.numpy(), step.inner.numpy()
        turned = np.einsum("ai,bj->baij", outer, inner).reshape(width, width)
        whole = turned @ np.diag(step.signs.numpy()) @ whole
    return whole


@pytest.mark.parametrize("width", [1, 2, 6, 24, 384, 512, 1022])
def test_the_rotation_is_orthonormal_and_undone(width):
    rotation = Rotation(width)
    x = torch.from_numpy(rows_like("unit", width).astype(np.float64))
    y = rotation.rotate(x)
    np.testing.assert_allclose(y.numpy(), x.numpy() @ rotation_matrix(width).T, atol=1e-12)
    np.testing.assert_allclose(y.norm(dim=1), x.norm(dim=1), atol=1e-12)
    np.testing.assert_allclose(rotation.restore(y), x, atol=1e-12)
    matrix = dct(width)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), atol=1e-12)


def test_rotated_values_of_any_row_are_like_noise():
    for kind in ("one value", "constant", "unit"):
        rows = rows_like(kind, 384).astype(np.float64)
        y = Rotation(384).rotate(torch.from_numpy(rows)).numpy()
        y /= np.sqrt((y * y).mean(axis=1, keepdims=True))
        assert np.abs(y).max() < 5 and abs((y**4).mean() - 3) < 0.4, kind


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", WIDTHS)
def test_decoding_is_what_the_format_says(width, device):
    """Independent of how `decode_on` goes about it: from the bytes, in float64."""
    rows = rows_like("unit", width)
    codec = build("int8", width)
    stored = codec.stored(codec.encode(rows))
    scales = np.ascontiguousarray(stored[:, -4:]).view("<f4").astype(np.float64)
    expected = stored[:, :-4].astype(np.int8) * scales
    on_device = codec.decode_on(torch.from_numpy(stored.copy()).to(device))
    assert on_device.device.type == device
    np.testing.assert_allclose(on_device.cpu().numpy(), expected, rtol=1e-6)
    for name, bits in (("int4", 4), ("binary", 1)):
        codec = build(name, width)
        stored = codec.stored(codec.encode(rows))
        scales = np.ascontiguousarray(stored[:, -4:]).view("<f4").astype(np.float64)
        unpacked = np.unpackbits(stored[:, :-4], axis=1, bitorder="little")
        weights = 1 << np.arange(bits)
        codes = (unpacked.reshape(len(rows), -1, bits) * weights).sum(axis=2)
        levels = np.array(codec._levels)[codes] * scales
        expected = (levels @ rotation_matrix(levels.shape[1]))[:, :width]
        on_device = codec.decode_on(torch.from_numpy(stored.copy()).to(device))
        np.testing.assert_allclose(on_device.cpu().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_decoding_on_a_device_equals_decoding_at_home(codec, device):
    stored = codec.stored(codec.encode(rows_like("unit", codec.dimensions)))
    home = codec.decode(stored)
    with torch.autocast(device, dtype=torch.bfloat16):  # as in a step, where it must not reach
        away = codec.decode_on(torch.from_numpy(stored.copy()).to(device))
    assert away.dtype == torch.float32
    np.testing.assert_allclose(away.cpu().numpy(), home, atol=1e-6 * max(1.0, np.abs(home).max()))


def test_levels_are_the_best_for_a_gaussian():
    """Lloyd's conditions: every level is the mean of the values that are nearest to it."""
    levels = np.array(build("int4", 4)._levels)
    values = np.linspace(-8, 8, 2_000_001)
    density = np.exp(-values * values / 2)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    mass = np.bincount(nearest, density, 16)
    np.testing.assert_allclose(np.bincount(nearest, density * values, 16) / mass, levels, atol=1e-4)
    assert levels[-1] == pytest.approx(2.733, abs=1e-3)


def test_stored_rows_may_be_picked_before_decoding(codec):
    column = codec.encode(rows_like("unit", codec.dimensions))
    stored = codec.stored(column)
    assert not stored.flags.owndata  # a view of Arrow's memory
    picked = codec.decode(stored[[7, 3, 7]])
    np.testing.assert_allclose(picked, codec.decode(stored)[[7, 3, 7]], atol=1e-7)


def test_read_only_memory_stays_as_it_is(codec):
    stored = codec.stored(codec.encode(rows_like("unit", codec.dimensions))).copy()
    stored.flags.writeable = False
    before = stored.copy()
    decoded = codec.decode(stored)
    decoded += 1
    assert np.array_equal(stored, before)


def test_parts_join_and_equal_rows_have_equal_bytes(codec):
    rows = rows_like("unit", codec.dimensions)
    whole = codec.stored(codec.encode(rows))
    joined = pa.concat_arrays([codec.encode(rows[:20]), codec.encode(rows[20:])])
    np.testing.assert_array_equal(codec.stored(joined), whole)
    sliced = codec.encode(rows).slice(10, 5)
    np.testing.assert_array_equal(codec.stored(sliced), whole[10:15])
    twice = build(codec.name, codec.dimensions)
    np.testing.assert_array_equal(twice.stored(twice.encode(rows[::-1])), whole[::-1])


def test_no_rows(codec):
    none = np.zeros((0, codec.dimensions), np.float32)
    assert there_and_back(codec, none).shape == none.shape
    assert codec.bound(none).shape == none.shape


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(codec, value):
    rows = rows_like("unit", codec.dimensions)
    rows[3, -1] = value
    with pytest.raises(CacheError, match=r"1 of 50 rows hold NaN or infinity \(first row 3\)"):
        codec.encode(rows)


@pytest.mark.parametrize("value", [1e9, 1e35, 3.4e38])
def test_huge_values_are_kept_or_refused_never_infinite(codec, value):
    rows = np.full((1, codec.dimensions), value, np.float32)
    try:
        decoded = there_and_back(codec, rows)
    except CacheError as error:
        assert "use codec float32" in str(error)
    else:
        assert np.isfinite(decoded).all()
        assert (np.abs(decoded - rows) <= codec.bound(rows)).all()


def test_only_an_unforced_prefix_asks_for_an_encoder_trained_for_it(name):
    assert build(name, 24).needs_matryoshka == (name == "prefix")
    assert not build("prefix", 24, force=True).needs_matryoshka


def test_a_prefix_keeps_the_length_of_a_row_and_its_place_in_the_space():
    rows = rows_like("unit", 24)
    decoded = there_and_back(build("prefix", 24, dimensions=6), rows)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=2**-11)
    assert not decoded[:, 6:].any()
    ratio = decoded[:, :6] / rows[:, :6]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=2e-3)
    whole = there_and_back(build("prefix", 24, dimensions=24), rows)
    np.testing.assert_allclose(whole, rows, atol=2**-11)


@pytest.mark.parametrize("kept", [0, -1, 25])
def test_a_prefix_longer_than_the_row_is_refused(kept):
    with pytest.raises(ConfigError, match=rf"1 to 24 of 24 values, not {kept}"):
        build("prefix", 24, dimensions=kept)
