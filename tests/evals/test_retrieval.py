"""Retrieval: protocols, roles, shared captions and blocks against loops."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _encode, retrieval
from lift.terms import Caption, Sample


def sample(number, *texts, role="caption"):
    captions = tuple(t if isinstance(t, Caption) else Caption(t, role) for t in texts)
    return Sample(f"k{number}", f"image {number}".encode(), captions)


def many(rng, images=30, titles=12):
    """One to four captions an image from few titles, so that many images share some."""
    return [
        sample(i, *(f"title {t}" for t in rng.integers(0, titles, rng.integers(1, 5))))
        for i in range(images)
    ]


def loops(samples, encoder, strict):
    """Return ranks of the first right item in both directions; ties only among equal texts."""
    texts = [(i, c.text.strip()) for i, s in enumerate(samples) for c in s.captions]
    z_image = encoder.encode_images([s.image for s in samples]).astype(np.float64)
    z_text = encoder.encode_texts([t for _, t in texts]).astype(np.float64)

    def right(image, at):
        owner, text = texts[at]
        if strict:
            return owner == image
        return any(text == c.text.strip() for c in samples[image].captions)

    def rank(score, truth):
        best = max(s for s, t in zip(score, truth, strict=True) if t)
        tied = [t for s, t in zip(score, truth, strict=True) if abs(s - best) < 1e-9]
        ahead = sum(s > best + 1e-9 for s in score)
        return ahead + (len(tied) + 1) / (sum(tied) + 1)

    to_image = [
        rank(z_image @ z_text[at], [right(i, at) for i in range(len(samples))])
        for at in range(len(texts))
    ]
    to_text = [
        rank(z_text @ z_image[i], [right(i, at) for at in range(len(texts))])
        for i in range(len(samples))
    ]
    return np.array(to_image), np.array(to_text)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_equals_loops(seed, block, list_source, vectors, monkeypatch):
    monkeypatch.setattr(_encode, "BLOCK", block)
    samples, encoder = many(np.random.default_rng(seed)), vectors({})
    result = retrieval.build(retrieval.Config()).run(encoder, list_source(samples))
    for mark, strict in (("", False), (" (strict)", True)):
        for name, ranks in zip(
            ("text_to_image", "image_to_text"), loops(samples, encoder, strict), strict=True
        ):
            found = result.metrics[f"{name}/median rank{mark}"].value
            assert found == pytest.approx(np.median(ranks)), (name, mark)
            if strict and name == "image_to_text":
                continue  # captions equal to one's own tie with it: recall is then a fraction
            for k in (1, 5, 10):
                found = result.metrics[f"{name}/R@{k}{mark}"].value
                assert found == pytest.approx(np.mean(ranks <= k)), (name, k, mark)


def test_any_image_with_the_caption_is_right_and_strict_stands_beside(list_source, vectors):
    samples = [sample(0, "red shoe"), sample(1, "red shoe "), sample(2, "blue shoe")]
    planted = {b"image 0": [1, 0, 0], b"image 1": [0.9, 0.1, 0], b"image 2": [0, 0, 1]}
    planted |= {"red shoe": [1, 0, 0], "red shoe ": [1, 0, 0], "blue shoe": [0, 0, 1]}
    result = retrieval.build(retrieval.Config()).run(vectors(planted), list_source(samples))
    assert result.metrics["text_to_image/R@1"].value == 1
    assert result.metrics["text_to_image/R@1 (strict)"].value == pytest.approx(2 / 3)
    # Both red shoes have the same text: which of the two comes first is a coin's toss.
    assert result.metrics["image_to_text/R@1"].value == 1
    assert result.metrics["image_to_text/R@1 (strict)"].value == pytest.approx(2 / 3)
    assert result.counts == {"images": 3, "captions": 3, "distinct captions": 2}
    assert any(note.startswith("2 of 3 captions belong to several images") for note in result.notes)


def test_strict_is_left_out_where_no_caption_is_shared(list_source, vectors):
    samples = [sample(0, "a", "a"), sample(1, "b", "c")]
    result = retrieval.build(retrieval.Config()).run(vectors({}), list_source(samples))
    assert not [name for name in result.metrics if "strict" in name] and result.notes == ()


def test_protocols_are_labelled_and_differ(list_source, vectors):
    source = list_source([sample(i, f"first {i}", f"second {i}") for i in range(20)])
    first = retrieval.build(retrieval.Config(protocol="first-caption")).run(vectors({}), source)
    every = retrieval.build(retrieval.Config()).run(vectors({}), source)
    assert (first.protocol, every.protocol) == ("first-caption", "all-captions")
    assert (first.counts["captions"], every.counts["captions"]) == (20, 40)
    assert every.metrics["text_to_image/R@10"].items == 20  # images, not captions
    assert first.chance == pytest.approx(10 / 20)
    asked = [e["query"] for e in first.examples if "query" in e]
    assert asked and all(text.startswith("first") for text in asked)


def test_role_takes_only_its_captions(list_source, vectors):
    samples = [
        sample(i, Caption(f"short {i}", "short"), Caption(f"long {i}", "long")) for i in range(12)
    ]
    samples.append(sample(12, Caption("only long", "long")))
    result = retrieval.build(retrieval.Config(role="short", protocol="first-caption")).run(
        vectors({}), list_source(samples)
    )
    assert result.protocol == "first-caption, role short"
    assert result.counts["captions"] == 12
    assert result.counts["images without a caption"] == 1
    assert result.metrics["image_to_text/R@1"].items == 12
    with pytest.raises(DataError, match=r"no captions of role 'title'.*its roles are long, short"):
        retrieval.build(retrieval.Config(role="title")).run(vectors({}), list_source(samples))


def test_images_are_read_once_and_in_chunks(list_source, vectors, monkeypatch):
    monkeypatch.setattr(_encode, "CHUNK", 8)
    source, encoder = list_source([sample(i, f"text {i}") for i in range(20)]), vectors({})
    retrieval.build(retrieval.Config()).run(encoder, source)
    assert encoder.calls == [8, 8, 4] and source.reads == 20


def test_examples_hold_what_the_report_shows(list_source, vectors):
    source = list_source([sample(i, f"text {i}") for i in range(30)])
    result = retrieval.build(retrieval.Config()).run(vectors({}), source)
    to_image = [e for e in result.examples if e["direction"] == "text_to_image"]
    to_text = [e for e in result.examples if e["direction"] == "image_to_text"]
    assert len(to_image) == len(to_text) == 8
    for example in to_image:
        assert example["query"] == source.samples[example["index"]].captions[0].text
        assert [t["score"] for t in example["top"]] == sorted(
            (t["score"] for t in example["top"]), reverse=True
        )
        assert example["right"] == (example["rank"] == 1) == example["top"][0]["right"]
        assert [t["right"] for t in example["top"]] == [
            t["key"] == example["key"] for t in example["top"]
        ]
    assert all("query" not in e and {"text", "score"} <= e["top"][0].keys() for e in to_text)


def test_negative_examples_stop():
    with pytest.raises(ConfigError, match=r"retrieval\.examples"):
        retrieval.build(retrieval.Config(examples=-1))


@pytest.mark.parametrize("mark", ["", " (strict)"])
def test_intervals_know_of_shared_titles(mark, list_source, vectors):
    """300 images with 30 titles say as much as 30 queries: both ways, strict or not."""
    samples = [sample(i, f"title {i % 30}") for i in range(300)]
    rng = np.random.default_rng(0)
    planted = {}
    for title in range(30):
        row = rng.standard_normal(40)
        planted[f"title {title}"] = row
        wrong = rng.standard_normal(40)
        for i in range(title, 300, 30):
            planted[f"image {i}".encode()] = row if title % 2 else wrong
    result = retrieval.build(retrieval.Config()).run(vectors(planted, 40), list_source(samples))
    for name in ("text_to_image", "image_to_text"):
        figure = result.metrics[f"{name}/R@10{mark}"]
        assert figure.items == 30, name
        if not mark:
            assert figure.high - figure.low > 0.3, name
        assert result.metrics[f"{name}/median rank{mark}"].items == 30


def test_intervals_without_shared_titles_stay(list_source, vectors):
    samples = [sample(i, f"text {i}", f"other {i}") for i in range(50)]
    result = retrieval.build(retrieval.Config()).run(vectors({}), list_source(samples))
    assert all(figure.items == 50 for figure in result.metrics.values())


def test_mean_average_precision_is_that_of_all_right_items(list_source, vectors):
    """Two captions of an image at ranks 1 and 3: precision 1 and 2/3."""
    samples = [sample(0, "a", "c"), sample(1, "b")]
    planted = {b"image 0": [1, 0], b"image 1": [0, 1], "a": [1, 0], "b": [0.9, 0.5], "c": [0, 1]}
    result = retrieval.build(retrieval.Config()).run(vectors(planted, 2), list_source(samples))
    expected = ((1 + 2 / 3) / 2 + 1 / 2) / 2  # the second image's caption comes second
    assert result.metrics["image_to_text/mAP"].value == pytest.approx(expected)
    assert result.metrics["text_to_image/mAP"].value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert "image_to_text/mAP (strict)" not in result.metrics


def test_captions_that_are_cut_are_counted(list_source, vectors):
    samples = [sample(0, "short"), sample(1, "much longer"), sample(2, "the longest of all")]
    encoder = vectors({})
    silent = retrieval.build(retrieval.Config()).run(encoder, list_source(samples))
    encoder.cut = lambda texts: np.array([len(text) > 8 for text in texts])
    told = retrieval.build(retrieval.Config()).run(encoder, list_source(samples))
    words = "2 of 3 captions are longer than the text encoder takes and were cut"
    assert told.counts["captions cut"] == 2 and words in told.notes
    assert "captions cut" not in silent.counts and not any("cut" in n for n in silent.notes)
    encoder.cut = lambda texts: None  # nobody can tell
    unknown = retrieval.build(retrieval.Config()).run(encoder, list_source(samples))
    assert unknown.counts == silent.counts and unknown.notes == silent.notes
