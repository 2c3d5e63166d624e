"""Every sample once an epoch, from any start, in memory of one window."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from lift.data.dice import generator, key_number, turn
from lift.data.order import order

GROUPINGS = [[10], [3, 0, 7, 1], [100] * 7 + [13], [1] * 50, [0, 0, 5], [2000, 1, 2000]]


def whole(groups, seed=0, epoch=0, **more):
    parts = list(order(groups, seed, epoch, **more))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@pytest.mark.parametrize("groups", GROUPINGS)
@pytest.mark.parametrize("window", [1, 4, 64, 10_000])
def test_each_sample_once(groups, window):
    got = whole(groups, window_samples=window)
    assert got.dtype == np.int64
    assert sorted(got.tolist()) == list(range(sum(groups)))


@pytest.mark.parametrize("groups", GROUPINGS)
@pytest.mark.parametrize("window", [1, 4, 64])
def test_any_start_is_the_tail(groups, window):
    expected = whole(groups, window_samples=window)
    for start in {*range(12), sum(groups) // 2, sum(groups) - 1, sum(groups), sum(groups) + 3}:
        got = whole(groups, window_samples=window, start=start)
        assert np.array_equal(got, expected[start:]), start


def test_seed_and_epoch_alone_decide():
    groups = [40, 30, 50]
    assert np.array_equal(whole(groups, 3, 5), whole(groups, 3, 5))
    orders = {whole(groups, seed, epoch).tobytes() for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    np.random.seed(1)
    assert np.array_equal(whole(groups, 3, 5), whole(groups, 3, 5))


def test_the_order_of_a_seed_stays_for_ever():
    """A resumed run of an older version must find the same order."""
    assert whole([3, 4, 2], 7, 1, window_samples=5).tolist() == [1, 7, 8, 2, 0, 6, 5, 4, 3]


def test_every_place_is_equally_likely():
    counts = np.zeros((6, 6))
    for epoch in range(3000):
        counts[np.arange(6), whole([6], 0, epoch)] += 1
    assert np.abs(counts / 3000 - 1 / 6).max() < 0.03


def test_groups_of_a_window_are_mixed_and_others_are_not():
    groups = [100] * 20
    for part in order(groups, 0, 0, window_samples=300):
        assert len(part) == 300 or len(part) == 200
        assert len(set(part // 100)) == len(part) // 100
        assert len(set(part[:50] // 100)) > 1


def test_memory_is_a_window_however_many_samples():
    """A billion samples in ten thousand groups."""
    groups = [100_000] * 10_000
    tracemalloc.start()
    parts = list(itertools.islice(order(groups, 0, 0), 3))
    late = next(order(groups, 0, 0, start=999_950_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(part) for part in parts] == [100_000] * 3 and len(late) == 50_000
    assert peak < 8 << 20


# --- dice ---------------------------------------------------------------------------------------


def test_addresses_do_not_share_draws():
    addresses = itertools.product((0, 1, -1, 2**63), (1, 2), (0, 1), (0, 1, 2**40))
    draws = [tuple(generator(*address).integers(0, 2**62, 4)) for address in addresses]
    assert len({value for draw in draws for value in draw}) == 4 * len(draws)
    assert tuple(generator(0, 1).integers(0, 2**62, 4)) == draws[0]


@pytest.mark.parametrize("choices", [1, 2, 5, 7])
def test_turns_show_every_choice_once_a_cycle(choices):
    starts = set()
    for key in ("a", "ü", "photo-17"):
        for cycle in range(30):
            epochs = range(cycle * choices, (cycle + 1) * choices)
            shown = [turn(3, key_number(key), epoch, choices) for epoch in epochs]
            assert sorted(shown) == list(range(choices))
            starts.add(shown[0])
    assert starts == set(range(choices))


def test_key_numbers_are_the_same_in_every_process():
    assert key_number("a") == key_number("a") != key_number("b")
    assert 0 <= key_number("\udc80") < 2**63
