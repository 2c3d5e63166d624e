"""Compositional: kinds, ties, and one cluster an image."""

from __future__ import annotations

import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _encode, compositional
from lift.terms import Caption, Foil, Sample

PLANTED = {"right": [1, 0], "wrong": [0, 1], "same": [1, 0], b"image": [1, 0], b"other": [1, 0]}


def sample(key, image, *foils):
    return Sample(key, image, (Caption("right"),), foils=tuple(Foil(*foil) for foil in foils))


def run(source, encoder):
    return compositional.build(compositional.Config()).run(encoder, source)


@pytest.mark.parametrize("chunk", [1, 2, 256])
def test_kinds_means_and_ties(chunk, list_source, vectors, monkeypatch):
    monkeypatch.setattr(_encode, "CHUNK", chunk)
    samples = [
        sample("a", b"image", ("add", "right", "wrong"), ("swap", "wrong", "right")),
        sample("b", b"other", ("add", "right", "wrong"), ("add", "right", "same")),
        sample("c", b"image", ("add", "right", "wrong")),
        sample("d", b"image"),
    ]
    result = run(list_source(samples), vectors(PLANTED, 2))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values == {
        "accuracy/mean of kinds": pytest.approx((3.5 / 4 + 0) / 2),
        "accuracy/all items": pytest.approx(3.5 / 5),
        "accuracy/add": pytest.approx(3.5 / 4),
        "accuracy/swap": 0,
    }
    # "a" and "c" are one photograph under two keys: one cluster.
    assert result.counts == {"images": 2, "items": 5, "ties": 1, "images without foils": 1}
    assert result.metrics["accuracy/add"].items == 2
    assert "ties, counted half: 1" in result.notes and result.chance == 0.5
    first = next(example for example in result.examples if example["kind"] == "swap")
    assert first == {
        "key": "a",
        "index": 0,
        "kind": "swap",
        "caption": "wrong",
        "foil": "right",
        "caption_score": 0.0,
        "foil_score": 1.0,
        "right": False,
    }


def test_no_foils_stop(list_source, vectors):
    with pytest.raises(DataError, match="list holds no foils"):
        run(list_source([sample("a", b"image")]), vectors(PLANTED, 2))


def test_negative_examples_stop():
    with pytest.raises(ConfigError, match=r"compositional\.examples"):
        compositional.build(compositional.Config(examples=-1))


def test_one_question_of_many_images_is_counted_as_such(list_source, vectors):
    asked = [("add", f"right {n}", f"wrong {n}") for n in range(10)]
    shared = [sample(f"k{i}", f"image {i}".encode(), asked[i % 10]) for i in range(60)]
    alone = [
        sample(f"k{i}", f"image {i}".encode(), ("add", f"right {i}", f"wrong {i}"))
        for i in range(60)
    ]
    result = run(list_source(shared), vectors({}))
    assert all(figure.items == 10 for figure in result.metrics.values())
    assert all(f.items == 60 for f in run(list_source(alone), vectors({})).metrics.values())
