"""Counted numbers: quantiles and bars against the numbers themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift.curation.spread import Counting


def counted(*chunks: list[int]):
    counting = Counting()
    for chunk in chunks:
        counting.add(chunk)
    return counting.spread()


def test_nothing_is_zero() -> None:
    found = counted()
    assert (found.count, found.least, found.most, found.mean) == (0, 0, 0, 0.0)
    assert found.quantiles == (0, 0, 0, 0, 0) and found.bars.counts == ()


@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=60), st.integers(0, 60))
def test_quantiles_are_those_of_the_numbers(values: list[int], cut: int) -> None:
    found = counted(values[:cut], values[cut:])
    assert (found.count, found.total) == (len(values), sum(values))
    assert (found.least, found.most) == (min(values), max(values))
    ranked = sorted(values)
    for share, quantile in zip((0.05, 0.25, 0.5, 0.75, 0.95), found.quantiles, strict=True):
        true = ranked[int(np.ceil(share * len(values))) - 1]
        assert quantile <= true and true - quantile <= true / 256
        assert true >= 1024 or quantile == true


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=200))
def test_bars_hold_every_number(values: list[int]) -> None:
    bars = counted(values).bars
    assert sum(bars.counts) + bars.beyond == len(values)
    assert len(bars.edges) == len(bars.counts) + 1 <= 42
    assert bars.edges[0] == min(values)


def test_bars_stand_where_the_numbers_are() -> None:
    bars = counted([3] * 5 + [7] * 2).bars
    assert bars.edges == (3, 4, 5, 6, 7, 8) and bars.counts == (5, 0, 0, 0, 2)
    assert counted([1] * 995 + [900] * 5).bars.beyond == 5


def test_memory_does_not_grow_with_the_numbers() -> None:
    counting = Counting()
    size = counting._bins.nbytes
    for _ in range(50):
        counting.add(range(10_000))
    assert counting._bins.nbytes == size and counting.spread().count == 500_000
    with pytest.raises(ValueError):
        counting.add([-1])
