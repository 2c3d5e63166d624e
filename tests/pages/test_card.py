"""The card's page: one safe file with every section, for one encoder and for many."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lift.config import part
from lift.errors import ConfigError
from lift.pages.card import bar_of, write_card
from lift.pages.card_charts import charts_of
from lift.terms import Metric
from lift.text.card import card
from lift.text.edits import Distances
from lift.text.figures import Card
from lift.text.lines import SECTIONS, lines_of
from lift.text.pairs import Edit, PairSet
from page_reader import HOSTILE, Tables


def read(path: Path) -> tuple[str, Tables]:
    text = path.read_text(encoding="utf-8")
    page = Tables()
    page.feed(text)
    page.close()
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags and "img" not in page.tags
    for reference in page.references:
        assert reference.startswith("#") and reference[1:] in page.ids, reference
    assert not re.search(r"(?:@import|url\()\s*['\"]?(?!#)", text)
    assert not re.search(r"https?://", text)
    return text, page


CAPTIONS = [f"a {c} {t} on a mat" for c in ("red", "blue", "green") for t in "abcdefgh"] + [HOSTILE]
GROUPS = {str(i): (text, f"there is {text} here") for i, text in enumerate(CAPTIONS)}
EDITS = tuple(
    Edit(kind, text, f"{word} {text}", str(i))
    for i, text in enumerate(CAPTIONS)
    for kind, word in (("add_obj", "cow and"), (HOSTILE, "no"))
)


def made(count: int) -> list[Card]:
    parts = [
        part("text/encoders", "hashing", dimensions=16 + i, prompt=HOSTILE * (i == 1))
        for i in range(count)
    ]
    return card(parts, CAPTIONS, PairSet(EDITS, GROUPS, {"empty texts": 2}, about=HOSTILE))


@pytest.fixture(scope="module")
def two() -> list[Card]:
    return made(2)


def test_two_encoders_side_by_side(two: list[Card], tmp_path: Path) -> None:
    path = write_card(two, tmp_path / "card.html")
    text, page = read(path)
    assert set(SECTIONS) <= set(page.ids)
    assert "&lt;script&gt;" in text and "prefers-color-scheme: dark" in text
    # Every figure stands in one row, with the value of each encoder in its column.
    rows = {row[0]: row[1:] for row in page.rows}
    for one, other in zip(*map(lines_of, two), strict=True):
        assert rows[f"{one.name}{one.says}"] == [one.value, other.value], one.name
    kinds = [row for row in page.rows if row[0].startswith("add obj n = ")]
    assert len(kinds) == 2 and all(len(row) == 6 for row in kinds)
    assert sum(row[0].startswith("paraphrases n = ") for row in page.rows) == 2
    assert text.count("<svg") == 2 + 1 + 1 + 2
    assert "Left out: empty texts" in text
    assert (
        "(median): no tower can have a larger margin" in text
        and "the largest margin that a tower" not in text
    )


def test_the_figures_lie_beside_the_page(two: list[Card], tmp_path: Path) -> None:
    write_card(two, tmp_path / "card.html")
    found = json.loads((tmp_path / "card.json").read_text())
    assert found["format"] == "lift.card/1" and len(found["cards"]) == 2
    for stored, one in zip(found["cards"], two, strict=True):
        assert stored["fingerprint"] == one.space.fingerprint
        assert stored["spread"]["effective_rank"] == one.spread.effective_rank
        assert stored["speed"]["seconds"] == one.speed.seconds
        assert one.sensitivity is not None and one.sensitivity.all.auc is not None
        assert stored["sensitivity"]["all"]["auc"]["low"] == one.sensitivity.all.auc.low


def test_the_same_cards_give_the_same_bytes(two: list[Card], tmp_path: Path) -> None:
    pages = [write_card(two, tmp_path / f"{i}.html").read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("count", [1, 6])
def test_one_and_many(count: int, tmp_path: Path) -> None:
    text, page = read(write_card(made(count), tmp_path / "card.html"))
    told = "The last 2 of the encoders are not drawn." in text
    assert told == (count == 6)
    assert ('class="letter' in text) == (count > 1)
    heads = [row for row in page.rows if row[0] == "Figure"]
    assert len(heads) == len(SECTIONS) and all(len(row) == count + 1 for row in heads)


def test_without_edits_the_rest_remains(tmp_path: Path) -> None:
    alone = card([part("text/encoders", "hashing")], ["猫", "犬", "鳥"])
    text, page = read(write_card(alone, tmp_path / "card.html"))
    assert "edits" not in page.ids and "spread" in page.ids
    assert "cosine with the nearest other caption" in text


def test_charts_of_one_encoder_compare_it_with_itself() -> None:
    found = charts_of(made(1))
    assert [line.name for line in found["spread"][0].lines] == ["as they are", "centred"]
    names = [line.name for line in found["edits"][0].lines]
    assert names == ["edits", "paraphrases", "unrelated"]
    assert {chart.across for charts in found.values() for chart in charts} == {
        "direction, strongest first",
        "share of captions, %",
        "share of pairs, %",
    }


def test_bars_stay_in_their_scale() -> None:
    quantiles = (0.1, 0.3, 0.75, 1.9, 2.0)
    bar = bar_of(Distances(3, Metric(1.0, 0.0, 2.0, 3), quantiles, ()), 0.6)
    assert (bar.low, bar.at, bar.high, bar.chance) == (20.0, 50.0, 100.0, 40.0)


def test_names_that_can_not_be_pages(two: list[Card], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give NAME\.html"):
        write_card(two, tmp_path / "card.json")
    with pytest.raises(ConfigError, match=r"0 card\(s\)"):
        write_card([], tmp_path / "card.html")
    assert list(tmp_path.iterdir()) == []
