"""Cards: the same for the same texts, complete, and told in plain words."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from lift.config import Part, part
from lift.errors import ConfigError, DataError, MissingRows, NotFinite
from lift.text.card import card, choose_captions, licence_of, name_of, without_speed
from lift.text.encoder import EncodedTexts, build_encoder
from lift.text.encoders import minilm
from lift.text.figures import Card
from lift.text.lines import SECTIONS, as_table, lines_of, notes_of
from lift.text.pairs import Edit, PairSet, same_as

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


def test_sections_stand_once_for_encoders_of_different_widths() -> None:
    parts = [part("text/encoders", "hashing", dimensions=d) for d in (16, 24)]
    text = as_table(card(parts, CAPTIONS, limit=60))
    for title in SECTIONS.values():
        assert text.split("\n").count(title) == 1, text
    lines = text.split("\n")
    kept = [i for i, line in enumerate(lines) if "nearest kept by" in line]
    assert len(kept) == 4 or len(kept) == 3
    assert all(lines.index("Neighbours") < i < lines.index("Length") for i in kept)


def _stored(folder: Path, texts: list[str]) -> Part:
    """Return vectors of texts, written to disk."""
    rows = build_encoder(HASHING).encode(texts).rows
    np.save(folder / "rows.npy", rows)
    (folder / "rows.txt").write_text("\n".join(texts) + "\n")
    return Part("text/encoders", "vectors", {"path": str(folder / "rows.npy"), "model": "mine"})


def test_stored_vectors_get_a_card_without_what_they_lack(tmp_path: Path) -> None:
    stored = _stored(tmp_path, CAPTIONS[:40])
    (found,) = card([stored], CAPTIONS[:40], trusted=True)
    assert found.sensitivity is None and found.lacking["edits"] > 40
    assert not [line for line in lines_of(found) if line.section == "edits"]
    notes = " ".join(notes_of(found))
    assert "without a stored row" in notes and f"edits: {found.lacking['edits']:,}" in notes
    with pytest.raises(MissingRows, match="have no vector"):  # the user's own captions
        card([stored], CAPTIONS[:41], trusted=True)


def test_stored_vectors_take_those_pairs_that_they_hold(tmp_path: Path) -> None:
    stored = _stored(tmp_path, CAPTIONS[:40])
    edits = [Edit("k", CAPTIONS[i], CAPTIONS[i + 1], str(i)) for i in range(30)]
    edits += [Edit("k", CAPTIONS[0], "no such text")]
    groups = {str(i): (CAPTIONS[i], CAPTIONS[39] if i % 2 else "gone") for i in range(30)}
    (found,) = card([stored], None, PairSet(tuple(edits), groups), trusted=True)
    assert found.sensitivity is not None
    assert found.sensitivity.all.bound.count == 30 and found.sensitivity.all.compared == 15
    assert found.lacking == {"captions": 1, "edits": 1, "paraphrases": 15}
    assert "captions: 1, edits: 1, paraphrases: 15" in " ".join(notes_of(found))
    live = card([HASHING], None, PairSet(tuple(edits), groups))[0]
    assert live.lacking == {} and live.sensitivity is not None
    assert live.sensitivity.all.bound.count == 31 and live.captions == found.captions + 1
    with pytest.raises(MissingRows, match="--captions"):
        card([stored], None, PairSet((Edit("k", "x", "y"), Edit("k", "z", "y"))), trusted=True)


@pytest.mark.parametrize(("dimensions", "noted"), [(32, True), (16, False)])
def test_ranks_of_few_captions_are_the_samples(dimensions: int, noted: bool) -> None:
    small = part("text/encoders", "hashing", dimensions=dimensions)
    (found,) = card([small], CAPTIONS, limit=100)
    assert ("the ranks are the sample's" in " ".join(notes_of(found))) == noted


def test_paraphrases_are_called_what_they_are() -> None:
    groups = {same_as(text): (f"{text} there",) for text in CAPTIONS[:30]}
    edits = tuple(Edit("k", text, f"no {text}") for text in CAPTIONS[:30])
    (found,) = card([HASHING], None, PairSet(edits, groups), limit=40)
    says = " ".join(line.says for line in lines_of(found) if line.section == "edits")
    assert "two people" not in says and "another person" not in says
    assert "paraphrase from the files" in says


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
    with pytest.raises(ConfigError, match="needs a text encoder") as told:
        card([], CAPTIONS)
    assert "limit" not in str(told.value) and "5000" not in str(told.value)
    with pytest.raises(ConfigError, match="limit of a card must be 2 or more, not 1"):
        card([HASHING], CAPTIONS, limit=1)
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


def test_the_licence_is_found_in_the_hubs_cache_and_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    snapshot = tmp_path / "models--some--model" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    for revision in (None, commit):
        options = {"model": "some/model", "revision": revision}
        assert licence_of(Part("text/encoders", "sentence_transformer", options)) == "mit"
    absent = Part("text/encoders", "sentence_transformer", {"model": "some/other"})
    assert licence_of(absent) == ""
    if importlib.util.find_spec(minilm.PACKAGE) is not None:
        assert licence_of(part("text/encoders", "minilm")) == "apache-2.0"


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
