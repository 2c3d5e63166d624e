"""The linear probe: scikit-learn's answer, a decay chosen on images that did not teach."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _logistic as logistic
from lift.evals import linear_probe
from lift.evals._labelled import parts_of
from lift.terms import Sample

CLASSES = 3


def planted(count, seed=0, width=12, noise=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, count)
    centres = np.random.default_rng(9).standard_normal((CLASSES, width))
    return centres[truth] + noise * rng.standard_normal((count, width)), truth.astype(np.int64)


def samples(truth, start=0):
    return [
        Sample(f"k{i}", f"image {i}".encode(), (), {"class_name": f"c{label}"})
        for i, label in enumerate(truth, start)
    ]


@pytest.fixture
def two(list_source, vectors):
    """Return an encoder, images to judge and images to learn from."""
    x, truth = planted(260)
    encoder = vectors({f"image {i}".encode(): row for i, row in enumerate(x)}, 12)
    source, train = list_source(samples(truth[:100])), list_source(samples(truth[100:], 100))
    train.name = "shown"
    return encoder, source, train


def run(encoder, source, train=None, **options):
    evaluation = linear_probe.build(linear_probe.Config(of="vector", **options))
    if train is not None:
        evaluation.learn_from(train)
    return evaluation.run(encoder, source)


@pytest.mark.parametrize("decay", [0.003, 0.1])
def test_the_fit_is_scikit_learns(decay):
    linear = pytest.importorskip("sklearn.linear_model")
    x, truth = planted(150)
    other, _ = planted(60, seed=1)
    theirs = linear.LogisticRegression(C=1 / (150 * decay), tol=1e-9, max_iter=2000).fit(x, truth)
    weights = logistic.fit(x, truth, CLASSES, decay)
    ours = logistic.odds(logistic.logits(weights, other))
    np.testing.assert_allclose(ours, theirs.predict_proba(other), atol=1e-5)
    np.testing.assert_allclose(weights[:, :-1], theirs.coef_, atol=1e-4)
    again = logistic.fit(x, truth, CLASSES, decay, start=logistic.fit(x, truth, CLASSES, 1.0))
    np.testing.assert_allclose(again[:, :-1], weights[:, :-1], atol=1e-4)


def test_equals_scikit_learn_from_end_to_end(two):
    linear = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    encoder, source, train = two
    result = run(encoder, source, train, decays=(0.02,))
    z = [encoder.encode_images([s.image for s in part.samples]) for part in (source, train)]
    own = [[s.fields["class_name"] for s in part.samples] for part in (source, train)]
    scaler = preprocessing.StandardScaler().fit(z[1].astype(np.float64))
    theirs = linear.LogisticRegression(C=1 / (160 * 0.02), tol=1e-8, max_iter=2000)
    theirs.fit(scaler.transform(z[1].astype(np.float64)), own[1])
    right = theirs.predict(scaler.transform(z[0].astype(np.float64))) == np.array(own[0])
    assert result.metrics["top-1"].value == pytest.approx(right.mean())
    assert 0.5 < right.mean() < 1
    assert result.counts == {"images": 100, "classes": CLASSES, "training images": 160}


def test_scaling_drops_what_does_not_vary():
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    x[:, 2] = 0.3
    x[0, 2] = np.nextafter(np.float32(0.3), np.float32(1))
    scaled = logistic.Scaling.of(x)(x)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0, 1], atol=1e-12)


def test_the_decay_is_the_best_on_images_held_out():
    x, truth = planted(120, width=40, noise=3.0)
    part = parts_of(truth, [bytes([n]) for n in range(120)], 5)
    grid = (1e-4, 1e-2, 1.0, 100.0)
    losses = []
    for decay in grid:
        scaling = logistic.Scaling.of(x[part != 0])
        weights = logistic.fit(scaling(x[part != 0]), truth[part != 0], CLASSES, decay)
        found = logistic.odds(logistic.logits(weights, scaling(x[part == 0])))
        losses.append(-np.log(found[np.arange(len(found)), truth[part == 0]]).mean())
    chosen = logistic.choose(x, truth, part == 0, CLASSES, grid)
    assert chosen == grid[int(np.argmin(losses))] in grid[1:-1]
    assert logistic.choose(x, truth, np.zeros(120, bool), CLASSES, [3.0]) == 3.0


def test_each_part_is_judged_by_the_others(two, list_source):
    encoder, _, train = two
    result = run(encoder, train, decays=(0.1,), parts=4)
    assert result.counts["images"] == 160 and result.metrics["top-1"].value > 0.6
    assert result.protocol == (
        "class_name, decay 0.1, image vectors, each of 4 parts by the others"
    )
    order = list_source(train.samples[::-1])
    again = run(encoder, order, decays=(0.1,), parts=4)
    assert again.metrics["top-1"].value == pytest.approx(result.metrics["top-1"].value)
    with pytest.raises(DataError, match="1 classes of list have one image only"):
        run(encoder, list_source([*train.samples[:20], *samples([7], 250)]), decays=(0.1,))


def test_a_class_of_one_training_image_teaches(two, list_source):
    """It is not held out, whichever part its bytes put it in."""
    encoder, _, train = two
    for lone in range(1000, 1006):
        rare = list_source([*train.samples[:40], *samples([7], lone)])
        result = run(encoder, list_source(samples([7], lone)), rare, decays=(1e-4, 1e-3))
        assert result.metrics["top-1"].value == 1


def test_says_when_a_smaller_decay_may_be_better(two):
    encoder, source, train = two
    low, high = (run(encoder, source, train, decays=d) for d in ((50.0, 500.0), (1e-5, 1e-3)))
    assert low.notes == ("the chosen decay 50 is the smallest given: one beyond it may be better",)
    assert high.notes == (
        "the chosen decay 0.001 is the largest given: one beyond it may be better",
    )
    assert "decay of 50, 500 chosen on 1/5" in low.protocol
    inside = run(encoder, source, train, decays=(1e-5, 1e-3, 500.0))
    assert not inside.notes
    for options, words in (
        ({"decays": ()}, "decays"),
        ({"decays": (0.0, 1.0)}, "decays must be above 0"),
        ({"parts": 1}, "parts"),
        ({"examples": -1}, "examples"),
    ):
        with pytest.raises(ConfigError, match=words):
            linear_probe.build(linear_probe.Config(**options))
