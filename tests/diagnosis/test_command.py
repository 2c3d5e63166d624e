"""`lift diagnose`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lift import plugins
from lift.cli import main
from lift.diagnosis import ROOM
from made_model import made

PAIRS = "scenes:count=40"


def _save(folder: Path, dimensions: int = 24) -> Path:
    """Save a model as it was made: nothing was learned."""
    model = made(dimensions=dimensions, resolution=16, canvas=16, layers=1, scalars={"scale": 20.0})
    return model.save(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("made") / "model")


def test_a_line_a_question_and_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "found.json"
    assert main(["diagnose", str(model), "--data", PAIRS, "--json", str(out)]) == 0
    said = capsys.readouterr()
    assert "encoding ..." in said.err and "40 images" in said.out
    record = json.loads(out.read_text())
    assert record["format"] == 1 and record["diagnosis"]["data"].startswith("scenes")
    findings = record["diagnosis"]["findings"]
    assert len(findings) == len(plugins.names(ROOM))
    told = " ".join(said.out.split())  # sentences are wrapped
    for found in findings:
        assert f"{found['level']}" in told and found["means"] in told
        assert found["advice"] and found["level"] in ("fault", "look", "fine", "skipped")
    levels = {found["name"]: found["level"] for found in findings}
    assert levels["class confusion"] == "skipped"  # no --label
    assert levels["pairing"] == "look"  # it was never trained, and 40 pairs say no more
    assert main(["diagnose", str(model), "--data", PAIRS, "--quiet", "--limit", "5"]) == 0
    assert "encoding" not in capsys.readouterr().err


def test_text_vectors_come_from_a_cache_of_the_space(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    for folder, dimensions in ((cache, 24), (other, 32)):
        words = ["--encoder", f"hashing:dimensions={dimensions}", "--codec", "float32"]
        assert main(["embed", "--data", PAIRS, *words, "--out", str(folder)]) == 0
    capsys.readouterr()
    printed = []
    for more in ([], ["--cache", str(cache)]):
        assert main(["diagnose", str(model), "--data", PAIRS, "--quiet", *more]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert main(["diagnose", str(model), "--data", PAIRS, "--cache", str(other)]) == 2
    assert str(other) in capsys.readouterr().err


def test_bad_words_are_told_in_a_sentence(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["nowhere", "--data", PAIRS], "nowhere is neither a folder nor a kind"),
        ([str(model), "--data", PAIRS, "--limit", "1"], "must be 2 or more, not 1"),
        ([str(model), "--data", PAIRS, "--label", "clas"], "clas"),
        ([str(model), "--data", "nothing.tar"], "nothing.tar"),
    ):
        assert main(["diagnose", *words]) == 2
        assert told in capsys.readouterr().err
