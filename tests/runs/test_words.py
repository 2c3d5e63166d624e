"""The other wordings say the same in words that no caption has."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from frame.words import PRODUCTS, REPLACED, SCENES, only_word, require_unseen, reworded

from lift.data.source import open_source


def test_scenes_in_other_words() -> None:
    source = open_source("scenes:count=1500,seed=1,resolution=48,short=2,long=0")
    captions = [caption.text for _, captions in source.texts() for caption in captions]
    require_unseen(SCENES, captions)
    seen = {word for text in captions for word in text.split()}
    kept = {word for text in captions for word in reworded(text, SCENES).split()} & seen
    # What stays the same: articles, grounds of the background, and words that join others.
    grounds = {"white", "grey", "black", "beige", "navy", "mint", "plain", "fading", "noisy"}
    assert kept <= grounds | {"a", "an", "and", "of", "on", "the", "with", "checkered"}
    told = reworded("two squares on the left of an orange star", SCENES)
    assert told == "a couple of boxes on the left-hand side of a tangerine pentagram"


def test_a_new_wording_that_was_trained_on_is_refused() -> None:
    with pytest.raises(ValueError, match="crimson"):
        require_unseen(SCENES, ["a crimson circle"])


def test_products_in_other_words_and_with_one_word_replaced() -> None:
    assert reworded("Puma Men Black T-Shirt", PRODUCTS) == "Puma Gentlemen Ebony Tee"
    assert only_word("Puma Men Black T-Shirt", REPLACED["replace_colour"]) == "black"
    assert only_word("Puma Men Black T-Shirt", REPLACED["replace_type"]) == "t-shirt"
    assert only_word("Puma Black White Shirt", REPLACED["replace_colour"]) is None
    assert only_word("Puma Shirt", REPLACED["replace_wearer"]) is None


@pytest.mark.slow
def test_sets_keep_choosing_and_reporting_apart(shared_data: Path, tmp_path: Path) -> None:
    from frame.sets import SETS, get

    for name in SETS:
        of = get(name, shared_data, tmp_path)
        keys = {
            part: {key for key, _ in open_source(spec).texts()}
            for part, spec in (("choose", of.choose), ("test", of.test), ("train", of.train))
        }
        assert not keys["choose"] & keys["test"], name
        if name != "emoji":  # the same emoji, drawn by another hand
            assert not keys["train"] & (keys["choose"] | keys["test"]), name
        assert all(len(keys[part]) >= 300 for part in keys)
        for words in of.evaluations.values():
            assert "data=[" in words


def test_foils_of_products_are_not_told_by_how_common_a_word_is(
    shared_data: Path, tmp_path: Path
) -> None:
    from frame import sets

    test = shared_data / "fashion-products" / "test.parquet"
    sets._product_foils(test, tmp_path)
    titles = pq.read_table(test, columns=["title"])["title"].to_pylist()
    for kind, words in REPLACED.items():
        many = Counter(only_word(title, words) for title in titles)
        asked = json.loads((tmp_path / f"{kind}.json").read_text())
        pairs = [
            [only_word(entry[name], words) for name in ("caption", "negative_caption")]
            for entry in asked.values()
        ]
        assert len(pairs) > 800 and all(true and foil and true != foil for true, foil in pairs)
        commoner = sum((many[a] > many[b]) + (many[a] == many[b]) / 2 for a, b in pairs)
        assert commoner / len(pairs) == pytest.approx(0.5, abs=0.05)
        assert not any(a in ("shirt", "t-shirt") and b in ("shirt", "t-shirt") for a, b in pairs)
