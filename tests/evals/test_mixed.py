"""One index of photos and captions: who is in it, who is right, and which kind comes first."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals import _mixed_index, mixed
from lift.evals._mixed_index import images_among, lay, right_items
from lift.evals._pairs import collect
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


def by_hand(source, encoder, ratio=(1, 1)):
    """Return how photos are laid, the texts, and the rows of the index."""
    pairs = collect(source, None, False)
    found = lay(pairs, source)
    held, asked = [[pairs.texts[c] for c in own] for own in (found.held, found.asked)]
    as_image = found.as_image(ratio)
    photos = [source.samples[p] for p in found.photo]
    there = [(p, text) for p, text, is_in in zip(photos, held, found.indexed, strict=True) if is_in]
    items = [
        encoder._row(photo.image if is_image else text)
        for (photo, text), is_image in zip(there, as_image, strict=True)
    ]
    return found, held, asked, np.stack(items), as_image


@pytest.mark.parametrize(("name", "ratio"), [("1:10", (1, 10)), ("1:1", (1, 1)), ("10:1", (10, 1))])
def test_one_list_equals_loops(near, list_source, name, ratio):
    source = list_source(samples(60))
    result = run(source, near)
    found, held, asked, items, as_image = by_hand(source, near, ratio)
    assert as_image.sum() == round(48 * ratio[0] / sum(ratio))
    hits, shares = [], []
    for n, (text, photo) in enumerate(
        zip(np.array(asked)[found.indexed], found.photo[found.indexed], strict=True)
    ):
        assert source.samples[photo].image  # the n-th item is of the n-th photo that is there
        order = np.argsort(-(items @ near._row(str(text))))
        hits.append(n in order[:10])
        shares.append(as_image[order[:10]].mean())
    value = {k: metric.value for k, metric in result.metrics.items()}
    hits = np.array(hits)
    assert value[f"{name} one list/R@10"] == pytest.approx(hits.mean())
    assert value[f"{name} one list/R@10 (as image)"] == pytest.approx(hits[as_image].mean())
    assert value[f"{name} one list/R@10 (as text)"] == pytest.approx(hits[~as_image].mean())
    assert value[f"{name} one list/images in top 10"] == pytest.approx(np.mean(shares))
    to_image = [
        near._row(t) @ near._row(source.samples[p].image)
        for t, p in zip(asked, found.photo, strict=True)
    ]
    to_text = [near._row(t) @ near._row(h) for t, h in zip(asked, held, strict=True)]
    assert value["image-text cosine"] == pytest.approx(np.mean(to_image), abs=1e-6)
    assert value["cosine gap"] == pytest.approx(np.mean(to_text) - np.mean(to_image), abs=1e-6)
    assert result.chance == pytest.approx(10 / 48)
    assert result.primary == "1:1 one list/R@10"


def test_who_is_where_does_not_depend_on_the_order(near, list_source):
    source = list_source(samples(60))
    found, held, asked, _, as_image = by_hand(source, near)
    assert as_image.sum() == 24 and len(set(held) | set(asked)) == 120
    assert found.indexed.sum() == 48 and found.half.sum() == 30
    for mine in (found.indexed, ~found.indexed):
        assert abs(found.half[mine].mean() - 0.5) <= 1 / mine.sum()
    # Images of one ratio are images of the next.
    few, many = found.as_image((1, 10)), found.as_image((10, 1))
    assert not (few & ~as_image).any() and not (as_image & ~many).any() and 0 < few.sum() < 10
    back = list_source(source.samples[::-1])
    other = by_hand(back, near)[0]
    keys = [source.samples[p].key for p in found.photo]
    assert keys == [back.samples[p].key for p in other.photo]
    first, second = run(source, near), run(back, near)
    for name, metric in first.metrics.items():
        assert second.metrics[name].value == pytest.approx(metric.value, abs=1e-6), name
    # Neither the first caption always asks, nor are images always the first keys.
    assert 5 < sum(text.startswith("caption 0") for text in asked) < 40
    assert keys != sorted(keys)


class Leaning:
    """Images lean in one direction by `image`, texts by `text`: a gap between the kinds."""

    name, saw = "leaning", ()

    def __init__(self, inner, image=0.0, text=0.0):
        self.inner, self.image, self.text = inner, image, text

    def encode_images(self, images):
        return self._leant(self.inner.encode_images(images), self.image)

    def encode_texts(self, texts):
        return self._leant(self.inner.encode_texts(texts), self.text)

    @staticmethod
    def _leant(rows, by):
        lean = np.concatenate([rows, np.full((len(rows), 1), by, np.float32)], 1)
        return lean / np.linalg.norm(lean, axis=1, keepdims=True)


def test_calibration_undoes_a_gap_that_one_list_suffers_from(near, list_source):
    """Texts share a direction that images lack: in one list they all come first."""
    source = list_source(samples(60))
    apart = {k: m.value for k, m in run(source, Leaning(near, text=1.5)).metrics.items()}
    assert apart["1:1 one list/images in top 10"] < 0.1
    assert apart["1:1 one list/R@10 (as image)"] < 0.15
    assert 0.3 < apart["1:1 calibrated/images in top 10"] < 0.7
    assert apart["1:1 calibrated/R@10"] > apart["1:1 one list/R@10"] + 0.15
    gain = apart["1:1 calibrated/R@10"] - apart["1:1 one list/R@10"]
    assert apart["1:1 calibrated - one list/R@10"] == pytest.approx(gain)
    # Turns between two lists don't see cosines.
    even = run(source, near).metrics
    for name in ("R@10", "R@1", "images in top 10"):
        same = apart[f"1:1 reciprocal rank/{name}"]
        assert same == pytest.approx(even[f"1:1 reciprocal rank/{name}"].value, abs=0.02)


def test_curves_and_thresholds_come_from_other_queries(near, list_source, monkeypatch):
    """What judges a half does not move when the vectors of that half's queries do."""
    source = list_source(samples(60))
    pairs = collect(source, None, False)
    laid, right = lay(pairs, source), right_items(pairs, lay(pairs, source))
    _, _, asked, items, as_image = by_hand(source, near)
    z = np.stack([near._row(text) for text in asked])
    moved = z.copy()
    moved[laid.half == 0] = moved[laid.half == 0][::-1]
    before = _mixed_index._calibrated(z, items, right, as_image, laid)
    after = _mixed_index._calibrated(moved, items, right, as_image, laid)
    assert before[1] == after[1] and before[0] != after[0]
    fitted = {}
    seen = _mixed_index.comparable

    def watched(scores, kinds, image, text):
        fitted[len(scores)] = (image, text)
        return seen(scores, kinds, image, text)

    monkeypatch.setattr(_mixed_index, "comparable", watched)
    laid.half[:5] = 1  # so that the halves are told apart by their sizes
    curves = _mixed_index._calibrated(z, items, right, as_image, laid)
    _mixed_index.search(z, items, right, as_image, laid)
    assert fitted == {
        int((laid.half == 0).sum()): curves[1],
        int((laid.half == 1).sum()): curves[0],
        # A line for the other half is drawn with what judges that half.
        int(((laid.half == 0) & ~laid.indexed).sum()): curves[0],
        int(((laid.half == 1) & ~laid.indexed).sum()): curves[1],
    }


def test_a_line_is_of_the_scale_of_what_it_judges():
    """The curves of both halves differ; a query without a match is measured by both."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal((100, 8)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    place = np.arange(100)
    indexed = place % 5 != 4
    laid = _mixed_index.Laid(place, place, place, indexed, place // 50)
    right = [np.array([n]) if n < 80 else np.array([], np.int64) for n in np.cumsum(indexed) - 1]
    right = [own if there else own[:0] for own, there in zip(right, indexed, strict=True)]
    as_image = laid.as_image((1, 1))
    answers = _mixed_index.search(z, z[indexed], right, as_image, laid)["calibrated"]
    curves = _mixed_index._calibrated(z, z[indexed], right, as_image, laid)
    for half in range(2):
        queries = np.flatnonzero(~indexed & (laid.half == half))
        scores = z[queries] @ z[indexed].T
        own, other = (
            _mixed_index.comparable(scores, as_image, *curves[h]).max(axis=1)
            for h in (half, 1 - half)
        )
        np.testing.assert_allclose(answers.line[queries], own, atol=1e-6)
        np.testing.assert_allclose(answers.top[queries], other, atol=1e-6)


def test_a_threshold_is_a_line_of_the_other_half():
    place, indexed = np.arange(80), np.arange(80) < 2
    laid = _mixed_index.Laid(place, place, place, indexed, place % 2)
    right = [place[n : n + 1] if n < 2 else place[:0] for n in range(80)]
    spot = metrics.Places(*np.array([[0, 0], [1, 1], [1, 1]]))
    line = np.where(place % 2 == 0, 1.0, 5.0)  # so half 1 is judged at 1, half 0 at 5
    answers = _mixed_index.Answers(spot, np.zeros(2), np.full(80, 3.0), line)
    ways = dict.fromkeys(_mixed_index.WAYS, answers)
    found, _ = mixed._no_match("1:1", ways, right, laid, None, 0.05)
    assert found["1:1 calibrated/false positives"].value == 0.5
    assert found["1:1 calibrated/right kept"].value == 0.5


def test_no_match_is_told_at_the_stated_rate(list_source, vectors):
    rng = np.random.default_rng(3)
    known = {}
    for i in range(400):
        centre = rng.standard_normal(16)
        for c in range(2):
            known[f"caption {c} of {i}"] = centre + 0.55 * rng.standard_normal(16)
        known[f"image {i}".encode()] = centre + 0.55 * rng.standard_normal(16)
    source = list_source(samples(400, 2))
    near = vectors(known)
    for share in (0.05, 0.2):
        found = run(source, near, false_positives=share, ratios=("1:1",)).metrics
        for way in ("one list", "calibrated"):
            rate = found[f"1:1 {way}/false positives"]
            assert rate.items == 80 and rate.low < share < rate.high
            assert found[f"1:1 {way}/right kept"].value > 0.3
    strict = run(source, near, false_positives=0.05, ratios=("1:1",)).metrics
    name = "1:1 one list/right kept"
    assert strict[name].value < found[name].value  # a higher rate lets more through
    few = run(list_source(source.samples[:60]), near)
    assert not any("kept" in name for name in few.metrics)
    assert any("can't state 5.00% false positives, 19 could" in note for note in few.notes)


def test_photos_of_one_caption_are_right_for_each_other(list_source, vectors):
    """A caption that another photo has too finds either of them."""
    pair = [
        Sample("a", b"image a", (Caption("a dog"), Caption("A dog"), Caption("dog  asleep"))),
        Sample("b", b"image b", (Caption("a dog"), Caption("dog asleep"))),
    ]
    planted = {"a dog": [1, 0], "dog asleep": [0, 1], b"image a": [1, 1], b"image b": [1, 1]}
    planted |= {"A dog": [1, 0], "dog  asleep": [0, 1]}
    result = run(list_source(pair), vectors(planted, 2))
    assert result.metrics["1:1 one list/R@1"].value == 1 and result.chance == 1


def test_photos_without_two_captions_are_counted(near, list_source):
    odd = [*samples(40), Sample("x", b"image 50", (Caption("caption 0 of 50"),))]
    odd.append(Sample("y", b"image 51", (Caption("same"), Caption("same"))))
    result = run(list_source(odd), near)
    assert result.counts == {
        "images": 42,
        "queries": 32,
        "queries without a match": 8,
        "photos without two captions": 2,
    }
    assert any(note.startswith("2 photos without two different captions") for note in result.notes)
    with pytest.raises(DataError, match="No photo of list has two different captions"):
        run(list_source(odd[40:]), near)
    assert not near.calls[1:]  # told before images are encoded
    with pytest.raises(ConfigError, match="examples"):
        mixed.build(mixed.Config(examples=-1))
    for wrong in (("1:0",), ("1:1", "1:1"), (), ("half",)):
        with pytest.raises(ConfigError, match="ratios must be different ones"):
            mixed.build(mixed.Config(ratios=wrong))
    with pytest.raises(ConfigError, match="false_positives must be above 0"):
        mixed.build(mixed.Config(false_positives=1.0))
    with pytest.raises(DataError, match="captions of role 'title'"):
        run(list_source(odd), near, role="title")


def test_a_held_out_query_that_matches_another_photo_is_none(vectors, list_source):
    shared = [
        Sample(f"k{i}", f"image {i}".encode(), (Caption("all alike"), Caption("alike all")))
        for i in range(20)
    ]
    result = run(list_source(shared), vectors({}))
    assert result.counts["queries without a match"] == 0
    assert result.counts["held-out queries that match another photo"] == 4


def test_ties_for_the_tenth_place_share_it():
    scores = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]], np.float32)
    as_image = np.array([False, True, True, False, True])
    found = images_among(scores, as_image, 2)
    assert found[0] == pytest.approx((2 / 3) / 2)
    assert images_among(scores, as_image, 5)[0] == pytest.approx(3 / 5)
