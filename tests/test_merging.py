"""Scores of two kinds that compare, lists merged, thresholds: against loops and known answers."""

from __future__ import annotations

import numpy as np
import pytest

from lift import merging
from lift.evals import _metrics as metrics
from lift.evals._paired import difference, mean_of
from lift.merging import Calibration, Seen, calibrate, comparable, reciprocal, threshold
from lift.terms import Metric, Outcomes


def drawn(slope, offset, count=200_000):
    """Return cosines, and who is right by a logistic curve of them."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-0.2, 0.8, (1, count))
    return scores, rng.random((1, count)) < 1 / (1 + np.exp(-(slope * scores + offset)))


@pytest.mark.parametrize(("slope", "offset"), [(12.0, -7.0), (4.0, -1.0), (30.0, -25.0)])
def test_a_curve_is_found_again(slope, offset):
    seen = Seen()
    scores, match = drawn(slope, offset)
    seen.add(scores, match)
    found = calibrate(seen, 0.1)
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.offset == pytest.approx(offset, rel=0.05)
    # Its odds are those of the pairs it was fitted on.
    odds = 1 / (1 + np.exp(-found(scores)))
    assert odds.mean() == pytest.approx(match.mean(), rel=1e-3)
    in_parts = Seen()
    for part in range(4):
        in_parts.add(scores[:, part::4], match[:, part::4])
    assert calibrate(in_parts, 0.1) == found


def test_kinds_that_part_cleanly_stay_finite():
    seen = Seen()
    match = np.eye(20, dtype=bool)
    seen.add(np.where(match, 0.9, 0.1), match)
    found = calibrate(seen, 0.05)
    assert np.isfinite(found.slope) and found.slope > 5
    assert found(np.array([0.9]))[0] > 0 > found(np.array([0.1]))[0]


def test_cosines_that_say_nothing_give_all_the_same_odds():
    flat = Seen()
    flat.add(np.full((5, 5), 0.3) + 1e-7 * np.eye(5), np.eye(5, dtype=bool))
    wrong_way = Seen()
    wrong_way.add(np.where(np.eye(5, dtype=bool), 0.1, 0.9), np.eye(5, dtype=bool))
    for seen in (flat, wrong_way, Seen()):
        found = calibrate(seen, 0.2)
        assert found.slope == 0 and found.offset == pytest.approx(np.log(0.25))
    assert calibrate(Seen(), 0.0) == calibrate(Seen(), 1.0) == Calibration(0.0, 0.0)


def test_comparable_scores_have_the_order_of_the_odds():
    rng = np.random.default_rng(1)
    scores = rng.uniform(-1, 1, (7, 30)).astype(np.float32)
    as_image = rng.random(30) < 0.5
    image, text = Calibration(40.0, -3.0), Calibration(10.0, -6.0)
    odds = np.where(as_image, image(scores), text(scores))
    found = comparable(scores, as_image, image, text)
    assert np.array_equal(np.argsort(-found, axis=1), np.argsort(-odds, axis=1))
    assert found[:, as_image] == pytest.approx(scores[:, as_image] - 3 / 40, abs=1e-6)
    none = comparable(scores, as_image, Calibration(0.0, -2.0), Calibration(0.0, -2.0))
    assert (none == none[0, 0]).all()


def test_ranks_share_ties():
    scores = np.array([[0.1, 0.9, 0.5, 0.5, 0.5 + 1e-7]], np.float32)
    assert merging.ranks(scores).tolist() == [[5, 1, 3, 3, 3]]


def test_reciprocal_ranks_take_turns_between_the_lists():
    scores = np.array([[0.9, 0.8, 0.7, 0.2, 0.1]], np.float32)
    as_image = np.array([False, False, False, True, True])
    found = reciprocal(scores, as_image)
    expected = [61 / (60 + rank) for rank in (1, 2, 3, 1, 2)]
    assert found[0] == pytest.approx(expected)
    assert reciprocal(scores, np.zeros(5, bool))[0].argsort().tolist() == [4, 3, 2, 1, 0]


def test_a_threshold_lets_its_share_through_on_average():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(400):
        line = threshold(rng.standard_normal(59), 0.05)
        assert line is not None
        rates.append((rng.standard_normal(200) > line).mean())
    assert np.mean(rates) == pytest.approx(0.05, abs=0.005)
    assert threshold(np.arange(19.0), 0.05) == 18 and threshold(np.arange(18.0), 0.05) is None
    assert threshold(np.arange(99.0), 0.05) == 94 and threshold(np.array([]), 0.5) is None


# --- differences -------------------------------------------------------------------------------


def figure(values, weights=None, clusters=None):
    return metrics.share(np.array(values, float), weights, clusters)


def test_the_mean_of_clusters():
    values = np.array([0.1, 0.3, 0.5, 0.5])
    alone = mean_of(values)
    assert alone.value == pytest.approx(0.35) and alone.items == 4
    half = metrics.Z95 * values.std(ddof=1) / 2
    assert alone.high - alone.value == pytest.approx(half)
    doubled = mean_of(np.repeat(values, 3), np.repeat(np.arange(4), 3))
    assert doubled.items == 4 and doubled.high == pytest.approx(alone.high)


def test_a_paired_difference_is_the_mean_of_differences():
    rng = np.random.default_rng(0)
    before = (rng.random(300) < 0.5).astype(float)
    after = np.where(rng.random(300) < 0.1, 1 - before, before)
    found, by_hand = difference(figure(after), figure(before)), mean_of(after - before)
    for end in ("value", "low", "high", "items"):
        assert getattr(found, end) == pytest.approx(getattr(by_hand, end))
    # Far narrower than of two sets that have nothing to do with each other.
    assert found.high - found.low < 0.6 * (figure(after).high - figure(after).low) * 2**0.5


def test_a_difference_between_first_and_all_captions_is_by_image():
    rng = np.random.default_rng(1)
    every = rng.random((100, 5))
    images = np.repeat(np.arange(100), 5)
    clusters = (np.arange(100), images)
    found = difference(figure(every[:, 0]), figure(every.ravel(), None, images), clusters)
    by_hand = mean_of(every[:, 0] - every.mean(axis=1))
    assert found.value == pytest.approx(by_hand.value) and found.items == 100
    assert found.high == pytest.approx(by_hand.high, rel=1e-6)


def test_no_difference_at_all_is_not_certainty():
    same = figure([1, 0, 1, 1])
    found = difference(same, same)
    assert found.value == 0 and found.high == pytest.approx(metrics.wilson(0.0, 4)[1])
    assert found.low == -found.high


def test_weights_count_in_differences():
    outcomes = Outcomes(np.array([1, 0], np.float32), np.array([3, 1], np.float32))
    heavy = Metric(0.75, 0, 1, 2, outcomes)
    plain = Metric(0.25, 0, 1, 2, Outcomes(np.array([0, 1], np.float32), outcomes.weights))
    assert difference(heavy, plain).value == pytest.approx(0.5)
