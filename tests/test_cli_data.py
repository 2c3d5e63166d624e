"""`lift data inspect`, `lift data pack` and `lift data select` in real processes."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def lift(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lift.cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Return a folder to stand in, with `my pairs/pairs.csv`."""
    folder = tmp_path / "my pairs"
    folder.mkdir()
    lines = ["image,caption"]
    for number in range(12):
        out = io.BytesIO()
        Image.new("RGB", (400, 300), (20 * number, 50, 90)).save(out, "JPEG")
        (folder / f"{number}.jpg").write_bytes(out.getvalue() if number != 4 else b"broken")
        lines.append(f"{number}.jpg,a dog by house {number % 6}")
    (folder / "pairs.csv").write_text("\n".join(lines))
    return tmp_path


def test_the_three_are_listed(tmp_path: Path) -> None:
    plain = lift("data", cwd=tmp_path)
    told = lift("data", "--help", cwd=tmp_path)
    assert plain.returncode == told.returncode == 0 and plain.stdout == told.stdout
    for name in ("inspect", "pack", "select"):
        assert f"• {name}" in told.stdout
        alone = lift("data", name, "--help", cwd=tmp_path)
        assert alone.returncode == 0
        assert f"lift data {name}" in alone.stdout.split("For example")[1]
    assert "• data" in lift("--help", cwd=tmp_path).stdout
    wrong = lift("data", "inspct", cwd=tmp_path)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


def test_inspect_prints_writes_a_page_and_says_what_comes_next(pairs: Path) -> None:
    done = lift("data", "inspect", "my pairs/pairs.csv", "--quiet", cwd=pairs)
    assert done.returncode == 0, done.stderr
    assert "12 samples" in done.stdout and "layout table: " in done.stdout
    assert "50% of captions are duplicates: keep objective.share_equal=true" in done.stdout
    assert "8.3% of the samples that were looked at are broken (1 of 12)" in done.stdout
    assert "page: inspect.html" in done.stdout and done.stderr == ""
    assert (pairs / "inspect.html").exists()
    assert json.loads((pairs / "inspect.json").read_text())["samples"] == 12
    command = next(line for line in done.stdout.splitlines() if "lift embed" in line)
    words = shlex.split(command)[1:]
    done = lift(*words, "--encoder", "hashing:dimensions=8", "--quiet", cwd=pairs)
    assert done.returncode == 0 and (pairs / "captions" / "manifest.json").exists(), done.stderr


def test_inspect_can_be_strict_and_go_elsewhere(pairs: Path) -> None:
    words = ["table:path=my pairs/pairs.csv", "--quiet"]
    done = lift("data", "inspect", *words, "--strict", cwd=pairs)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert not (pairs / "inspect.html").exists()
    done = lift("data", "inspect", *words, "--out", "a/b.html", "--most", "3", cwd=pairs)
    assert done.returncode == 0 and (pairs / "a" / "b.html").exists()
    assert "3, drawn evenly from 12" in done.stdout
    done = lift("data", "inspect", "nowhere", cwd=pairs)
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_pack_prints_words_that_read_it_back(pairs: Path) -> None:
    words = ["data", "pack", "my pairs/pairs.csv", "--out", "packed it", "--quiet"]
    done = lift(*words, "--side", "128", "--workers", "2", "--shard-samples", "5", cwd=pairs)
    assert done.returncode == 0, done.stderr
    assert "11 of 12 samples in 3 shard(s)" in done.stdout and "left out: 1" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "--data" in line)
    (data,) = shlex.split(line.partition("--data ")[2])
    done = lift("data", "inspect", data, "--quiet", cwd=pairs)
    assert done.returncode == 0 and "11 samples" in done.stdout, done.stderr
    assert "171 px" in done.stdout and "JPEG RGB 11" in done.stdout
    done = lift(*words, cwd=pairs)
    assert done.returncode == 2 and "begun with side=128, not 256" in done.stderr


def test_select_writes_a_manifest(pairs: Path) -> None:
    words = ["data", "select", "my pairs/pairs.csv", "--out", "kept.parquet", "--quiet"]
    done = lift(*words, "--where", "caption_copy == 0", cwd=pairs)
    assert done.returncode == 0, done.stderr
    assert "6 of 12 samples kept" in done.stdout
    done = lift("data", "inspect", "selected:kept.parquet", "--quiet", cwd=pairs)
    assert done.returncode == 0 and "6 samples" in done.stdout, done.stderr
    done = lift(*words, "--where", "wrds >= 3", cwd=pairs)
    assert done.returncode == 2 and "words" in done.stderr
    done = lift(*words, "--task", "nowhere.txt", cwd=pairs)
    assert done.returncode == 2 and "nowhere.txt" in done.stderr


def test_python_has_the_same_commands(pairs: Path) -> None:
    import lift as package

    spec = f"table:path={pairs}/my pairs/pairs.csv"
    found = package.inspect(spec, out=None, progress=False)
    assert found.samples == 12 and not found.shown
    report = package.pack(spec, out=pairs / "out", progress=False)
    assert report.samples == 11
    with pytest.raises(package.LiftError):
        package.select(spec, out=pairs / "k.parquet", where="words >", progress=False)
