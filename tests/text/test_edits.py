"""Edits beside paraphrases: against loops over all pairs, bootstraps, and what can't be so."""

from __future__ import annotations

import numpy as np
import pytest

from lift.config import part
from lift.text.edits import Chosen, area, choose_texts, describe, nearer, sensitivity
from lift.text.encoder import build_encoder
from lift.text.geometry import unit_rows
from lift.text.pairs import Edit, PairSet


def clustered(seed: int, groups: int = 60) -> tuple[np.ndarray, ...]:
    """Return distances of edits and paraphrases, several a photo that lean the same way."""
    dice = np.random.default_rng(seed)
    sizes = dice.integers(1, 6, groups)
    photos = np.repeat(np.arange(groups), sizes)
    lean = dice.normal(size=groups)[photos]
    return (
        1.0 + 0.3 * (lean + dice.normal(size=len(photos))),
        photos,
        1.2 + 0.3 * (dice.normal(size=groups)),
        np.arange(groups),
    )


def test_area_counts_all_pairs() -> None:
    edits, photos, others, other_photos = clustered(0)
    edits[:3] = others[:3]  # ties are half
    expected = np.mean([0.5 if abs(a - b) <= 1e-6 else a > b for a in edits for b in others])
    found = area(edits, photos, others, other_photos)
    assert found.value == pytest.approx(float(expected), abs=1e-12)
    assert 0 <= found.low < found.value < found.high <= 1 and found.items == 60


@pytest.mark.parametrize("figure", ["area", "nearer", "mean"])
def test_intervals_are_those_of_photos_drawn_again(figure: str) -> None:
    edits, photos, others, _ = clustered(1)
    beside = others[photos]

    def value(chosen: np.ndarray) -> tuple[float, float, float]:
        at = np.concatenate([np.flatnonzero(photos == p) for p in chosen])
        names = np.concatenate(
            [np.full((photos == p).sum(), i) for i, p in enumerate(chosen)]
        ).astype(np.int64)
        if figure == "area":
            found = area(edits[at], names, others[chosen], np.arange(len(chosen)))
        elif figure == "nearer":
            found = nearer(edits[at], beside[at], names)
        else:
            found = describe(edits[at], names).mean
        return found.value, found.low, found.high

    dice = np.random.default_rng(2)
    drawn = [value(dice.integers(0, 60, 60))[0] for _ in range(600)]
    _, low, high = value(np.arange(60))
    half = 1.96 * float(np.std(drawn))
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_photos_that_lean_one_way_widen_the_interval() -> None:
    edits, photos, others, other_photos = clustered(3)
    wide = area(edits, photos, others, other_photos)
    single = area(edits, np.arange(len(edits)) + 1_000, others, other_photos)
    assert wide.high - wide.low > 1.15 * (single.high - single.low)


def test_ends_are_honest() -> None:
    none = nearer(np.ones(8), np.zeros(8), np.arange(8))
    assert none.value == 0 and none.low == 0 and 0.25 < none.high < 0.4
    assert nearer(np.zeros(4), np.zeros(4), np.arange(4)).value == 0.5
    one = describe(np.array([0.3, 0.5]), np.array([4, 4])).mean
    assert (one.low, one.high, one.items) == (0, 2, 1)


GROUPS = {
    "1": ("a dog chases a cat", "one dog runs after some cat", "the cat flees the dog"),
    "2": ("a red cup beside a blue plate", "crockery of two colours"),
}
EDITS = (
    Edit("order", "a dog chases a cat", "a cat chases a dog", "1"),
    Edit("order", "a red cup beside a blue plate", "a blue cup beside a red plate", "2"),
    Edit("order", "nobody else said this", "this said nobody else", "3"),
    Edit("object", "a dog chases a cat", "a dog chases a zebra", "1"),
)


def chosen(edits: tuple[Edit, ...] = EDITS) -> Chosen:
    return choose_texts(PairSet(edits, GROUPS), 100)


def test_a_bag_of_words_is_blind_to_order() -> None:
    bag = build_encoder(part("text/encoders", "hashing", dimensions=64, ngrams=1))
    texts = chosen()
    z = unit_rows(bag.encode(list(texts.texts)).rows, list(texts.texts))
    found = sensitivity(texts, z)
    known = {kind.name: kind for kind in found.kinds}
    assert known["order"].blind == 3 and known["order"].bound.quantiles[-1] < 1e-6
    assert known["order"].nearer is not None and known["order"].nearer.value == 1
    assert known["order"].compared == 2 and known["object"].blind == 0
    assert found.all.bound.count == 4 and found.all.compared == 3
    assert found.paraphrases is not None and found.paraphrases.count == 2  # one a caption
    assert found.unrelated is not None and found.unrelated.count == 3


def test_no_unit_vector_has_a_larger_margin() -> None:
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=8))
    texts = chosen()
    z = unit_rows(encoder.encode(list(texts.texts)).rows, list(texts.texts))
    row = dict(zip(texts.texts, z, strict=True))
    dice = np.random.default_rng(0)
    towers = unit_rows(dice.normal(size=(5_000, 8)), [""] * 5_000)
    bounds = []
    for edit in texts.edits:
        apart = row[edit.caption] - row[edit.text]
        bounds.append(float(np.linalg.norm(apart)))
        margins = towers @ apart
        assert 0.8 * bounds[-1] < margins.max() <= bounds[-1]
    assert sensitivity(texts, z).all.bound.median == pytest.approx(np.median(bounds))


def test_without_paraphrases_the_bound_remains() -> None:
    encoder = build_encoder(part("text/encoders", "hashing"))
    texts = choose_texts(PairSet((Edit("k", "a cat", "a dog"),)), 5)
    found = sensitivity(texts, unit_rows(encoder.encode(list(texts.texts)).rows, ["", ""]))
    assert found.all.nearer is None and found.all.auc is None and found.paraphrases is None
    assert found.unrelated is None and found.all.bound.median > 0.1
