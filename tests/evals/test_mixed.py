"""One index of photos and captions: who is in it, who is right, and which kind comes first."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals import mixed
from lift.terms import Caption, Sample


def samples(count, captions=3):
    return [
        Sample(
            f"k{i}",
            f"image {i}".encode(),
            tuple(Caption(f"caption {c} of {i}") for c in range(captions)),
        )
        for i in range(count)
    ]


def run(source, encoder, **options):
    return mixed.build(mixed.Config(**options)).run(encoder, source)


@pytest.fixture
def near(vectors):
    """Return an encoder in which captions of a photo are alike, and its image a little."""
    rng = np.random.default_rng(0)
    known = {}
    for i in range(60):
        centre = rng.standard_normal(12)
        for c in range(3):
            known[f"caption {c} of {i}"] = centre + 0.5 * rng.standard_normal(12)
        known[f"image {i}".encode()] = centre + 0.9 * rng.standard_normal(12)
    return vectors(known)


def by_hand(source, encoder):
    """Return the captions that are held and that ask, and who stands there as an image."""
    found = mixed._lay(mixed.collect(source, None, False), source)
    texts = [caption.text for sample in source.samples for caption in sample.captions]
    held, asked = [[texts[c] for c in own] for own in (found.held, found.asked)]
    items = [
        encoder._row(source.samples[p].image if as_image else text)
        for p, text, as_image in zip(found.photo, held, found.as_image, strict=True)
    ]
    return found, held, asked, np.stack(items)


def test_equals_loops(near, list_source):
    source = list_source(samples(60))
    result = run(source, near)
    found, held, asked, items = by_hand(source, near)
    hits, shares, to_image, to_text = {1: [], 5: [], 10: []}, [], [], []
    for n, text in enumerate(asked):
        z = near._row(text)
        order = np.argsort(-(items @ z))
        for k, own in hits.items():
            own.append(n in order[:k])
        shares.append(found.as_image[order[:10]].mean())
        to_image.append(z @ near._row(source.samples[n].image))
        to_text.append(z @ near._row(held[n]))
    value = {name: metric.value for name, metric in result.metrics.items()}
    for k, own in hits.items():
        own = np.array(own)
        assert value[f"R@{k}"] == pytest.approx(own.mean())
        assert value[f"R@{k} (as image)"] == pytest.approx(own[found.as_image].mean())
        assert value[f"R@{k} (as text)"] == pytest.approx(own[~found.as_image].mean())
    assert value["images in top 10"] == pytest.approx(np.mean(shares))
    assert value["image-text cosine"] == pytest.approx(np.mean(to_image), abs=1e-6)
    assert value["text-text cosine"] == pytest.approx(np.mean(to_text), abs=1e-6)
    gap = np.array(to_text) - np.array(to_image)
    assert value["cosine gap"] == pytest.approx(gap.mean(), abs=1e-6)
    reach = 1.96 * gap.std(ddof=1) / 60**0.5
    assert result.metrics["cosine gap"].high == pytest.approx(gap.mean() + reach, rel=1e-3)
    assert value["R@1 (as text)"] > value["R@1 (as image)"] > 0.1
    assert result.chance == pytest.approx(10 / 60)


def test_half_stand_as_images_whatever_the_order(near, list_source):
    source = list_source(samples(60))
    found, held, asked, _ = by_hand(source, near)
    assert found.as_image.sum() == 30 and len(set(held) | set(asked)) == 120
    kept = dict(zip(asked, found.as_image, strict=True))
    back = list_source(source.samples[::-1])
    other, _, asked_back, _ = by_hand(back, near)
    assert dict(zip(asked_back, other.as_image, strict=True)) == kept
    first, second = run(source, near), run(back, near)
    for name, metric in first.metrics.items():
        assert second.metrics[name].value == pytest.approx(metric.value), name
    # Neither the first caption always asks, nor the first half of the keys is always an image.
    assert 5 < sum(text.startswith("caption 0") for text in asked) < 40
    assert 5 < found.as_image[:30].sum() < 25


def test_images_that_push_ahead_are_seen(near, list_source):
    """A direction that all images share with all texts fills the first ten with images."""

    class Leaning(type(near)):
        def encode_images(self, images):
            rows = super().encode_images(images)
            lean = rows + 3 * np.full(12, 12**-0.5, np.float32)
            return lean / np.linalg.norm(lean, axis=1, keepdims=True)

        def encode_texts(self, texts):
            rows = super().encode_texts(texts) + 2 * np.full(12, 12**-0.5, np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    source = list_source(samples(60))
    even = run(source, near).metrics
    lean = run(source, Leaning(near.known, 12)).metrics
    assert 0.3 < even["images in top 10"].value < 0.7
    assert lean["images in top 10"].value > even["images in top 10"].value + 0.15


def test_photos_of_one_caption_are_right_for_each_other(list_source, vectors):
    """A caption that another photo has too finds either of them."""
    pair = [
        Sample("a", b"image a", (Caption("a dog"), Caption("A dog"), Caption("dog  asleep"))),
        Sample("b", b"image b", (Caption("a dog"), Caption("dog asleep"))),
    ]
    planted = {"a dog": [1, 0], "dog asleep": [0, 1], b"image a": [1, 1], b"image b": [1, 1]}
    planted |= {"A dog": [1, 0], "dog  asleep": [0, 1]}
    result = run(list_source(pair), vectors(planted, 2))
    assert result.metrics["R@1"].value == 1 and result.chance == 1


def test_photos_without_two_captions_are_counted(near, list_source):
    odd = [*samples(40), Sample("x", b"image 50", (Caption("caption 0 of 50"),))]
    odd.append(Sample("y", b"image 51", (Caption("same"), Caption("same"))))
    result = run(list_source(odd), near)
    assert result.counts == {
        "images": 42,
        "queries": 40,
        "photos as images": 20,
        "photos as captions": 20,
        "photos without two captions": 2,
    }
    assert any(note.startswith("2 photos without two different captions") for note in result.notes)
    with pytest.raises(DataError, match="No photo of list has two different captions"):
        run(list_source(odd[40:]), near)
    assert not near.calls[1:]  # told before images are encoded
    with pytest.raises(ConfigError, match="examples"):
        mixed.build(mixed.Config(examples=-1))
    with pytest.raises(DataError, match="captions of role 'title'"):
        run(list_source(odd), near, role="title")


def test_ties_for_the_tenth_place_share_it():
    scores = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]], np.float32)
    as_image = np.array([False, True, True, False, True])
    found = mixed.images_among(scores, as_image, 2)
    assert found[0] == pytest.approx((2 / 3) / 2)
    assert mixed.images_among(scores, as_image, 5)[0] == pytest.approx(3 / 5)


def test_the_mean_of_clusters():
    values = np.array([0.1, 0.3, 0.5, 0.5])
    alone = mixed.mean_of(values)
    assert alone.value == pytest.approx(0.35) and alone.items == 4
    half = metrics.Z95 * values.std(ddof=1) / 2
    assert alone.high - alone.value == pytest.approx(half)
    doubled = mixed.mean_of(np.repeat(values, 3), np.repeat(np.arange(4), 3))
    assert doubled.items == 4 and doubled.high == pytest.approx(alone.high)
