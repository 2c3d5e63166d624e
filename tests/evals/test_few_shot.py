"""Few shots: prototypes of what was drawn, the same queries for every number of shots."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals import few_shot
from lift.terms import Sample

CLASSES = 4


def samples(truth, start=0):
    return [
        Sample(f"k{i}", f"image {i}".encode(), (), {"class_name": f"c{label}"})
        for i, label in enumerate(truth, start)
    ]


@pytest.fixture
def two(list_source, vectors):
    """Return an encoder, images to judge and images to learn from."""
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.integers(0, CLASSES, 80), np.arange(CLASSES).repeat(10)])
    centres = rng.standard_normal((CLASSES, 16))
    x = 0.8 * centres[truth] + rng.standard_normal((len(truth), 16))
    encoder = vectors({f"image {i}".encode(): row for i, row in enumerate(x)})
    source, train = list_source(samples(truth[:80])), list_source(samples(truth[80:], 80))
    train.name = "shown"
    return encoder, source, train


def run(encoder, source, train=None, **options):
    evaluation = few_shot.build(few_shot.Config(of="vector", **options))
    if train is not None:
        evaluation.learn_from(train)
    return evaluation.run(encoder, source)


def drawn_by_hand(train, seed, draw, shots):
    """Return the images of each class whose lots come first."""

    def lot(sample):
        content = hashlib.blake2b(sample.image, digest_size=16).digest()
        return hashlib.blake2b(f"{seed}/{draw}/".encode() + content, digest_size=16).digest()

    classes = {}
    for sample in sorted(train.samples, key=lot):
        classes.setdefault(sample.fields["class_name"], []).append(sample.image)
    return {name: own[:shots] for name, own in sorted(classes.items())}


@pytest.mark.parametrize("shots", [1, 3])
def test_prototypes_equal_loops(shots, two):
    encoder, source, train = two
    result = run(encoder, source, train, shots=(shots,), draws=3, seed=5)
    means = []
    for draw in range(3):
        heads = {}
        for name, images in drawn_by_hand(train, 5, draw, shots).items():
            mean = encoder.encode_images(images).astype(np.float64).mean(axis=0)
            heads[name] = mean / np.linalg.norm(mean)
        right = [
            max(heads, key=lambda n: float(heads[n] @ encoder._row(s.image)))
            == s.fields["class_name"]
            for s in source.samples
        ]
        means.append(np.mean(right))
    found = result.metrics[f"{shots}-shot top-1"]
    assert found.value == pytest.approx(np.mean(means)) and found.items == 80
    assert result.counts == {
        "images": 80,
        "classes": CLASSES,
        "draws": 3,
        "training images": 40,
    }
    assert "prototype, 3 draws, seed 5, image vectors, train shown (40 images)" in result.protocol


def test_more_shots_are_better_and_too_many_are_left_out(two):
    encoder, source, train = two
    result = run(encoder, source, train)
    assert result.primary == "1-shot top-1"
    tops = [result.metrics[f"{n}-shot top-1"].value for n in (1, 2, 4, 8)]
    assert tops[0] < tops[-1] and "16-shot top-1" not in result.metrics
    assert "16 shots left out: the class 'c0' of shown has 10 distinct images" in result.notes
    with pytest.raises(DataError, match=r"'c0' of shown has 10 .*, too few for 11 shots; ask"):
        run(encoder, source, train, shots=(11, 12))


def test_what_was_drawn_is_not_judged(two):
    encoder, _, train = two
    result = run(encoder, train, shots=(2, 9), draws=4)
    assert result.counts["images"] == 40
    # One image of each class is left in each draw: at most 16 questions of 40 images.
    assert 4 <= result.metrics["9-shot top-1"].items <= 16
    assert result.metrics["9-shot top-1"].items == result.metrics["2-shot top-1"].items
    with pytest.raises(DataError, match="too few for 10 shots and one to be judged"):
        run(encoder, train, shots=(10,))


def test_a_logistic_classifier_of_the_same_images(two):
    encoder, source, train = two
    linear = run(encoder, source, train, shots=(4,), method="logistic", decay=0.5)
    plain = run(encoder, source, train, shots=(4,))
    assert linear.metrics["4-shot top-1"].value > 0.5
    assert linear.metrics != plain.metrics
    assert "logistic, decay 0.5" in linear.protocol


def test_the_seed_draws_and_the_order_does_not(two, list_source):
    encoder, source, train = two
    first = run(encoder, source, train, shots=(1,))
    assert run(encoder, source, list_source(train.samples[::-1]), shots=(1,)).metrics == (
        first.metrics
    )
    assert run(encoder, source, train, shots=(1,), seed=1).metrics != first.metrics


def test_copies_are_one_shot(list_source, vectors):
    """A photograph under two keys is drawn once."""
    pairs = [Sample(f"k{i}", b"image %d" % (i // 2), (), {"class_name": "a"}) for i in range(6)]
    pairs += [Sample(f"l{i}", b"other %d" % i, (), {"class_name": "b"}) for i in range(6)]
    with pytest.raises(DataError, match="'a' of list has 3 distinct images, too few for 3 shots"):
        run(vectors({}), list_source(pairs), shots=(3,))
    result = run(vectors({}), list_source(pairs), shots=(2,), draws=1)
    assert result.metrics["2-shot top-1"].items == 5  # one photograph of a, four of b


def test_intervals_hold_over_draws():
    """Draws that disagree widen the interval; images alone give Wilson's."""
    rng = np.random.default_rng(0)
    image, draw = np.tile(np.arange(200), 5), np.repeat(np.arange(5), 200)
    even = np.full(1000, 1e-3)
    per_image = np.tile(rng.random(200) < 0.5, 5).astype(float)
    alone = few_shot.over_draws(per_image, even, image, draw)
    low, high = metrics.wilson(alone.value, 200)
    assert alone.items == 200 and (alone.low, alone.high) == pytest.approx((low, high), abs=1e-3)
    lucky = (rng.random(1000) < 0.2 + 0.15 * draw).astype(float)
    wide = few_shot.over_draws(lucky, even, image, draw)
    means = [lucky[draw == d].mean() for d in range(5)]
    assert (wide.high - wide.low) / 3.92 == pytest.approx(np.std(means, ddof=1) / 5**0.5, rel=0.15)
    sure = few_shot.over_draws(np.ones(1000), even, image, draw)
    assert (sure.value, sure.high, sure.items) == (1, 1, 200) and sure.low > 0.97


def test_faults():
    for options, words in (
        ({"shots": ()}, "shots"),
        ({"shots": (0, 1)}, "shots must be 1 or more"),
        ({"draws": 0}, "draws"),
        ({"decay": 0.0}, "decay"),
        ({"examples": -1}, "examples"),
    ):
        with pytest.raises(ConfigError, match=words):
            few_shot.build(few_shot.Config(**options))
