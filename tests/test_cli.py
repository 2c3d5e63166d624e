"""The console in real processes: quick to start, one sentence and exit code 2 on bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lift.cli import main

COMMANDS = ["quickstart", "embed", "train", "compare", "eval", "report", "audit", "card", "budget"]
COMMANDS += ["import", "recipes"]


def lift(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lift.cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.mark.parametrize("code", ["import lift", "import lift.cli; lift.cli.main(['--help'])"])
def test_starting_loads_nothing_heavy(code: str) -> None:
    program = (
        "import sys\n"
        f"try:\n    {code}\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'PIL', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = lift(command, "--help")
    assert done.returncode == 0
    assert f"lift {command}" in done.stdout.split("For example")[1]


def test_public_names_are_functions_and_classes() -> None:
    import lift as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    for name in ("embed", "train", "evaluate", "audit", "report", "quickstart", "budget", "load"):
        assert callable(getattr(package, name)), name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "flickr8k_tny", "--out", "x"], "Did you mean 'flickr8k_tiny'?"),
        (
            ["train", "quickstart", "--out", "x", "--set", "optim.rl=1"],
            "Unknown option 'optim.rl'. Did you mean 'optim.lr'?",
        ),
        (
            ["train", "quickstart", "--out", "x", "--set", "tower.widht=1", "--cache", "x"],
            "Did you mean 'width'?",
        ),
        (["train", "quickstart"], "Give the run's folder with --out"),
        (["train", "quickstart+clp", "--out", "x"], "Did you mean 'clip'?"),
        (["train", "quickstart+lit", "--out", "x"], "say whose with --set start="),
        (["train", "quickstart+lit", "--dry-run"], "say whose with --set start="),
        (["budget", "quickstart+clip"], "without +METHOD"),
        (["compare", "quickstart", "--out", "x"], "needs two arms"),
        (["train", "quickstart", "--out", "x"], "make one with `lift embed`"),
        (["train", "quickstart", "--out", "x", "--resume", "--cache", "c"], "no run to resume"),
        (["embed", "--data", "nowhere.tar", "--out", "x"], "nowhere.tar"),
        (
            ["eval", "nowhere", "--on", "retrieval:data=scenes"],
            "nowhere is neither a folder nor a kind of model",
        ),
        (["report", "nowhere"], "holds no readable run.json"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, tmp_path: Path
) -> None:
    done = lift(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_came_from(tmp_path: Path) -> None:
    done = lift("report", "nowhere", "--debug", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_recipes_are_listed() -> None:
    done = lift("recipes")
    assert done.returncode == 0
    for name in ("quickstart", "flickr8k_tiny", "products_tiny", "lift_b16_1280m_cosine"):
        assert name in done.stdout
    for name in ("+clip ", "+frozen_minilm ", "clip_reference_long "):
        assert name in done.stdout


def test_data_sets_are_listed_with_what_is_asked_of_them(tmp_path: Path, capsys) -> None:
    assert main(["data", "sets"]) == 0
    told = capsys.readouterr().out
    assert "\nsugarcrepe\n  SugarCrepe (Hsieh" in told and told.count("\n  from: ") >= 15
    assert max(map(len, told.splitlines())) <= 120
    for name in ("image/1.jpg", "caption/1.txt"):
        (tmp_path / "Urban1k" / name).parent.mkdir(parents=True)
        (tmp_path / "Urban1k" / name).write_text("a street")
    assert main(["data", "sets", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"urban1k in {tmp_path / 'Urban1k'}\n  data=[")
    assert "\n    long_captions" in told and "not there:\naro\n" in told
    assert f"lift eval MODEL --on {tmp_path}" in told


def test_a_reader_that_leaves_is_no_fault() -> None:
    words = [sys.executable, "-m", "lift.cli", "data", "sets"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 141


def test_a_card_is_a_page_with_its_figures_beside_it(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("".join(f"{i} red dogs by house {i % 7}\n" for i in range(60)))
    encoders = ["hashing:dimensions=16", "hashing:dimensions=24"]
    done = lift("card", *encoders, "--captions", "c.txt", "--out", "card.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "effective rank" in done.stdout and "page: card.html" in done.stdout
    page = (tmp_path / "card.html").read_text()
    assert "2 text encoders" in page and "https://" not in page
    figures = json.loads((tmp_path / "card.json").read_text())
    assert len(figures["cards"]) == 2
    done = lift("card", "hashing", cwd=tmp_path)  # drawn scenes, where there are no captions
    assert done.returncode == 0 and (tmp_path / "card.html").exists()


def test_a_budget_says_which_is_cheaper(tmp_path: Path) -> None:
    done = lift("budget", "lift_b16_512m", "--device", "h100", "--encoder", "nv_embed")
    assert done.returncode == 0, done.stderr
    assert "LIFT costs more than CLIP here. At 2 epochs LIFT costs 1.76x CLIP" in done.stdout
    words = ["--encoder", "minilm", "--captions", "1000000", "--tokens", "60", "--models", "8"]
    done = lift("budget", "lift_b16_512m", "--device", "h100", *words)
    assert done.returncode == 0 and "LIFT costs more" not in done.stdout
    for wrong in (["--device", "h10"], ["--tokens", "-1"], ["--models", "0"]):
        done = lift("budget", "lift_b16_512m", *wrong)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
