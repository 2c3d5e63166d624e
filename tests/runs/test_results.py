"""Committed records are whole, pages are made from them, and README says only what pages show."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import results
from frame.study import Study, path_of, read

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "results"


def there(name: str) -> Study:
    """Return a study, or skip where none of its runs is committed."""
    one = results.study(name)
    if not any(one.results.glob("*.json")):
        pytest.skip(f"no run of {name} is committed yet")
    return one


@pytest.mark.parametrize("name", results.STUDIES)
def test_a_study_says_what_it_needs(name: str) -> None:
    one = results.study(name)
    assert one.number == results.STUDIES.index(name) + 1 and one.name == name
    jobs = [job.name for job in one.jobs]
    assert len(jobs) == len({*jobs}) and one.smallest in one.jobs and not one.smallest.trial
    assert one.hypotheses and all(h.text.endswith(".") for h in one.hypotheses)
    doc = importlib.import_module(name).__doc__ or ""
    assert f"python runs/{name}.py" in doc and f"pages {name}" in doc
    assert all(one.guess(job) >= 0 for job in one.jobs)


@pytest.mark.parametrize("name", results.STUDIES)
def test_records_are_whole(name: str) -> None:
    one = there(name)
    known = {path_of(job, one.results): job for job in one.jobs}
    for path in one.results.glob("*.json"):
        record = read(path)
        if "seed" not in record:  # a prediction
            continue
        assert path in known, f"{path} is a record of no run"
        assert (record["set"], record["arm"], record["seed"]) == (
            known[path].set,
            known[path].arm,
            known[path].seed,
        )
        assert record["date"] and record["versions"]["torch"]
        for figure, told in record["figures"].items():
            assert 0 <= told["low"] <= told["value"] <= told["high"], figure
            assert told["items"] > 0 and told["protocol"]
            if not figure.startswith("syntax: "):  # of sentences of our own
                assert "/" not in told["data"], "a path of one machine"


@pytest.mark.parametrize("name", results.STUDIES)
def test_a_page_is_made_from_the_records_there_are(name: str) -> None:
    one = there(name)
    page = (PAGES / f"{name}.md").read_text()
    assert page.rstrip().endswith(results.made_from(one)), "run `make results`"
    for plot in re.findall(r"\]\(([\w-]+\.png)\)", page):
        assert (PAGES / plot).stat().st_size > 2_000


def test_readme_says_only_what_the_pages_show() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## What freezing is worth")[2].partition("\n## ")[0]
    assert "docs/results" in section
    pages = " ".join(path.read_text() for path in PAGES.glob("*.md"))
    found = re.findall(r"[+-]\d+\.\d \[[^\]]+\]|\d+\.\d%", section)
    assert found
    for words in found:
        assert words in pages, f"README says {words}, and no page does"
