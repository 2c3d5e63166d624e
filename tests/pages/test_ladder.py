"""The page of a ladder: everything on it, nothing unescaped, no other host, the same bytes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from lift.errors import CheckpointError
from lift.pages.ladder import chart_of, render, write_ladder
from lift.rungs.paired import compare
from lift.rungs.record import Cost, Ladder, Next, Predicted, Rung, Step, read, write
from lift.rungs.words import COLUMNS, advise, compared
from lift.terms import EvalResult, Metric

HOSTILE = '<script src="https://elsewhere.example/x.js">&'


def result(recall: float) -> EvalResult:
    return EvalResult(
        evaluation="retrieval",
        version=1,
        protocol="all-captions",
        data="held",
        primary="text_to_image/R@10",
        metrics={
            name: Metric(recall + 0.01 * (2 - place), recall - 0.1, recall + 0.1, 80)
            for place, name in enumerate(COLUMNS)
        },
        counts={"images": 80, "captions": 80},
        chance=0.125,
    )


def rung(name: str, level: int, recall: float, wall: float, **changes) -> Rung:
    cost = Cost(wall_seconds=wall, cpu_seconds=2 * wall)
    own = {"title": f"a {name}", "result": result(recall), "cost": cost}
    return Rung(name=name, level=level, **{**own, **changes})


@pytest.fixture
def found() -> Ladder:
    """Return a ladder with three rungs that came out and one that did not."""
    rungs = (
        rung("ridge", 0, 0.5, 2.0, chosen=True, facts={"penalty": HOSTILE}),
        rung("cca", 0, 0.48, 3.0),
        Rung(name="procrustes", level=0, title="x", status="failed", why=f"Singular {HOSTILE}."),
        rung("head", 1, 0.6, 40.0, start="ridge"),
    )
    cost = Cost(wall_seconds=12.0, cpu_seconds=20.0, items=500, complete=False)
    return Ladder(
        data=HOSTILE,
        validation="",
        held_out="held",
        split=f"Some judge {HOSTILE}.",
        fitted=400,
        stopping=20,
        judged=80,
        space="minilm",
        dimensions=384,
        fingerprint="f" * 64,
        tower=HOSTILE,
        width=128,
        predicted=Predicted(
            cka=0.25, cka_debiased=0.2, knn=0.1, chance=0.02, neighbours=10, pairs=400
        ),
        steps=(Step(name="features", what="features of images made", cost=cost),),
        rungs=rungs,
        next=(
            Next(level=2, title="tuned", command=f"lift train {HOSTILE}", samples=5, cost=cost,
                 assumption="It rests on nothing."),
            Next(level=3, title="scratch", command="lift", samples=5, cost=None, assumption="?"),
        ),
        advice="Take head.",
        take="head",
        commands=(("judge it again", f"lift eval {HOSTILE}"),),
        notes=(f"Note {HOSTILE}",),
        left_out={"without a caption": 3},
        date="2026-01-01T00:00:00+00:00",
        versions={"torch": "2"},
    )  # fmt: skip


def test_the_page_says_it_all_and_asks_for_nothing(found: Ladder, tmp_path: Path) -> None:
    page = render(found)
    assert "<script" not in page and "&lt;script" in page
    text = re.sub(r"https://elsewhere[.]example", "", page)
    assert not re.search(r"https?://|<link|@import|url\((?!#)|<img", text)
    for words in ("60.0%", "CKA 0.250", "Singular", "at least 12.0 s", "About unknown", "n = 500"):
        assert words in page, words
    assert "procrustes failed" in page and "chosen by the training pairs, from" not in page
    assert page.count('<tr class="taken">') == 1 and "guessing 12.5%" in page
    assert write_ladder(found, tmp_path).read_text() == page == render(found)


def test_the_figures_are_those_of_the_file(found: Ladder, tmp_path: Path) -> None:
    again = read(write(found, tmp_path).parent)
    assert again == found and render(again) == render(found)
    (tmp_path / "ladder.json").write_text("{}")
    with pytest.raises(CheckpointError, match="can't be read"):
        read(tmp_path)


def test_dots_stand_at_the_seconds_and_the_recall(found: Ladder) -> None:
    chart = chart_of(found)
    assert chart is not None
    dots = {line.name: (line.x[0], line.y[0]) for line in chart.lines}
    assert dots == {"ridge": (2.0, 0.5), "cca": (3.0, 0.48), "head": (42.0, 0.6)}
    assert chart_of(dataclasses.replace(found, rungs=tuple(found.failed))) is None
    bare = dataclasses.replace(found, rungs=tuple(found.failed), take="", next=(), predicted=None)
    assert "too few pairs to say" in render(bare) and "R@10 of none" in render(bare)
    assert "procrustes failed" in bare.table()


def hits(share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(400) < share).astype(np.float64)


def test_the_advice_follows_its_rule(found: Ladder) -> None:
    owner, low = np.arange(400), hits(0.5, 0)
    near, far = low.copy(), low.copy()
    near[np.flatnonzero(near == 0)[:3]] = 1.0
    near[np.flatnonzero(low == 1)[:2]] = 0.0
    far[np.flatnonzero(far == 0)[:60]] = 1.0
    told = {"ridge": low, "cca": far, "head": far}
    take, advice = advise(found, told, owner)
    assert take == "head" and "worth its cost: over ridge +15.0 points" in advice  # cca is no rung
    take, advice = advise(found, {**told, "head": near}, owner)
    assert take == "ridge" and "head" in advice and "within noise" in advice
    worse = dataclasses.replace(
        found, rungs=(*found.rungs[:3], rung("head", 1, 0.4, 40.0, start="ridge"))
    )
    take, advice = advise(worse, told, owner)
    assert take == "ridge" and "head costs more and finds no more" in advice
    assert advise(dataclasses.replace(found, rungs=tuple(found.failed)), {}, owner)[0] == ""
    against = {one.name: one.against for one in compared(found.rungs, told, owner)}
    assert against["ridge"] is None and against["procrustes"] is None
    assert against["head"] == compare(far, low, owner, "ridge")
    assert against["cca"] == compare(far, low, owner, "ridge")
