"""Winoground: the three scores against every order of ties, who is a pair, and the oracle."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import winoground
from lift.terms import Caption, Sample


def side(pair, number, *captions, image=None, **fields):
    content = image or f"{pair}-{number}".encode()
    told = tuple(Caption(text) for text in captions or (f"text {pair} {number}",))
    return Sample(f"{pair}/{number}", content, told, {"pair": pair, **fields})


def run(samples, list_source, encoder, **options):
    evaluation = winoground.build(winoground.Config(**options))
    return evaluation.run(encoder, list_source(samples))


def test_scores_are_the_expectation_over_all_orders_of_ties():
    patterns = np.array(list(product(range(3), repeat=4)), dtype=np.float64)
    expected = np.zeros((len(patterns), 3))
    for at, pattern in enumerate(patterns.tolist()):
        for order in permutations(range(4)):
            a, b, c, d = zip(pattern, order, strict=True)  # images by captions: (a b), (c d)
            text, image = a > b and d > c, a > c and d > b
            expected[at] += np.array([text and image, text, image]) / 24
    noise = np.random.default_rng(0).uniform(-2e-7, 2e-7, patterns.shape)
    found = winoground.credits((patterns + noise).reshape(-1, 2, 2))
    np.testing.assert_allclose(np.stack(found, axis=1), expected)
    same = expected[np.ptp(patterns, axis=1) == 0]
    np.testing.assert_allclose(same, [[1 / 6, 1 / 4, 1 / 4]] * 3)


def test_pairs_may_lie_anywhere_and_what_is_none_is_counted(list_source, vectors):
    known = {"text p 0": [1, 0], "text p 1": [0, 1], b"p-0": [1, 0], b"p-1": [0, 1]}
    known |= {"text q 0": [1, 0], "text q 1": [0, 1], b"q-0": [0.9, 0.1], b"q-1": [0.8, 0.2]}
    samples = [
        *(side("p", 0, kind="o"), side("q", 0, kind="r"), side("alone", 0)),
        *(side("q", 1, kind="r"), side("p", 1, kind="o"), side("", 0)),
        *(side("three", n) for n in range(3)),
    ]
    result = run(samples, list_source, vectors(known, 2), kind="kind")
    values = {name: figure.value for name, figure in result.metrics.items()}
    # Both images of q like its first caption better; each caption likes its own image better.
    assert values == {
        "group score": 0.5,
        "text score": 0.5,
        "image score": 1.0,
        "group score/o": 1.0,
        "group score/r": 0.0,
    }
    assert result.counts == {
        "images": 4,
        "items": 2,
        "ties": 0,
        "images of no pair": 1,
        "images whose pair has not two": 4,
    }
    assert result.chance == 1 / 6
    first = next(example for example in result.examples if example["pair"] == "p")
    assert first == {
        "key": "p/0",
        "index": 0,
        "other_key": "p/1",
        "other_index": 4,
        "item": 0,
        "pair": "p",
        "captions": ["text p 0", "text p 1"],
        "scores": [[1.0, 0.0], [0.0, 1.0]],
        "right": True,
    }


def test_other_captions_in_the_images_place(list_source, vectors):
    known = {"a": [1, 0], "b": [0, 1], "like a": [0.9, 0.1], "like b": [0.1, 0.9]}
    told = [("a", "like a", " a"), ("b", "like b", "like b")]
    samples = [side("p", n, *texts) for n, texts in enumerate(told)]
    samples += [side("q", n, text) for n, text in enumerate("ab")]
    result = run(samples, list_source, vectors({**known, b"p-0": [1, 1], b"p-1": [1, 1]}, 2))
    assert result.metrics["group score (oracle)"].value == 1.0
    assert result.metrics["group score (oracle)"].items == 1
    assert result.counts["pairs without other captions"] == 1


def test_captions_with_one_vector_are_told(list_source, vectors):
    samples = [side("p", 0), side("p", 1), side("q", 0), side("q", 1)]
    result = run(samples, list_source, vectors({"text p 0": [1, 0], "text p 1": [1, 0]}, 2))
    assert result.counts["pairs whose captions have one vector"] == 1
    assert any("1 of 2 pairs have captions with the same vector" in n for n in result.notes)


def test_pairs_of_one_image_are_one_item(list_source, vectors):
    samples = [side(f"{n}", k, image=f"image {k}".encode()) for n in range(12) for k in (0, 1)]
    result = run(samples, list_source, vectors({}))
    apart = run([side(f"{n}", k) for n in range(12) for k in (0, 1)], list_source, vectors({}))
    assert apart.metrics["text score"].items == 12
    assert result.metrics["text score"].items < 12


def test_what_is_wrong_is_said(list_source, vectors):
    with pytest.raises(DataError, match="no two images with the same 'pair' field"):
        run([side("a", 0), side("b", 0)], list_source, vectors({}))
    with pytest.raises(ConfigError, match=r"winoground\.examples"):
        winoground.build(winoground.Config(examples=-1))
    with pytest.raises(ConfigError, match="the field that pairs"):
        winoground.build(winoground.Config(pair=""))
