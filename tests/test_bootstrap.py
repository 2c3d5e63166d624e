"""Intervals from resampling against formulas, and what can't be paired."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lift.bootstrap import _students, paired, pooled
from lift.errors import DataError
from lift.evals import _metrics as metrics
from lift.terms import Outcomes
from lift.training.paired import t_quantile


def outcomes(values, weights=None, clusters=None):
    return Outcomes(
        np.asarray(values, np.float32),
        None if weights is None else np.asarray(weights, np.float32),
        None if clusters is None else np.asarray(clusters, np.int64),
    )


def halves(seed, n=800, rate=0.5):
    return (np.random.default_rng(seed).random(n) < rate).astype(np.float32)


def test_the_interval_of_a_difference_is_about_the_normal_one():
    a, b = halves(1, rate=0.6), halves(2)
    found = paired([outcomes(a)], [outcomes(b)])
    d = a - b
    assert found.mean == pytest.approx(d.mean(), abs=1e-7)
    half = 1.96 * d.std() / math.sqrt(len(d))
    assert found.high - found.mean == pytest.approx(half, rel=0.06)
    assert found.mean - found.low == pytest.approx(half, rel=0.06)
    assert (found.items, found.seeds) == (800, 1)


def test_pairing_is_narrower_than_what_two_separate_intervals_allow():
    a = halves(3)
    b = a.copy()
    b[:20] = 1 - b[:20]
    found = paired([outcomes(a)], [outcomes(b)])
    apart = 1.96 * math.sqrt(a.var() / len(a) + b.var() / len(b))
    assert found.high - found.low < apart


def test_items_of_a_cluster_are_drawn_together():
    a, b = halves(4, 200, 0.6), halves(5, 200)
    alone = paired([outcomes(a)], [outcomes(b)])
    five = [np.repeat(x, 5) for x in (a, b)]
    own = np.repeat(np.arange(200), 5)
    same = paired([outcomes(five[0], clusters=own)], [outcomes(five[1], clusters=own)])
    assert same.items == 200
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high))
    free = paired([outcomes(five[0])], [outcomes(five[1])])
    assert free.high - free.low < 0.6 * (same.high - same.low)


def test_weights_are_those_of_the_figure():
    values, weights = halves(6, 300), np.random.default_rng(0).random(300) + 0.1
    found = pooled([outcomes(values, weights)])
    mean = float((np.float32(weights) * values).sum() / np.float32(weights).sum())
    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert found.low < mean < found.high


def test_seeds_widen_the_interval():
    base = halves(7, 2000)
    seeds = [np.clip(base + shift, 0, 1) for shift in (-0.2, 0.0, 0.2)]
    one = pooled([outcomes(base)])
    three = pooled([outcomes(s) for s in seeds])
    assert three.seeds == 3
    assert three.high - three.low > 2 * (one.high - one.low)
    mean = np.mean([s.mean() for s in seeds])
    assert three.mean == pytest.approx(mean, abs=1e-6)
    # Seeds are paired: what all of them gain alike is sure.
    better = paired([outcomes(s * 0.9 + 0.1) for s in seeds], [outcomes(s) for s in seeds])
    assert 0 < better.low < better.mean < better.high < 0.1


def test_repeat_runs_are_equal():
    a, b = outcomes(halves(8)), outcomes(halves(9))
    assert paired([a], [b]) == paired([a], [b])


def test_what_was_never_seen_is_not_ruled_out():
    """Nothing can be resampled where no item differs; Wilson's interval of 0 of n stands there."""
    perfect = pooled([outcomes(np.ones(100))])
    assert (perfect.low, perfect.high) == pytest.approx(metrics.wilson(1.0, 100))
    assert (perfect.mean, perfect.high) == (1, 1)
    none = pooled([outcomes(np.zeros(100))])
    assert (none.low, none.high) == pytest.approx(metrics.wilson(0.0, 100))
    a = outcomes(halves(8))
    same = paired([a], [a])
    assert same.mean == 0 and same.high == -same.low == pytest.approx(metrics.wilson(0.0, 800)[1])


@pytest.mark.parametrize(("items", "sure"), [(1, False), (2, False), (3, False), (8, True)])
def test_a_few_items_prove_nothing(items, sure):
    won = paired([outcomes(np.ones(items))], [outcomes(np.zeros(items))])
    assert won.mean == won.high == 1 and won.items == items
    assert (won.low > 0) is sure


def test_items_that_count_nothing_are_not_drawn():
    weights, values = np.r_[1.0, 1.0, np.zeros(200)], np.r_[1.0, 0.0, np.ones(200)]
    found = pooled([outcomes(values, weights)])
    assert (found.mean, found.low, found.high, found.items) == (0.5, 0, 1, 2)
    with pytest.raises(DataError, match="no items that count"):
        pooled([outcomes(values, 0 * weights)])


def test_the_interval_of_few_seeds_holds_the_truth():
    """Seeds that are drawn like items hold it in 80% of cases."""
    rng, held, tries = np.random.default_rng(0), 0, 150
    for _ in range(tries):
        hard, seed = rng.random(500), rng.normal(0, 0.1, 3)
        runs = [outcomes(hard + rng.normal(0, 0.05, 500) < 0.4 + s) for s in seed]
        found = pooled(runs, resamples=200)
        held += found.low <= 0.4 <= found.high
    assert 0.92 <= held / tries


@pytest.mark.parametrize(
    "other",
    [
        outcomes([1, 0]),
        outcomes([1, 0, 1], weights=[1, 2, 1]),
        outcomes([1, 0, 1], clusters=[0, 0, 1]),
    ],
)
def test_other_items_are_refused(other):
    with pytest.raises(DataError, match="over other items"):
        paired([outcomes([1, 0, 1])], [other])


def test_other_numbers_of_seeds_are_refused():
    a = outcomes([1, 0])
    with pytest.raises(DataError, match="as many runs"):
        paired([a, a], [a])
    with pytest.raises(DataError, match="no items"):
        pooled([outcomes([])])


@pytest.mark.parametrize("freedom", [1, 2, 7])
def test_seeds_are_off_by_students_t_alike_on_both_sides(freedom):
    low, high = np.quantile(_students(freedom, 4_000), [0.025, 0.975])
    assert high == pytest.approx(t_quantile(0.975, freedom), rel=0.005)
    assert low == pytest.approx(-high, rel=1e-9)


def test_an_interval_does_not_depend_on_the_side_it_is_told_from():
    ours, theirs = ([outcomes(halves(seed + i, n=60)) for seed in range(3)] for i in (0, 10))
    one, other = paired(ours, theirs), paired(theirs, ours)
    assert one.low == pytest.approx(-other.high)
    assert one.high == pytest.approx(-other.low)
