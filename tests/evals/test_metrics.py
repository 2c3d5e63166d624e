"""Ties, recalls, ranks and intervals against loops, enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lift.evals import _metrics as metrics

RNG = np.random.default_rng


def scores_and_match(seed, queries=6, items=7, levels=3):
    """Scores with many ties; every query has at least one right item."""
    rng = RNG(seed)
    scores = rng.integers(0, levels, (queries, items)).astype(np.float32) / 10
    match = rng.random((queries, items)) < 0.35
    match[np.arange(queries), rng.integers(0, items, queries)] = True
    return scores, match


def by_enumeration(scores, match):
    """Return the rank of the first right item under every order of the items, stable-sorted."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        ranking = sorted(order, key=lambda i: -scores[i])
        found.append(1 + next(r for r, i in enumerate(ranking) if match[i]))
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_the_mean_over_all_orders(seed):
    scores, match = scores_and_match(seed)
    found = metrics.places(scores, match)
    for query in range(len(scores)):
        first = by_enumeration(scores[query], match[query])
        assert metrics.ranks(found)[query] == pytest.approx(first.mean())
        for k in (1, 2, 3, 5, 7):
            expected = (first <= k).mean()
            assert metrics.recall_at_k(found, k)[query] == pytest.approx(expected), (query, k)


def test_without_ties_recall_is_a_count():
    rng = RNG(0)
    scores = rng.standard_normal((50, 40)).astype(np.float32)
    match = np.eye(40, dtype=bool)[rng.integers(0, 40, 50)] | (rng.random((50, 40)) < 0.03)
    found = metrics.places(scores, match)
    for query in range(50):
        order = sorted(range(40), key=lambda i: -scores[query, i])
        rank = 1 + next(r for r, i in enumerate(order) if match[query, i])
        assert metrics.ranks(found)[query] == rank
        for k in (1, 5, 10):
            assert metrics.recall_at_k(found, k)[query] == (rank <= k)


def test_scores_within_rounding_are_ties():
    scores = np.array([[0.5, 0.5 + 4e-7, 0.2]], np.float32)
    match = np.array([[True, False, False]])
    found = metrics.places(scores, match)
    assert metrics.recall_at_k(found, 1) == 0.5
    assert metrics.ranks(found) == 1.5


@pytest.mark.parametrize("k", [1, 5, 10])
def test_chance_is_that_of_drawing_without_putting_back(k):
    right = np.array([1, 1, 3, 40])
    expected = np.mean([1 - math.comb(40 - r, k) / math.comb(40, k) for r in right])
    assert metrics.chance_at_k(40, right, k) == pytest.approx(expected)


def test_wilson_as_in_textbooks():
    # Newcombe (1998), table I: 81 of 263 and 0 of 20, method 3.
    assert metrics.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert metrics.wilson(1.0, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


def test_independent_items_get_plain_wilson():
    values = (RNG(0).random(300) < 0.3).astype(float)
    figure = metrics.share(values)
    assert figure.items == 300 and figure.value == pytest.approx(values.mean())
    assert (figure.low, figure.high) == pytest.approx(metrics.wilson(values.mean(), 300))


def test_copies_in_a_cluster_are_one_item():
    one = (RNG(0).random(400) < 0.3).astype(float)
    copied = metrics.share(np.repeat(one, 5), clusters=np.repeat(np.arange(400), 5))
    single = metrics.share(one)
    assert copied.items == single.items == 400
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.01)
    blind = metrics.share(np.repeat(one, 5))
    assert blind.high - blind.low < 0.5 * (copied.high - copied.low)


def test_perfect_answers_are_as_sure_as_their_clusters():
    figure = metrics.share(np.ones(50), clusters=np.repeat(np.arange(10), 5))
    assert (figure.low, figure.high) == pytest.approx(metrics.wilson(1.0, 10))


def test_one_cluster_is_one_item():
    figure = metrics.share(np.array([1.0, 0.0, 1.0]), clusters=np.zeros(3, np.int64))
    assert figure.items == 1
    assert (figure.low, figure.high) == pytest.approx(metrics.wilson(2 / 3, 1))


def clustered(rng, images=150, each=5):
    """Right or wrong answers whose chance of being right differs from image to image."""
    ease = rng.beta(0.6, 1.4, images)  # mean 0.3
    values = (rng.random((images, each)) < ease[:, None]).astype(float)
    return values.ravel(), np.repeat(np.arange(images), each)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = RNG(7)
    hits = blind = 0
    for _ in range(600):
        values, images = clustered(rng)
        figure, naive = metrics.share(values, clusters=images), metrics.share(values)
        hits += figure.low <= 0.3 <= figure.high
        blind += naive.low <= 0.3 <= naive.high
    assert 0.93 <= hits / 600 <= 0.97
    assert blind / 600 < 0.90  # what taking captions of one image for independent would give


def test_agrees_with_a_bootstrap_over_images():
    values, images = clustered(RNG(1), images=400)
    figure = metrics.share(values, clusters=images)
    means = values.reshape(400, 5).mean(axis=1)
    draws = RNG(2).integers(0, 400, (4000, 400))
    low, high = np.quantile(means[draws].mean(axis=1), [0.025, 0.975])
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=0.006)


def by_pairs(amounts, clusters, item, group):
    """Sum over all pairs, in loops; items of several common groups count several times."""
    total = 0.0
    for i in range(len(amounts)):
        for j in range(len(amounts)):
            total += amounts[i] * amounts[j] * (clusters[i] == clusters[j])
            if i != j:
                both = set(group[item == i]) & set(group[item == j])
                total += len(both) * amounts[i] * amounts[j]
    return total


def test_pairs_that_are_alike_equal_loops():
    rng = RNG(4)
    clusters = rng.integers(0, 8, 20)
    links = np.unique(rng.integers(0, 20, (30, 2)) // [1, 4], axis=0)
    alike = metrics.Alike(links[:, 0], links[:, 1])
    amounts = rng.random(20)
    expected = by_pairs(amounts, clusters, alike.item, alike.group)
    assert metrics._pairs(amounts, clusters, alike) == pytest.approx(expected)


@pytest.mark.parametrize("spread", [0, 1])
def test_equal_texts_are_covered_as_often_as_intervals_say(spread):
    """200 titles of 10 images (or 1 to 20): the outcome of a title is one coin for all of them."""
    rng, hits, blind = RNG(5), 0, 0
    for _ in range(400):
        sizes = rng.integers(1, 20, 200) if spread else np.full(200, 10)
        title = np.repeat(np.arange(200), sizes)
        values = (rng.random(200) < 0.4)[title].astype(float)
        images = np.arange(len(values))
        figure = metrics.share(values, clusters=images, alike=metrics.Alike(images, title))
        assert figure.items == 200
        hits += figure.low <= 0.4 <= figure.high
        naive = metrics.share(values, clusters=images)
        blind += naive.low <= 0.4 <= naive.high
    assert 0.93 <= hits / 400 <= 0.975
    assert blind / 400 < 0.6


def test_texts_that_chain_all_images_together_do_not_make_them_one():
    """Each image has its own caption and one of 30 that many share: no title joins them all."""
    rng, hits, widths = RNG(6), 0, []
    for _ in range(200):
        short = rng.integers(0, 30, 300)
        owner = np.repeat(np.arange(300), 2)
        same = np.stack([30 + np.arange(300), short], axis=1).ravel()
        values = (rng.random(330) < 0.4)[same].astype(float)
        truth = 0.4
        alike = metrics.Alike(np.arange(600), same)
        figure = metrics.share(values, clusters=owner, alike=alike)
        hits += figure.low <= truth <= figure.high
        widths.append(figure.high - figure.low)
    assert 0.9 <= hits / 200
    assert np.mean(widths) < 0.3


def test_perfect_answers_to_equal_texts_are_as_sure_as_the_texts():
    alike = metrics.Alike(np.arange(50), np.repeat(np.arange(10), 5))
    figure = metrics.share(np.ones(50), alike=alike)
    assert figure.items == 10
    assert (figure.low, figure.high) == pytest.approx(metrics.wilson(1.0, 10))
    wide, narrow = metrics.median(np.arange(50.0), alike=alike), metrics.median(np.arange(50.0))
    assert wide.low < narrow.low and wide.high > narrow.high and wide.items == 10


def test_mean_per_class_counts_classes_alike():
    labels = np.array([0, 0, 0, 0, 1])
    figure = metrics.share(np.array([1.0, 1, 1, 1, 0]), metrics.class_weights(labels))
    assert figure.value == pytest.approx(0.5)
    variance = (4 * (0.5 / 8) ** 2 + (0.5 / 2) ** 2) * 5 / 4
    assert (figure.low, figure.high) == pytest.approx(metrics.wilson(0.5, 0.25 / variance))
    even = metrics.share(np.array([1.0, 0, 1, 0, 1]), metrics.class_weights(labels))
    assert (even.low, even.high) == pytest.approx(metrics.wilson(0.75, 4 / (1 / 4 + 1)))


def test_rare_classes_that_are_hard_widen_the_mean_per_class():
    labels, chance = np.repeat([0, 1], [990, 10]), np.repeat([0.99, 0.5], [990, 10])
    rng, hits = RNG(3), 0
    for _ in range(300):
        right = (rng.random(1000) < chance).astype(float)
        figure = metrics.share(right, metrics.class_weights(labels))
        hits += figure.low <= 0.745 <= figure.high
    assert hits / 300 > 0.94  # Kish's number alone gives 0.89


def test_median_and_its_order_statistics():
    values = RNG(0).permutation(np.arange(1.0, 102.0))
    figure = metrics.median(values)
    assert figure.value == 51 and figure.items == 101
    assert 40 <= figure.low <= 42 and 60 <= figure.high <= 62
    wide = metrics.median(values, np.arange(101) // 5)
    assert wide.low < figure.low and wide.high > figure.high and wide.items == 21
    single = metrics.median(np.array([3.0]))
    assert (single.value, single.low, single.high) == (3, 3, 3)


def test_examples_take_right_and_wrong_in_turn():
    right = np.array([True] * 10 + [False] * 10)
    picked = metrics.both_kinds(right, 6)
    assert [bool(right[at]) for at in picked] == [True, False] * 3
    assert picked == metrics.both_kinds(right, 6) and len(set(picked)) == 6
    mostly = metrics.both_kinds(np.array([True] + [False] * 20), 6)
    assert len(mostly) == 6 and mostly[0] == 0
    assert metrics.both_kinds(np.array([True, True]), 6) == [0, 1]
    assert metrics.both_kinds(right, 0) == []
