"""Cards: the same for the same texts, complete, and told in plain words."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from lift.config import Part, part
from lift.errors import ConfigError, DataError, NotFinite
from lift.text.card import card, choose_captions, licence_of, name_of, without_speed
from lift.text.encoder import EncodedTexts, build_encoder
from lift.text.encoders import minilm
from lift.text.figures import Card
from lift.text.lines import as_table, lines_of, notes_of
from lift.text.pairs import Edit, PairSet

HASHING = part("text/encoders", "hashing", dimensions=32, max_tokens=9)
COLOURS = ("red", "green", "blue", "black")
THINGS = ("dog", "cat", "boat", "kite", "table")
CAPTIONS = [
    f"a {one} {thing} on a {two} {other}"
    for one in COLOURS
    for two in COLOURS
    for thing in THINGS
    for other in THINGS
    if one != two and thing != other
]


def test_the_sample_is_the_same_for_every_order() -> None:
    mixed = [*CAPTIONS, *reversed(CAPTIONS), " ", ""]
    few, again = choose_captions(mixed, 50), choose_captions(reversed(mixed), 50)
    assert few == again and len(few.texts) == len(set(few.texts)) == 50
    assert few.read == 2 * len(CAPTIONS) + 2 and few.empty == 2 and not few.whole
    most = choose_captions(iter(mixed), 10_000)
    assert most.whole and sorted(most.texts) == sorted(CAPTIONS)
    assert most.texts[:50] == few.texts  # smaller samples are the beginning of larger ones
    assert choose_captions(mixed, len(CAPTIONS)).whole


def test_a_card_depends_on_texts_and_encoder_alone() -> None:
    one = [without_speed(c) for c in card([HASHING], CAPTIONS, limit=100)]
    assert one == [without_speed(c) for c in card([HASHING], reversed(CAPTIONS), limit=100)]
    other = card([part("text/encoders", "hashing", dimensions=32, seed=1)], CAPTIONS, limit=100)
    assert without_speed(other[0]).spread != one[0].spread


def test_figures_are_all_there_and_fit_together() -> None:
    (found,) = card([HASHING], CAPTIONS, limit=100)
    assert found.captions == 100 and found.read == len(CAPTIONS) and not found.whole
    assert found.spread.rows == 100 and found.spread.dimensions == 32
    assert found.storage == {"float32": 128, "float16": 64, "int8": 36, "int4": 20}
    assert [p.width for p in found.prefixes] == [16, 8]
    assert all(10 / 99 < p.agreement < 1 for p in found.prefixes)
    assert found.tokens.known and found.tokens.longest == 7 and found.tokens.truncated == 0
    assert found.neighbours.closest[0][0] == max(found.neighbours.curve)
    values = [cosine for cosine, _, _ in found.neighbours.closest]
    assert values == sorted(values, reverse=True)
    speed = found.speed
    assert speed.seconds > 0
    assert speed.captions_per_second == pytest.approx(100 / speed.seconds)
    assert speed.tokens_per_second == pytest.approx(700 / speed.seconds)
    # Without files of pairs, edits are made by rule.
    assert found.sensitivity is not None and found.pairs == "made by rule"
    assert {"swap", "replace", "reorder"} >= {kind.name for kind in found.sensitivity.kinds}


def test_pairs_bring_captions_and_edits() -> None:
    edits = tuple(Edit("k", text, f"no {text}", str(i)) for i, text in enumerate(CAPTIONS[:30]))
    groups = {str(i): (text, f"{text} there") for i, text in enumerate(CAPTIONS[:30])}
    (found,) = card([HASHING], None, PairSet(edits, groups, about="mine"), limit=40)
    assert found.read == 90 and found.captions == 40 and found.pairs == "mine"
    assert found.sensitivity is not None and found.sensitivity.all.compared == 30
    (made,) = card([HASHING], CAPTIONS, PairSet((), groups), limit=40)
    assert made.pairs == "made by rule"
    assert made.sensitivity is not None and made.sensitivity.all.compared == 40


def test_cut_captions_and_equal_rows_are_told() -> None:
    short = part("text/encoders", "hashing", dimensions=32, max_tokens=3)
    (found,) = card([short], CAPTIONS[:60])
    assert found.tokens.truncated == 60 and found.tokens.longest == 7
    notes = " ".join(notes_of(found))
    assert "60 of 60 captions are longer than 3 tokens and were cut." in notes
    assert "60 of 60 distinct captions have the row of another one" in notes
    assert found.neighbours.over_99 == 1 and found.neighbours.collisions == 60
    assert "the very row of their caption" in notes


def test_the_table_puts_encoders_side_by_side() -> None:
    parts = [HASHING, part("text/encoders", "hashing", dimensions=16, ngrams=1, max_tokens=9)]
    cards = card(parts, CAPTIONS, limit=60)
    text = as_table(cards)
    head = text.split("\n")[0]
    assert "hashing (dimensions=32, ngrams=2)" in head and "dimensions=16, ngrams=1" in head
    assert all(line.name in text for found in cards for line in lines_of(found))
    assert cards[0].table().split("\n")[0].split() == ["hashing"]
    assert all(line.says or line.section == "identity" for line in lines_of(cards[0]))


class Broken:
    """An encoder whose first row is damaged."""

    def __init__(self, value: float) -> None:
        self._inner, self._value = build_encoder(HASHING), value
        for name in ("space", "part", "saw", "device", "matryoshka", "probes"):
            setattr(self, name, getattr(self._inner, name))

    def encode(self, texts, *, precision="float32", token_budget=None) -> EncodedTexts:
        found = self._inner.encode(texts)
        rows = found.rows.copy()
        rows[0] = self._value
        return dataclasses.replace(found, rows=rows)


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_damaged_rows_stop(value: float) -> None:
    with pytest.raises(NotFinite, match="NaN, infinity or only zeros for 1 caption"):
        card([Broken(value)], CAPTIONS[:10])


def test_too_little_is_refused() -> None:
    with pytest.raises(DataError, match="1 taken"):
        card([HASHING], ["a cat", " a cat", ""])
    with pytest.raises(DataError, match="0 were read"):
        card([HASHING])
    with pytest.raises(ConfigError, match="an encoder"):
        card([], CAPTIONS)
    (two,) = card([HASHING], ["猫", "犬"])  # nothing to edit, nothing to rank
    assert two.sensitivity is None and two.prefixes == ()


def test_names_and_licences(tmp_path: Path) -> None:
    assert name_of(build_encoder(HASHING)) == "hashing"
    model = tmp_path / "my-model"
    model.mkdir()
    mine = Part("text/encoders", "sentence_transformer", {"model": str(model)})
    assert licence_of(mine) == "" == licence_of(HASHING)
    for text, expected in (
        ("---\ntags:\n- x\nlicense: 'apache-2.0'\n---\n", "apache-2.0"),
        ("---\ntags: x\n---\nlicense: not-this\n", ""),
        ("license: nor-this\n", ""),
        ("", ""),
    ):
        (model / "README.md").write_text(text)
        assert licence_of(mine) == expected


@pytest.fixture(scope="module")
def mini(shared_data: Path) -> Card:
    if importlib.util.find_spec(minilm.PACKAGE) is None:
        pytest.skip("the package with MiniLM's weights is not installed")
    pytest.importorskip("sentence_transformers")
    questions = json.loads((shared_data / "text" / "sugarcrepe" / "swap_att.json").read_text())
    edits = tuple(
        Edit("swap_att", q["caption"], q["negative_caption"]) for q in list(questions.values())[:40]
    )
    (found,) = card([part("text/encoders", "minilm")], None, PairSet(edits, made_of=("coco",)))
    return found


def test_minilm(mini: Card) -> None:
    assert mini.name == "all-MiniLM-L6-v2" and mini.saw == ("coco", "flickr30k")
    notes = " ".join(notes_of(mini))
    assert "saw the captions of coco and flickr30k" in notes
    assert "The edits here were made of captions of coco." in notes
    assert mini.sensitivity is not None and mini.sensitivity.unrelated is not None
    # An edit moves it far less than another photo does: the margin that remains is small.
    assert mini.sensitivity.all.bound.median < 0.3 < 1.2 < mini.sensitivity.unrelated.median
    assert 0 < mini.spread.mean_cosine < 0.2 and mini.tokens.median > 8
    curve = np.array(mini.sensitivity.all.bound.curve)
    assert (np.diff(curve) >= 0).all() and len(curve) == 101
