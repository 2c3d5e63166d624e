from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

import lift
from lift.data.source import open_source
from lift.errors import ConfigError, DataError, Echo
from lift.starting import plan as plans
from lift.starting.found import look
from lift.starting.plan import planned
from lift.starting.towers import at_hand
from search_shelf import pixels


def photos(folder: Path, count: int, *, each: int = 1, start: int = 0) -> Path:
    """Write pictures with captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(start, start + count):
        Image.fromarray(pixels(n, 32)).save(folder / f"{n}.png")
        lines = [f"picture {n} of noise, said {way}" for way in range(each)]
        (folder / f"{n}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "images_a_second", lambda config: 200.0)


def test_what_is_held_out_is_in_no_training(tmp_path: Path) -> None:
    found = look(photos(tmp_path / "photos", 80))
    keys = [
        {key for key, _ in open_source(words).texts()} for words in (found.train, found.validation)
    ]
    assert not keys[0] & keys[1] and len(keys[0] | keys[1]) == 80
    assert found.judged == len(keys[1]) and found.pairs + found.judged == 80
    assert not found.several and found.captions == 80 and found.first.startswith("picture")
    assert look(photos(tmp_path / "more", 20, each=3)).several


def test_splits_that_are_there_are_kept(shared_data: Path) -> None:
    found = look(shared_data / "flickr8k")
    assert (found.pairs, found.judged, found.captions) == (2_600, 400, 15_000)
    assert "val" in found.validation and len(found.all) == 2


def test_the_cheapest_way_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lift.cli import main

    folder = photos(tmp_path / "photos", 40)
    ways = {
        "scratch": planned(folder, tmp_path / "a", minutes=5),
        "head": planned(folder, tmp_path / "b", minutes=5, tower="timm:model=x"),
        "model": planned(folder, tmp_path / "c", minutes=5, model="runs/a"),
    }
    words = {way: [" ".join(step.words[:2]) for step in p.steps] for way, p in ways.items()}
    assert words["scratch"][:2] == ["embed --data", "train products_tiny"]
    assert words["head"][1:3] == ["embed --images", "train head"]
    assert words["model"] == ["index build"]
    samples = next(w for s in ways["scratch"].steps for w in s.words if w.startswith("samples="))
    assert 64 <= int(samples.partition("=")[2]) <= 30 * 40
    for made in ways.values():
        for step in made.steps:  # every command parses
            shown = " ".join(step.words[: 2 if step.words[0] == "index" else 1])
            with pytest.raises(SystemExit, match="0"):
                main([*shown.split(), "--help"])
            said = capsys.readouterr().out
            options = {word for word in step.words if word.startswith("--")}
            assert all(option in said for option in options), step
        if made is ways["head"]:
            break
    # A trained tower in the hub's local cache is found without the network.
    hub = tmp_path / "hub" / "models--facebook--dinov2-small"
    (hub / "snapshots" / "abc").mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    for name in ("config.json", "model.safetensors"):
        (hub / "snapshots" / "abc" / name).write_text("{}")
    import huggingface_hub

    find = huggingface_hub.try_to_load_from_cache
    assert at_hand() == ""
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda model, file: find(model, file, cache_dir=tmp_path / "hub"),
    )
    assert at_hand() == "huggingface:model=facebook/dinov2-small"
    assert "rung 1" in " ".join(planned(folder, tmp_path / "d", minutes=5).said)


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 40)
    first = planned(folder, tmp_path / "out", minutes=5)
    assert planned(folder, tmp_path / "out", minutes=50) == first
    with pytest.raises(DataError, match="was started for"):
        planned(photos(tmp_path / "others", 40), tmp_path / "out", minutes=5)
    (tmp_path / "out" / plans.FILE).write_text("[" * 100_000)
    with pytest.raises(DataError, match="can't be read"):
        planned(folder, tmp_path / "out", minutes=5)


def test_folders_that_nothing_can_be_learned_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        look(tmp_path / "absent")
    with pytest.raises(ConfigError, match="it takes 16 at least"):
        look(photos(tmp_path / "few", 3))
    folder = photos(tmp_path / "photos", 40)
    for minutes in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="minutes must be from"):
            planned(folder, tmp_path / "out", minutes=minutes)
    assert not (tmp_path / "out").exists()


def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    folder, said = photos(tmp_path / "photos", 40), []
    with pytest.raises(Echo, match="exit code 2"):
        lift.start(folder, out=tmp_path / "out", model=str(tmp_path / "no"), say=said.append)
    assert any("failed with exit code 2" in line for line in said)


def test_folders_that_need_care(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a[b", "a]b", 'a"b', "a::b", "a*b"):
        with pytest.raises(ConfigError, match="means something else"):
            look(photos(tmp_path / name, 20))
    for count, name in ((16, "a b,c'ü"), (17, "x=y")):  # few pairs: some are held out all the same
        found = look(photos(tmp_path / name, count))
        numbers = [
            len(list(open_source(words).texts())) for words in (found.train, found.validation)
        ]
        assert numbers == [found.pairs, found.judged] and found.judged >= 2
    bare = tmp_path / "bare"
    bare.mkdir()
    Image.fromarray(pixels(0, 32)).save(bare / "0.png")
    with pytest.raises(ConfigError, match=f"--pictures {bare}"):
        look(bare)
    planned(tmp_path / "x=y", tmp_path / "out", minutes=5)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="was started in"):
        planned(tmp_path / "x=y", tmp_path / "out", minutes=5)
    plan = json.loads((tmp_path / "out" / plans.FILE).read_text())
    plan["steps"] = [{"what": "x", "words": ["export", "/"]}]
    (tmp_path / "out" / plans.FILE).write_text(json.dumps(plan))
    with pytest.raises(DataError, match="no plan of ours"):
        planned(tmp_path / "x=y", tmp_path / "out", minutes=5)


@pytest.mark.skipif(shutil.which("sh") is None, reason="runs a shell")
def test_a_command_that_is_interrupted_saves_its_state_first(tmp_path: Path, monkeypatch) -> None:
    from lift.commands import start

    script = tmp_path / "python"
    script.write_text(
        f"#!/bin/sh\ntrap 'sleep 0.5; touch {tmp_path}/saved; exit 75' INT TERM\n"
        f"echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/going\n"
        "while true; do sleep 0.05; done\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(start.sys, "executable", str(script))
    for number in (signal.SIGINT, signal.SIGTERM):

        def interrupt(number: int = number) -> None:
            while not (tmp_path / "going").exists():
                time.sleep(0.01)
            if number == signal.SIGINT:  # a terminal tells the command, too
                os.kill(int((tmp_path / "going").read_text()), number)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=interrupt)
        thread.start()
        assert start._run(["train"]) == (75, True)
        thread.join()
        (tmp_path / "saved").unlink()
        (tmp_path / "going").unlink()


@pytest.mark.slow
def test_from_a_folder_to_a_search_and_again(tmp_path: Path, shared_data: Path) -> None:
    folder = photos(tmp_path / "photos", 60, each=2)
    words = [sys.executable, "-m", "lift", "start", str(folder), "--out", "out", "--minutes", "1"]
    for _ in range(2):  # the second time all is there
        done = subprocess.run(
            [*words, "--no-serve"], cwd=tmp_path, capture_output=True, text=True, env=os.environ
        )
        assert done.returncode == 0, done.stderr[-2_000:]
    assert "60 unchanged" in done.stdout and "lift serve out/index" in done.stdout
    plan = json.loads((tmp_path / "out" / "start.json").read_text())
    with lift.open_index(tmp_path / "out" / "index") as index:
        assert len(index) == 60 and index.search(plan["first"], kinds=["text"])[0].cosine > 0.99
