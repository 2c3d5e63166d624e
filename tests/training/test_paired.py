"""Paired differences: Student's t as others have it, and nothing claimed where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError
from lift.training.paired import difference, t_quantile


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [  # Abramowitz & Stegun 1964, table 26.10
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.975, 9, 2.262),
        (0.975, 30, 2.042),
        (0.95, 5, 2.015),
        (0.995, 7, 3.499),
    ],
)
def test_t_is_the_one_in_printed_tables(share: float, freedom: int, value: float) -> None:
    assert t_quantile(share, freedom) == pytest.approx(value, abs=6e-4)


def test_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for share in (0.5, 0.6, 0.95, 0.975, 0.999):
        for freedom in [*range(1, 40), 100, 1_001]:
            expected = stats.t.ppf(share, freedom)
            assert t_quantile(share, freedom) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("share", "freedom"), [(0.4, 3), (1.0, 3), (0.975, 0)])
def test_t_refuses_what_it_does_not_know(share: float, freedom: int) -> None:
    with pytest.raises(ConfigError, match="Student's t needs"):
        t_quantile(share, freedom)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_an_interval_is_scipys(seeds: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    dice = np.random.default_rng(seeds)
    ours, theirs = dice.normal(0.4, 0.1, seeds), dice.normal(0.3, 0.1, seeds)
    found = difference(range(seeds), ours.tolist(), theirs.tolist())
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-10)
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert found.differences == pytest.approx(tuple(ours - theirs))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    dice = np.random.default_rng(0)
    shift, times = 0.02, 1_500
    noise = dice.normal(shift, 0.05, (times, 3))
    hits = 0
    for row in noise:
        found = difference((0, 1, 2), row.tolist(), [0.0, 0.0, 0.0])
        assert found.low is not None and found.high is not None
        hits += found.low <= shift <= found.high
    assert hits / times == pytest.approx(0.95, abs=0.02)  # 3.5 standard errors


def test_pairing_takes_out_what_a_seed_does_to_both_arms() -> None:
    seeds = (0, 1, 2, 3)
    luck = [0.30, 0.45, 0.20, 0.60]
    paired = difference(seeds, [x + d for x, d in zip(luck, (0.02, 0.03, 0.02, 0.03))], luck)  # noqa: B905
    assert paired.verdict() == "better"
    assert paired.verdict(lower_is_better=True) == "worse"  # as of a rank
    shuffled = difference(seeds, [luck[i] + 0.025 for i in (2, 3, 1, 0)], luck)
    assert shuffled.verdict() == "no difference shown"
    assert difference(seeds, luck, [x + 0.02 + 0.01 * (x > 0.4) for x in luck]).verdict() == "worse"


def test_one_seed_has_no_interval() -> None:
    found = difference((7,), (0.4,), (0.3,))
    assert found.low is None and found.high is None
    assert found.verdict() == "one seed, no interval"


def test_equal_steps_of_a_coarse_figure_are_no_measure_of_spread() -> None:
    found = difference((0, 1), (0.1 + 0.05, 0.3 + 0.05), (0.1, 0.3))
    assert found.low is None and found.verdict() == "the same in every seed, no interval"
    assert difference((0, 1), (0.5, 0.25), (0.5, 0.25)).verdict() == "no difference shown"


@pytest.mark.parametrize(("seeds", "ours"), [((), ()), ((0, 1), (0.5,))])
def test_values_without_a_partner_are_refused(seeds: tuple, ours: tuple) -> None:
    with pytest.raises(ConfigError, match="two values a seed"):
        difference(seeds, ours, ours)
