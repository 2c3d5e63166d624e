"""What a run's start could do, on the run's page: as the guard wrote it down."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lift.config import to_dict
from lift.pages.page import write_report
from lift.pages.regression import regression_of
from lift.terms import EvalResult, Metric
from lift.training.guard import AFTER, BEFORE, FOLDER, Guard, GuardConfig, report

HOSTILE = "<script>&"


def result(evaluation: str, metric: str, value: float) -> EvalResult:
    found = Metric(value, value - 0.05, value + 0.05, 200)
    return EvalResult(evaluation, 1, "usual", f"flowers {HOSTILE}", metric, {metric: found}, {})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a finished run that kept its k-NN, and lost its zero-shot."""
    config = GuardConfig(on=("knn:data=x", "zeroshot:data=x"), drop=0.03)
    guard = Guard(config, tmp_path)
    guard.keep([result("zero_shot", "top-1", 0.62), result("knn", "top-1", 0.7),
                result("rank", "median rank", 4.0)], BEFORE)  # fmt: skip
    facts = {"format": 1, "status": "finished", "recipe": "tune"}
    facts["config"] = {"guard": to_dict(config), "seed": 0}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    return tmp_path


def after(run: Path, *values: float) -> None:
    made = [("zero_shot", "top-1"), ("knn", "top-1"), ("rank", "median rank")]
    config = GuardConfig(on=("knn:data=x",))
    Guard(config, run).keep(
        [result(*names, value) for names, value in zip(made, values, strict=True)], AFTER
    )


def test_the_table_is_what_the_guard_reports(run: Path) -> None:
    after(run, 0.5, 0.69, 4.0)
    page = write_report(run).read_text()
    assert "What it could do before" in page and 'href="#before"' in page
    assert HOSTILE not in page and "more than 3 points" in page
    for words in ("62.0%", "50.0% (45.0% to 55.0%)", "-12.0 points", "-1.0 points", "fell too far"):
        assert words in page, words
    facts = json.loads((run / "run.json").read_text())
    found = regression_of(run, facts)
    assert found is not None
    assert [row.breach for row in found.rows] == [c.breach for c in report(run, 0.03)]
    assert [row.breach for row in found.rows] == [True, False, False]
    assert [row.verdict for row in found.rows] == ["fell too far", "kept", "kept"]
    assert (found.rows[0].bar.at, found.rows[0].bar.chance) == (50.0, 62.0)
    assert not found.rows[2].bar and found.rows[2].before == "4"
    facts["config"]["guard"]["drop"] = 0.005
    strict = regression_of(run, facts)
    assert strict is not None and strict.rows[1].breach


def test_there_is_no_table_where_nothing_was_watched_or_it_goes_on(run: Path) -> None:
    assert "What it could do before" not in write_report(run).read_text()
    assert regression_of(run / "elsewhere", {}) is None


def test_damaged_figures_are_told_and_the_page_is_made(run: Path) -> None:
    after(run, 0.5, 0.69, 4.0)
    first = next((run / FOLDER / AFTER).glob("zero*.json"))
    first.write_text("{")
    page = write_report(run).read_text()
    assert "The figures before and after can&#39;t be read" in page


def test_other_evaluations_are_not_compared(run: Path) -> None:
    odd = dataclasses.replace(result("zero_shot", "top-1", 0.6), protocol="another")
    Guard(GuardConfig(), run).keep([odd, odd, odd], AFTER)
    found = regression_of(run, {"config": {"guard": {"drop": 0.03}}})
    assert found is not None and not found.rows and "can't be compared" in found.why
