"""Models judged side by side: by one process and two, stopped and gone on, against each other."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import lift
from lift.config import to_dict
from lift.errors import CheckpointError, ConfigError, DataError, MissingRows, StorageError
from lift.files import sole_writer
from lift.judging.found import folders_of
from lift.results import read_results

MODEL = Path(__file__).parents[1] / "fixtures" / "bundle-v1"
SCENES = "[scenes:count=24,resolution=32]"
RETRIEVAL = f"retrieval:data={SCENES}"
QUIET = {"progress": False, "efficiency": False, "report": False}


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


@pytest.fixture
def other(tmp_path):
    """The same model with other weights."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "other"))
    tensors = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(0)
    tensors = {
        n: (t + 0.3 * rng.standard_normal(t.shape)).astype(t.dtype) for n, t in tensors.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def figures(results):
    return [{**to_dict(result), "seconds": 0, "encoder": ""} for result in results]


def test_one_model_is_judged_where_it_lies(model):
    found = lift.judge(model, on=RETRIEVAL, **QUIET)
    (judged,) = found.models
    assert judged.folder == model / "evals" and found.told and not found.differences
    assert figures(read_results(model / "evals")) == figures(judged.results)
    assert read_results(model / "evals")[0].metrics["text_to_image/R@1"].outcomes is not None
    assert figures(lift.evaluate(model, on=[RETRIEVAL], progress=False)) == figures(judged.results)


def test_what_was_encoded_is_not_encoded_again(model, tmp_path, monkeypatch):
    first = lift.judge(model, on=RETRIEVAL, out=tmp_path / "out", **QUIET)
    assert list((tmp_path / "out" / "vectors").glob("*/features.rows"))
    monkeypatch.setattr(lift.Bundle, "_rows", None)  # the tower is not asked
    again = lift.judge(
        model,
        on=[RETRIEVAL, f"retrieval:data={SCENES},protocol=first-caption"],
        out=tmp_path / "out",
        **QUIET,
    )
    assert figures(again.models[0].results[:1]) == figures(first.models[0].results)


def test_another_model_has_vectors_of_its_own(model, other, tmp_path):
    found = lift.judge(model, on=RETRIEVAL, against=other, out=tmp_path / "out", **QUIET)
    assert len(list((tmp_path / "out" / "vectors").iterdir())) == 2
    ours, theirs = found.models
    assert ours.name != theirs.name and ours.folder != theirs.folder
    alone = lift.judge(other, on=RETRIEVAL, out=tmp_path / "alone", **QUIET)
    assert figures(theirs.results) == figures(alone.models[0].results)
    first = next(one for one in found.differences if one.primary)
    assert first.mean == pytest.approx(
        ours.results[0].metrics[first.metric].value - theirs.results[0].metrics[first.metric].value
    )
    assert first.low is not None and first.low <= first.mean <= first.high


def test_every_model_has_a_folder_of_its_own():
    names = ["a b", "a-b", "A b", "vectors", "x" * 90, "y" * 10 + "x" * 80, "...", ""]
    found = folders_of(names, ["vectors"])
    assert found[:4] == ["a-b", "a-b-2", "A-b-3", "vectors-2"]
    assert len({one.lower() for one in found}) == len(names) and "vectors" not in found


def test_one_process_at_a_time_writes_into_a_folder(model, tmp_path):
    with (
        sole_writer(tmp_path / "out"),
        pytest.raises(StorageError, match="Another process is writing"),
    ):
        lift.judge(model, on=RETRIEVAL, out=tmp_path / "out", **QUIET)
    assert not list(tmp_path.glob("out/*"))
    lift.judge(model, on=RETRIEVAL, out=tmp_path / "out", **QUIET)


def test_names_that_are_no_unicode_are_spelled_out(model, tmp_path):
    folder = tmp_path / os.fsdecode(b"n\xffx")
    folder.mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (16, 16), name).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"a {name} square")
    found = lift.judge(model, on=str(folder), out=tmp_path / "out", **QUIET | {"report": True})
    assert figures(read_results(tmp_path / "out")) == figures(
        sorted(found.models[0].results, key=lambda r: r.evaluation)
    )
    assert found.report is not None and found.report.exists()


def test_vectors_that_are_not_stored_leave_out_what_a_folder_suggests(model, tmp_path, monkeypatch):
    from lift import catalog

    on = (f"zeroshot:data={SCENES},label=scene", RETRIEVAL)
    found = catalog.Catalogue((catalog.Found("one", "x", on),), (), unseen=("x/many",))
    monkeypatch.setattr("lift.judging.bench.search", lambda folder: found)

    def lacking(self, texts):
        if any("photo" in text for text in texts):
            raise MissingRows("1 of 1 texts have no vector.")
        return encode(self, texts)

    encode = lift.Bundle.encode_texts
    monkeypatch.setattr(lift.Bundle, "encode_texts", lacking)
    judged = lift.judge(model, on=str(tmp_path), out=tmp_path / "out", **QUIET)
    assert [result.evaluation for result in judged.models[0].results] == ["retrieval"]
    assert "x/many" in judged.left_out[0] and "have no vector" in judged.left_out[1]


def test_seeds_are_one_arm(model, other, tmp_path):
    found = lift.judge(
        [model, other], on=RETRIEVAL, against=[other, model], out=tmp_path / "out", **QUIET
    )
    assert len(found.models) == 4 and len({one.name for one in found.models}) == 4
    assert all(one.seeds == 2 and one.mean == pytest.approx(0) for one in found.differences)


def test_a_model_that_stands_twice_in_an_arm_is_told(model, tmp_path):
    found = lift.judge([model, model], on=RETRIEVAL, out=tmp_path / "out", **QUIET)
    assert len(found.pooled) == 1 and any("is the same model as" in why for why in found.left_out)


LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lift")


def run(*words, launch=("-m", "lift")):
    command = [sys.executable, *launch, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(model, tmp_path):
    words = ("eval", model, "--on", RETRIEVAL, "--quiet", "--no-efficiency", "--no-page", "--out")
    one = run(*words, tmp_path / "one")
    assert one.returncode == 0, one.stderr
    two = run(*words, tmp_path / "two", launch=LAUNCH)
    assert two.returncode == 0, two.stderr
    assert figures(read_results(tmp_path / "one")) == figures(read_results(tmp_path / "two"))
    assert two.stdout.strip() == one.stdout.strip()


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(model, tmp_path):
    many = "retrieval:data=[scenes:count=3000,resolution=64]"
    words = ["eval", str(model), "--on", many, "--quiet", "--no-efficiency", "--no-page", "--out"]
    command = [sys.executable, "-m", "lift", *words, str(tmp_path / "stopped")]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    rows: list[Path] = []
    while time.monotonic() < deadline and started.poll() is None:
        rows = list((tmp_path / "stopped").glob("vectors/*/features.rows"))
        if rows and rows[0].stat().st_size:
            break
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    before = rows[0].stat().st_size
    assert 0 < before < 3000 * (20 + 4 * 64)
    assert run(*words, tmp_path / "stopped").returncode == 0
    assert run(*words, tmp_path / "whole").returncode == 0
    assert figures(read_results(tmp_path / "stopped")) == figures(read_results(tmp_path / "whole"))
    ends = [
        next(p.glob("vectors/*/features.rows")) for p in tmp_path.iterdir() if p.name != "model"
    ]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_what_a_folder_suggests_is_left_out_with_a_reason(model, tmp_path, monkeypatch):
    from lift import catalog

    folder = tmp_path / "sets" / "one"
    folder.mkdir(parents=True)
    on = (RETRIEVAL, f"zeroshot:data={SCENES},label=nonsense")
    found = catalog.Catalogue((catalog.Found("one", str(folder), on),), ("coco",))
    monkeypatch.setattr("lift.judging.bench.search", lambda folder: found)
    judged = lift.judge(model, on=str(folder), **QUIET)
    assert [result.evaluation for result in judged.models[0].results] == ["retrieval"]
    (why,) = judged.left_out
    assert "nonsense" in why and "was left out" in why
    assert judged.absent and judged.absent[0][0] == "coco"
    with pytest.raises(DataError, match="nonsense"):  # the user's own words are no suggestion
        lift.judge(model, on=on, **QUIET)


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        ({"models": []}, ConfigError, "No model was given"),
        ({"on": []}, ConfigError, "nothing to judge models on"),
        ({"models": "nowhere"}, CheckpointError, "neither a folder nor a kind of model"),
        ({"models": "nonsense:model=x"}, ConfigError, "Unknown contender 'nonsense'"),
        ({"against": ["a", "b"]}, ConfigError, "1 models against 2"),
        ({"on": "retrieval"}, ConfigError, "does not say on what to run"),
        ({"on": "retrieva:data=x"}, ConfigError, "retrieval"),
        ({"on": "no/where"}, ConfigError, "neither a folder of data sets nor an evaluation"),
        ({"on": f"{RETRIEVAL},role={'x' * 300}"}, DataError, "xxx"),
        ({"models": f"lift:model={'x' * 300}"}, CheckpointError, "File name too long"),
        ({"against": "model", "out": None}, ConfigError, "give --out FOLDER"),
    ],
)
def test_bad_words_are_one_sentence(model, tmp_path, monkeypatch, words, error, sentence):
    monkeypatch.chdir(tmp_path)
    given = {"models": model, "on": RETRIEVAL, "out": tmp_path / "out", **QUIET, **words}
    with pytest.raises(error, match=sentence):
        lift.judge(given.pop("models"), **given)


def test_an_empty_folder_says_what_to_write(model, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match="nothing to judge models on"):
        lift.judge(model, on=str(tmp_path / "nothing"), **QUIET)


def test_results_of_an_older_lift_are_read(model):
    lift.judge(model, on=RETRIEVAL, **QUIET)
    (path,) = (model / "evals").glob("*.json")
    content = json.loads(path.read_text())
    assert content["format"] == 2 and content["result"].pop("digest")
    path.write_text(json.dumps({**content, "format": 1}))
    (result,) = read_results(model / "evals")
    assert result.digest == ""
    assert all(metric.outcomes is None for metric in result.metrics.values())
    assert dataclasses.asdict(result)
