"""Several sources as one, and batches of one source, cluster or mixture."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from lift.data.joined import Joined
from lift.data.order import PERIOD, Alike, Interleaved, Shuffled, Windowed, batches
from lift.data.ordering import order_of
from lift.data.source import open_source
from lift.errors import ConfigError

A, B, C = (f"scenes:count={n},resolution=32,seed={n}" for n in (30, 50, 7))


def take(order, size, count, start=0):
    return list(itertools.islice(batches(order, size, start), count))


# --- one after the other ------------------------------------------------------------------------


def test_numbers_run_on():
    joined, alone = open_source(f"{A}::{B}"), [open_source(A), open_source(B)]
    assert isinstance(joined, Joined) and len(joined) == 80 == sum(joined.groups)
    assert joined.name == f"{alone[0].name} + {alone[1].name}"
    assert joined.read(0) == alone[0].read(0) and joined.read(30) == alone[1].read(0)
    assert joined.read(79) == alone[1].read(49)
    assert list(joined.texts()) == [*alone[0].texts(), *alone[1].texts()]
    assert joined.source_of(np.array([0, 29, 30, 79])).tolist() == [0, 0, 1, 1]
    with pytest.raises(IndexError):
        joined.read(80)


def test_without_weights_every_sample_comes_once_an_epoch():
    order = order_of(open_source(f"{A}::{B}"), 0, 8)
    got = take(order, 80, 2)
    for epoch, found in enumerate(got):
        assert sorted(found.number.tolist()) == list(range(80))
        assert set(found.epoch.tolist()) == {epoch}


@pytest.mark.parametrize("words", [f"{A}@1::{B}", f"{A}::{B}@2"])
def test_all_sources_have_a_weight_or_none(words):
    with pytest.raises(ConfigError, match="gives some sources a weight"):
        open_source(words)


def test_weights_are_above_zero():
    with pytest.raises(ConfigError, match="must be above 0, not 0"):
        open_source(f"{A}@0::{B}@1")


# --- mixed by weight ----------------------------------------------------------------------------


def test_weights_are_shares_of_the_samples():
    source = open_source(f"{A}@3::{B}@1::{C}@0.5")
    order = order_of(source, 4, 10)
    (found,) = take(order, 9000, 1)
    counts = np.bincount(source.source_of(found.number))
    assert counts / 9000 == pytest.approx([3 / 4.5, 1 / 4.5, 0.5 / 4.5], abs=0.02)
    for owner, (begin, size) in enumerate([(0, 30), (30, 50), (80, 7)]):
        own = found.number[source.source_of(found.number) == owner] - begin
        epochs = found.epoch[source.source_of(found.number) == owner]
        assert epochs.tolist() == [place // size for place in range(len(own))]
        for epoch in range(3):  # each source shows all its samples before it begins again
            assert sorted(own[epochs == epoch].tolist()) == list(range(size))


def test_a_period_has_exactly_the_shares():
    order = Interleaved([Shuffled(100, 1), Shuffled(100, 2)], [0, 100], [1e-9, 1], 0)
    (found,) = take(order, PERIOD, 1)
    assert (found.number < 100).sum() == 1


@pytest.mark.parametrize("start", [1, 7, 40, 4095, 4096, 5001, PERIOD - 3, PERIOD, 2 * PERIOD + 17])
@pytest.mark.parametrize("unit", [1, 8])
def test_any_start_is_the_tail(start, unit):
    def order():
        parts = [Shuffled(5000, 1), Windowed([40, 60], 2, 50), Shuffled(3, 3)]
        return Interleaved(parts, [0, 5000, 5100], [5, 2, 1], 3, unit)

    def first(begin, count):
        (found,) = take(order(), count, 1, begin)
        return found

    whole = first(start - start % 64, 300 + start % 64)
    tail = first(start, 300)
    assert np.array_equal(tail.number, whole.number[start % 64 :])
    assert np.array_equal(tail.epoch, whole.epoch[start % 64 :])
    if start < 6000:
        assert np.array_equal(tail.number, first(0, start + 300).number[start:])


# --- batches of one kind ------------------------------------------------------------------------


def test_batches_of_one_source():
    source = open_source(f"{A}::{B}")
    order = order_of(source, 1, 8, "source")
    kinds = Counter()
    for found in take(order, 8, 400):
        owners = set(source.source_of(found.number).tolist())
        assert len(owners) == 1
        kinds[owners.pop()] += 1
    assert kinds[0] / 400 == pytest.approx(30 / 80, abs=0.08)
    with pytest.raises(ConfigError, match="needs several sources"):
        order_of(open_source(A), 1, 8, "source")


@pytest.mark.parametrize("sizes", [[20, 13, 40, 3], [5, 5, 5, 5], [64], [0, 9, 0, 16]])
def test_batches_of_one_cluster(sizes):
    order, ends = Alike(sizes, 8, 2), np.cumsum(sizes)
    per_epoch = sum(sizes) // 8 if sum(n % 8 for n in sizes) >= 8 else sum(n // 8 for n in sizes)
    assert (
        order.length
        == 8 * (sum(n // 8 for n in sizes) + sum(n % 8 for n in sizes) // 8)
        <= 8 * max(per_epoch, sum(sizes) // 8)
    )
    for epoch in range(3):
        steps = order.length // 8
        got = take(order, 8, steps, epoch * order.length)
        numbers = np.concatenate([found.number for found in got])
        assert len(set(numbers.tolist())) == len(numbers)
        pure = [
            len(set(np.searchsorted(ends, found.number, side="right").tolist())) == 1
            for found in got
        ]
        assert sum(pure) >= sum(n // 8 for n in sizes)
    left = set(range(sum(sizes)))
    for found in take(order, 8, 40 * order.length // 8):
        left -= set(found.number.tolist())
    assert not left  # others are passed over in other epochs


def test_clusters_have_to_be_there():
    with pytest.raises(ConfigError, match=r"no clusters .*lift data select --clusters"):
        order_of(open_source(A), 0, 8, "cluster")


def test_order_of_a_large_source_is_one_permutation():
    big = open_source("scenes:count=40000,resolution=32")
    (found,) = take(order_of(big, 0, 8), 40_000, 1)
    assert sorted(found.number.tolist()) == list(range(40_000))
    far = np.abs(np.diff(found.number)).mean()
    assert far == pytest.approx(40_000 / 3, rel=0.02)  # windows of 16,384 would give half of it
