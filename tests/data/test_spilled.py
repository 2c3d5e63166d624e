"""Arrays and tables in temporary files, on a disk that fills up."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

from lift import files
from lift.data.spilled import Mapped, Spilled, Spool, room_for
from lift.errors import StorageError


def test_values_come_back_and_outlive_their_maker():
    spilled = Spilled(np.int32)
    assert len(spilled) == 0 and len(spilled.mapped()) == 0
    for start in range(0, 100_000, 10_000):
        spilled.append(np.arange(start, start + 10_000))
    assert len(spilled) == 100_000
    values = spilled.mapped()
    del spilled
    np.testing.assert_array_equal(values, np.arange(100_000))


def test_a_spool_forgets_and_is_copied():
    with Spool() as spool:
        spool.append(np.arange(5))
        spool.append(np.arange(7))
        spool.forget(40)
        spool.append(np.arange(2))
        mapped = Mapped(spool, np.int64)
    for each in (mapped, pickle.loads(pickle.dumps(mapped))):
        assert each.values.tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_room_is_zeros_that_can_be_written():
    room = room_for(1000, np.float64)
    room[::2] = 3
    assert room.sum() == 1500 and len(room_for(0, np.int8)) == 0


def test_a_full_disk_is_told_before_anything_is_written(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    """A file with holes would be a SIGBUS, which no one can catch, at the first value too many."""
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    with pytest.raises(StorageError):
        room_for(4 << 20, np.uint8)
    with pytest.raises(StorageError):
        Spilled(np.uint8).append(np.zeros(4 << 20, np.uint8))


def test_room_where_the_system_can_not_reserve_it(monkeypatch):
    """macOS has no posix_fallocate."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(files, "_BLOCK", 1000)
    room = room_for(700, np.int64)
    assert room.shape == (700,) and not room.any()
    room[699] = 3
    assert room[699] == 3
