"""Average precision: against all orders of ties, against scikit-learn, and its ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lift.evals import _ranking
from lift.evals._ranking import average_precision


def enumerated(scores, match):
    """Return the mean average precision over all orders of equal scores."""
    order = np.argsort(-scores, kind="stable")
    groups = [list(g) for _, g in itertools.groupby(order.tolist(), key=lambda n: scores[n])]
    found = []
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        right = match[np.array(list(itertools.chain(*orders)))]
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        found.append(precision[right].mean())
    return np.mean(found)


@pytest.mark.parametrize("few", [0, 100])
def test_equals_the_mean_over_all_orders_of_ties(few, monkeypatch):
    monkeypatch.setattr(_ranking, "_FEW", few)  # both ways of counting
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (40, 7)).astype(np.float32) / 4
    match = rng.random((40, 7)) < 0.4
    match[:, 0] |= ~match.any(axis=1)
    expected = [enumerated(row, own) for row, own in zip(scores, match, strict=True)]
    np.testing.assert_allclose(average_precision(scores, match), expected, rtol=0, atol=1e-12)


def test_equals_scikit_learn_without_ties():
    ours = pytest.importorskip("sklearn.metrics").average_precision_score
    rng = np.random.default_rng(1)
    scores = np.stack([rng.permutation(200) for _ in range(30)]).astype(np.float32) / 200
    match = rng.random((30, 200)) < 0.1
    expected = [ours(own, row) for row, own in zip(scores, match, strict=True)]
    np.testing.assert_allclose(average_precision(scores, match), expected, rtol=0, atol=1e-9)


def test_its_ends_are_exact():
    match = np.array([[True, False, True, False, False]])
    best = np.array([[0.9, 0.1, 0.8, 0.2, 0.0]], np.float32)
    assert average_precision(best, match)[0] == 1.0
    assert average_precision(match.astype(np.float32), match)[0] == 1.0
    assert average_precision(-best, match)[0] == pytest.approx((1 / 4 + 2 / 5) / 2)
    one = np.eye(1, 6, dtype=bool)
    constant = average_precision(np.zeros((1, 6), np.float32), one)[0]
    assert constant == pytest.approx(sum(1 / place for place in range(1, 7)) / 6)


def test_scores_within_rounding_tie():
    match = np.array([[True, False]])
    close = np.array([[0.5, 0.5 + 2e-7]], np.float32)
    assert average_precision(close, match)[0] == pytest.approx(0.75)
