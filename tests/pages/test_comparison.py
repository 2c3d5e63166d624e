"""The page of a comparison: everything on it, nothing unescaped, the same bytes again."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from lift.errors import DataError
from lift.pages.comparison import curves, render, write_comparison
from lift.training.compared import (
    ArmRecord,
    Before,
    Comparison,
    Differs,
    Failed,
    Ran,
    Score,
    figures,
    read_comparison,
)
from lift.training.compared_words import costs, notes
from lift.training.effort import Effort

RANK = "text_to_image/median rank"
RECALL = "text_to_image/R@10"


def score(metric: str, value: float, **changes) -> Score:
    given = {"evaluation": "retrieval", "version": 2, "protocol": "all-captions", "data": "val"}
    main = metric == RECALL
    given |= {"items": 60 if main else 12, "chance": 1 / 6 if main else None}
    return Score(**{**given, **changes}, metric=metric, primary=main, value=value)


def ran(arm: str, seed: int, recall: float, rank: float, **changes) -> Ran:
    given = {
        "folder": f"{arm}/seed-{seed}",
        "steps": 4,
        "parameters": {"tower": 1_000, "head": 24},
        "seconds": 2.0 + seed,
        "cpu_seconds": 3.0,
        "precision": "float32",
        "device": "cpu",
    }
    return Ran(seed=seed, scores=(score(RECALL, recall), score(RANK, rank)), **{**given, **changes})


def effort(text: float, **changes) -> Effort:
    return Effort(image_flops=2e9, text_flops=text, tokens=12.5 if text else None, samples=64,
                  **changes)  # fmt: skip


@pytest.fixture
def found() -> Comparison:
    """Return three arms: rows, one that is better and one with an unfinished run."""
    config = {"samples": 64, "loader": {"batch_size": 16}, "optim": {}, "data": "d"}
    first = [(0.30, 20.0), (0.40, 18.0), (0.35, 19.0)]
    better = [(0.50, 9.0), (0.61, 8.0), (0.55, 9.5)]
    rows = effort(0.0, embedding_flops=6.4e10, embedding="5 captions by minilm")
    return Comparison(
        date="2026-01-01T00:00:00+00:00",
        versions={"torch": "2"},
        budget="samples",
        seeds=(0, 1, 2),
        arms=(
            ArmRecord(name="rows", folder="rows", config=config, effort=rows,
                      runs=tuple(ran("rows", i, *v) for i, v in enumerate(first))),
            ArmRecord(name="<b>&better", folder="better", config=config, effort=effort(1e9),
                      method=(Differs(option="text_tower", first=None, here="transformer"),),
                      not_matched=(Differs(option="loader.captions", first="mix", here="one"),),
                      runs=tuple(ran("better", i, *v) for i, v in enumerate(better))),
            ArmRecord(name="other", folder="other", config=config,
                      runs=(ran("other", 1, 0.41, 17.0, cpu_seconds=None),)),
        ),
        failed=(Failed(arm="other", seed=0, why="The loss is NaN."),),
    )  # fmt: skip


def test_the_page_says_it_all_and_asks_for_nothing(found: Comparison, tmp_path: Path) -> None:
    page = render(found, tmp_path)
    assert "<b>&better" not in page and "&lt;b&gt;&amp;better" in page
    assert not re.search(r"<script|https?://|src=|@import|url\((?!#)", page)
    for words in ("+20.3", "better", "one seed, no interval", "3 arms", "The loss is NaN"):
        assert words in page, words
    assert ">worse<" not in page and page.count(">better<") == 1  # the main metric alone
    assert "all-captions, version 2, 60 items, chance 16.7%" in page and "n = 12" in page
    assert '+1.0 <span class="small">seeds 1</span>' in page
    assert "loader.captions mix -&gt; one" in page and "7 of 9 runs" in page
    assert render(found, tmp_path) == page


def test_drawings_stand_where_the_numbers_are(found: Comparison, tmp_path: Path) -> None:
    page = render(found, tmp_path)
    one = next(f for f in figures(found) if f.metric == RECALL).arms[1].difference
    assert one is not None and one.low is not None and one.high is not None
    reach = max(abs(one.low), abs(one.high), *map(abs, one.differences))
    assert f'<i class="dot" style="left:{round(50 + 48 * one.mean / reach, 2)}%"></i>' in page
    for value in one.differences:
        assert f'<i class="seed" style="left:{round(50 + 48 * value / reach, 2)}%"></i>' in page
    places = [
        float(n) for n in re.findall(r'class="(?:seed|dot|band)" style="left:([\d.]+)%', page)
    ]
    assert places and all(0 < place < 100 for place in places)


def test_only_common_seeds_are_paired(found: Comparison) -> None:
    other = next(f for f in figures(found) if f.metric == RECALL).arms[2]
    assert other.difference is not None and other.difference.seeds == (1,)
    assert other.difference.mean == pytest.approx(0.41 - 0.40)


def test_costs_stand_beside_each_other(found: Comparison) -> None:
    head, rows = costs(found)
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert table["rows"]["embedding, once"] == "6.4e+10 (50% of a run)"
    assert table["rows"]["text"] == "0" and table["rows"]["wall s"] == "3.0"
    assert table["<b>&better"]["GF a sample"] == "3" and table["<b>&better"]["tokens"] == "12.5"
    assert table["<b>&better"]["embedding, once"] == "none"
    assert table["other"]["GF a sample"] == "unknown" and table["other"]["CPU s"] == ""


def test_what_makes_a_comparison_unfair_is_said(found: Comparison) -> None:
    arms = list(found.arms)
    mixed = (ran("better", 0, 0.5, 9.0, precision="bfloat16", notes=("seen in training",)),)
    arms[1] = dataclasses.replace(arms[1], runs=mixed)
    said = notes(dataclasses.replace(found, arms=tuple(arms), budget="flops"))
    assert any("precision was bfloat16 or float32" in note for note in said)
    assert any("whole steps leave <b>&better at +50% of the FLOPs" in note for note in said)
    assert "<b>&better, seed 0: seen in training" in said
    every = [
        dataclasses.replace(
            arm, runs=tuple(dataclasses.replace(ran, notes=("small",)) for ran in arm.runs)
        )
        for arm in found.arms
    ]
    assert "Every run: small" in notes(dataclasses.replace(found, arms=tuple(every)))
    two = dataclasses.replace(found, seeds=(0, 1))
    assert any("take three or more" in note for note in notes(two))
    assert any("there are 2 in comparison.json" in note for note in notes(found))
    rows = dataclasses.replace(found.arms[0], before=(Before(what="MiniLM", text=True),))
    start = dataclasses.replace(found.arms[1], before=(Before(what="m", samples=64, flops=2e9),))
    said = notes(dataclasses.replace(found, arms=(rows, start, found.arms[2])))
    assert any(
        n.startswith("NOT MATCHED: start of <b>&better: 64 samples, 2e+09 FLOPs") for n in said
    )
    assert any(n.startswith("NOT MATCHED: the text encoder of rows was trained") for n in said)


def test_curves_are_means_over_seeds_of_what_all_runs_have(
    found: Comparison, tmp_path: Path
) -> None:
    for seed, values in {0: (0.1, 0.3), 1: (0.2, 0.5), 2: (0.3, 0.4)}.items():
        folder = tmp_path / "rows" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"format": 1, "status": "finished"}')
        lines = []
        for step, value in zip((2, 4), values, strict=True):
            metric = {"value": value, "low": 0.0, "high": 1.0, "items": 9}
            result = {
                **{"evaluation": "retrieval", "version": 2, "protocol": "all", "data": "val"},
                **{"primary": RECALL, "metrics": {RECALL: metric}, "counts": {}},
            }
            lines.append(json.dumps({"event": "eval", "step": step, "results": [result]}))
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    (chart,) = curves(found, tmp_path)
    (line,) = chart.lines  # of the other arms no folder is left
    assert list(line.x) == [32, 64] and list(line.y) == pytest.approx([0.2, 0.4])
    assert list(line.low) == [0.1, 0.3] and list(line.high) == [0.3, 0.5]
    assert "<svg" in render(found, tmp_path)


def test_a_comparison_comes_back_from_its_file(found: Comparison, tmp_path: Path) -> None:
    found.save(tmp_path)
    assert read_comparison(tmp_path) == found
    assert write_comparison(tmp_path) == tmp_path / "comparison.html"
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert told["figures"][0]["arms"][1]["difference"]["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "holds no readable comparison.json"),
        ('{"format": "lift.comparison/9"}', "update lift"),
        ('{"format": "lift.comparison/1", "comparison": {"arms": 3}}', "run `lift compare` again"),
        ('{"format": "lift.comparison/1"}', "run `lift compare` again"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        write_comparison(tmp_path)


def test_nothing_finished_yet_is_a_page_too(found: Comparison, tmp_path: Path) -> None:
    none = tuple(dataclasses.replace(arm, runs=()) for arm in found.arms)
    page = render(dataclasses.replace(found, arms=none), tmp_path)
    assert "No run is finished yet." in page
