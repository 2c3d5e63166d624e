"""A permutation that is computed: each place once, from anywhere, and as random as a drawn one."""

from __future__ import annotations

import numpy as np
import pytest

from lift.data import permutation
from lift.data.permutation import permuted


@pytest.fixture(params=["drawn", "computed"])
def way(request, monkeypatch):
    """Both ways, whatever the size."""
    monkeypatch.setattr(permutation, "_DRAWN", 1 << 30 if request.param == "drawn" else 1)


@pytest.mark.parametrize("size", [2, 3, 7, 8, 9, 64, 65, 1000, 4097, 30_001])
def test_each_place_once(way, size):
    for epoch in range(3):
        assert np.array_equal(np.sort(permuted(np.arange(size), size, 5, epoch)), np.arange(size))


def test_one_sample(way):
    assert permuted(np.zeros(1, np.int64), 1, 0, 0).tolist() == [0]


def test_any_part_of_it_is_the_same(way):
    whole = permuted(np.arange(5000), 5000, 1, 2)
    assert np.array_equal(permuted(np.arange(1234, 1300), 5000, 1, 2), whole[1234:1300])


def test_seed_epoch_and_salt_give_others(way):
    seen = {
        permuted(np.arange(500), 500, seed, epoch, salt).tobytes()
        for seed in range(3)
        for epoch in range(3)
        for salt in range(3)
    }
    assert len(seen) == 27


def test_huge_sizes_take_no_memory():
    places = np.arange(10**12, 10**12 + 1000)
    got = permuted(places, 10**13, 0, 0)
    assert len(np.unique(got)) == 1000 and got.min() >= 0 and got.max() < 10**13
    assert got.std() > 2e12  # even spread: 10**13 / sqrt(12) = 2.9e12


def test_it_is_as_even_as_chance():
    """Places and neighbours of 5,000 samples over 200 epochs, against what chance gives."""
    size, epochs = 5000, 200
    first = np.stack([permuted(np.arange(size), size, 9, epoch) for epoch in range(epochs)])
    tenths = (first[:, :500] // 500).ravel()  # where the first tenth goes
    counts = np.bincount(tenths, minlength=10)
    expected = epochs * 500 / 10
    assert ((counts - expected) ** 2 / expected).sum() < 28  # chi-square, 9 degrees, p = 0.001
    neighbours = (np.abs(np.diff(first, axis=1)) == 1).sum() / epochs
    assert abs(neighbours - 2) < 0.4  # 2 of an even permutation, +- 0.1 each
    again = np.corrcoef(first[0], first[1])[0, 1]
    assert abs(again) < 0.06  # 1 / sqrt(5000) = 0.014
