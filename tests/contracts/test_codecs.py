"""What every file in `cache/codecs/` promises."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lift import plugins
from lift.config import part
from lift.errors import CacheError

ROOM = "cache/codecs"


@pytest.fixture(params=plugins.names(ROOM))
def codec(request):
    return plugins.build(part(ROOM, request.param))


def rows_like(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 24)).astype(np.float32)
    if kind == "unit":
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if kind == "large":
        return rows * 1_000
    if kind == "tiny":
        return rows * np.float32(1e-7)
    return np.zeros_like(rows)


def test_is_named_as_its_file(codec):
    assert codec.name in plugins.names(ROOM)
    assert plugins.build(part(ROOM, codec.name)).name == codec.name


@pytest.mark.parametrize("kind", ["unit", "large", "tiny", "zero"])
def test_round_trip_is_within_the_declared_error(codec, kind):
    rows = rows_like(kind)
    column = codec.encode(rows)
    assert column.type == codec.type(24) and len(column) == 50 and column.null_count == 0
    decoded = codec.decode(codec.stored(column))
    assert decoded.dtype == np.float32 and decoded.shape == rows.shape
    assert (np.abs(decoded - rows) <= codec.bound(rows)).all()


def test_declared_error_is_not_idle(codec):
    rows = rows_like("unit")
    error = np.abs(codec.decode(codec.stored(codec.encode(rows))) - rows)
    bound = codec.bound(rows)
    assert not bound.any() or (error / bound).max() > 0.5
    assert bound.max() < 0.01


def test_stored_rows_may_be_picked_before_decoding(codec):
    column = codec.encode(rows_like("unit"))
    stored = codec.stored(column)
    assert not stored.flags.owndata  # a view of Arrow's memory
    picked = codec.decode(stored[[7, 3, 7]])
    np.testing.assert_array_equal(picked, codec.decode(stored)[[7, 3, 7]])


def test_parts_join(codec):
    rows = rows_like("unit")
    joined = pa.concat_arrays([codec.encode(rows[:20]), codec.encode(rows[20:])])
    np.testing.assert_array_equal(codec.stored(joined), codec.stored(codec.encode(rows)))
    sliced = codec.encode(rows).slice(10, 5)
    np.testing.assert_array_equal(codec.stored(sliced), codec.stored(codec.encode(rows))[10:15])


def test_no_rows(codec):
    column = codec.encode(np.zeros((0, 24), np.float32))
    assert codec.decode(codec.stored(column)).shape == (0, 24)


def test_huge_values_are_kept_or_refused_never_infinite(codec):
    rows = np.full((1, 24), 1e9, np.float32)
    try:
        decoded = codec.decode(codec.stored(codec.encode(rows)))
    except CacheError as error:
        assert "use codec" in str(error)
    else:
        assert np.isfinite(decoded).all()
