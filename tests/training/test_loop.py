"""The run: it learns, ends with a model, refuses what does not fit, and resumes to the bit."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import lift
from lift.config import override, part, to_json
from lift.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingRows,
    SpaceMismatch,
    StorageError,
)
from lift.training.config import RunConfig
from lift.training.loop import run

Maker = Callable[..., RunConfig]


def events(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model" / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    for name in one:
        assert np.array_equal(one[name], two[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder for the one uninterrupted run that several tests look at."""
    return tmp_path_factory.mktemp("runs") / "finished"


def test_a_run_learns_and_ends_with_a_model(tiny: Maker, finished: Path) -> None:
    config = tiny(samples=96 * 12)
    result = run(config, finished.with_name("longer"), progress=False)
    losses = [event["loss"] for event in events(result.folder, "step")]
    assert losses[-1] < losses[0] - 0.2
    assert result.results[0].evaluation == "retrieval"
    model = lift.load(result.folder)
    image = np.zeros((32, 32, 3), np.uint8)
    assert model.encode_images(image).shape == (1, 32)
    facts = json.loads((result.folder / "run.json").read_text())
    assert facts["status"] == "finished" and facts["threads"] == 1
    assert facts["config"]["tower"]["options"]["mlp_ratio"]  # defaults are spelled out
    evaluated = events(result.folder, "eval")
    assert [event["step"] for event in evaluated][-1] == config.steps
    assert {path.name for path in (result.folder / "evals").glob("*.json")}


def test_a_finished_run_is_not_run_again(tiny: Maker, finished: Path) -> None:
    first = run(tiny(), finished, progress=False)
    before = (finished / "model" / "model.safetensors").stat().st_mtime_ns
    again = run(tiny(), finished, progress=False)
    assert (finished / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert again.steps == first.steps
    assert [r.metrics for r in again.results] == [r.metrics for r in first.results]


def test_workers_change_nothing(tiny: Maker, finished: Path, tmp_path: Path) -> None:
    run(tiny(), finished, progress=False)
    config = tiny()
    config = dataclasses.replace(config, loader=dataclasses.replace(config.loader, workers=1))
    run(config, tmp_path / "run", progress=False)
    assert_same_weights(finished, tmp_path / "run")


def _refuses(config: RunConfig, out: Path, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        run(config, out, progress=False)
    assert not (out / "run.json").exists()


def test_another_text_encoder_is_refused(tiny: Maker, tmp_path: Path) -> None:
    config = tiny(encoder=part("text/encoders", "hashing", dimensions=32, seed=9))
    _refuses(config, tmp_path / "run", SpaceMismatch, "fingerprint")
    config = tiny(encoder=None, dimensions=4096)
    _refuses(config, tmp_path / "run", ConfigError, "needs rows of 4096 numbers, .* has 32")


def test_a_caption_without_row_is_refused(tiny: Maker, tmp_path: Path) -> None:
    config = tiny(data="scenes:count=96,seed=2,resolution=32")
    _refuses(config, tmp_path / "run", MissingRows, "lift embed")
    config = tiny(validation="scenes:count=96,seed=3,resolution=32")
    _refuses(config, tmp_path / "run", MissingRows, "lift embed")


def test_other_folders_and_other_options_are_refused(tiny: Maker, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.doc").write_text("precious")
    _refuses(tiny(), theirs, CheckpointError, "holds something else")
    ours = tmp_path / "ours"
    run(tiny(samples=32), ours, progress=False)
    changed = tiny(samples=32, seed=5)
    with pytest.raises(CheckpointError, match=r"a run with seed=0, not 5"):
        run(changed, ours, progress=False)
    run(tiny(samples=32, log_every=1), ours, progress=False)  # how often to say so may change


def test_a_run_goes_on_in_its_own_text_space_and_on_its_own_pairs(
    tiny: Maker, tmp_path: Path
) -> None:
    config = tiny(encoder=None, validation="", evaluations=(), samples=96 * 40)
    out = tmp_path / "run"
    process = _start(config, out)
    _wait_for_step(out, 4, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 75
    other = tmp_path / "other"
    encoder = "hashing:dimensions=32,seed=7"
    lift.embed([config.data], out=other, encoder=encoder, progress=False)
    with pytest.raises(SpaceMismatch, match="give the cache that the run was started with"):
        run(dataclasses.replace(config, cache=str(other)), out, progress=False)
    fewer = config.data.replace("count=96", "count=80")
    with pytest.raises(CheckpointError, match="was started on other pairs"):
        run(dataclasses.replace(config, data=fewer), out, progress=False)
    record = json.loads((out / "run.json").read_text())
    del record["pairs"]["order"]  # as an older lift wrote it
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="to which a seed meant another order"):
        run(config, out, progress=False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("optim.clip_norm=-1", "optim.clip_norm must be above 0, or none, not -1.0"),
        ("optim.weight_decay=-1", "optim.weight_decay must be 0 or more"),
        ("optim.betas=[1.5,0.9]", "optim.betas must be two numbers in"),
        ("optim.final_lr=-3", "optim.final_lr must lie in"),
        ("threads=0", "threads must be at least 1, or none, not 0"),
        ("seed=99999999999999999999", "seed must lie in"),
        ("samples=3", "less than one step of 16 images"),
        ("log_every=-1", "log_every must be 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(tiny: Maker, words: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        override(tiny(), [words])


def test_a_later_evaluation_does_not_change_what_the_run_found(tiny: Maker, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run(tiny(samples=64), out, progress=False)
    (out / "evals" / "notes.json").write_text("[]")
    lift.evaluate(out, on="retrieval:data=[scenes:count=9,resolution=32]", progress=False)
    again = run(tiny(samples=64), out, progress=False)
    assert [r.data for r in again.results] == [r.data for r in first.results]
    assert [r.metrics for r in again.results] == [r.metrics for r in first.results]


def test_a_run_in_another_thread(tiny: Maker, tmp_path: Path) -> None:
    """Signals can be handled in the main thread only; a server may train in another one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run, tiny(samples=32), tmp_path / "run", progress=False).result()
    assert result.steps == 2


def _start(config: RunConfig, out: Path, before: str = "") -> subprocess.Popen[str]:
    """Start `lift train` in a process of its own: real signals need a real process."""
    path = out.with_suffix(".json")
    path.write_text(to_json(config))
    program = f"{before}\nimport sys; from lift.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, "train", path, "--out", out, "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "events.jsonl").exists():
            if any(e.get("step", 0) >= step for e in events_so_far(out)):
                return
        time.sleep(0.02)


def events_so_far(out: Path) -> list[dict]:
    found = []
    for line in (out / "events.jsonl").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # the line being written
            continue
    return found


def test_sigterm_saves_and_leaves_with_its_own_code(tiny: Maker, tmp_path: Path) -> None:
    config = tiny(samples=96 * 20, checkpoint_every=0, evaluate_every=0)
    out = tmp_path / "stopped"
    process = _start(config, out)
    _wait_for_step(out, 6, process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 75, told
    assert "Run the same command again to go on" in told
    run(config, out, resume=True, progress=False)
    run(config, tmp_path / "straight", progress=False)
    assert_same_weights(out, tmp_path / "straight")
    steps = [event["step"] for event in events(out, "step")]
    assert steps == sorted(set(steps))


def _killed_run_ends_equal(config: RunConfig, tmp_path: Path, kills: int) -> None:
    run(config, tmp_path / "straight", progress=False)
    out = tmp_path / "killed"
    dice = random.Random(7)
    for _ in range(kills):
        process = _start(config, out)
        reached = (
            max((e.get("step", 0) for e in events_so_far(out)), default=0)
            if (out / "events.jsonl").exists()
            else 0
        )
        _wait_for_step(out, reached + dice.randint(1, 8), process)
        time.sleep(dice.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    run(config, out, progress=False)
    assert_same_weights(out, tmp_path / "straight")
    straight = [e["loss"] for e in events(tmp_path / "straight", "step")]
    by_step = {e["step"]: e["loss"] for e in events(out, "step")}
    assert len(by_step) == len(events(out, "step")) >= len(straight) - kills


def test_a_killed_run_ends_with_equal_weights(tiny: Maker, tmp_path: Path) -> None:
    _killed_run_ends_equal(tiny(samples=96 * 6), tmp_path, kills=2)


@pytest.mark.slow
def test_ten_kills_change_nothing(tiny: Maker, tmp_path: Path) -> None:
    _killed_run_ends_equal(tiny(samples=96 * 30), tmp_path, kills=10)


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    tiny: Maker, tmp_path: Path
) -> None:
    config = tiny(checkpoint_every=4)
    out = tmp_path / "full"
    # Files may grow to 20 kB: run.json and events fit, a checkpoint of 70 kB weights does not.
    process = _start(
        config,
        out,
        before="import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))",
    )
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    assert "Can't write" in told and "Traceback" not in told
    assert not list((out / "checkpoints").glob("*"))
    run(config, out, progress=False)
    run(config, tmp_path / "straight", progress=False)
    assert_same_weights(out, tmp_path / "straight")


def test_two_runs_in_one_folder_are_refused(tiny: Maker, tmp_path: Path) -> None:
    from lift.files import sole_writer

    with (
        sole_writer(tmp_path / "run"),
        pytest.raises(StorageError, match="Another process is writing"),
    ):
        run(tiny(), tmp_path / "run", progress=False)


def test_an_unreadable_image_is_counted_and_named(tiny: Maker, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "pairs"
    folder.mkdir()
    lines = ["image\tcaption"]
    for i in range(20):
        path = folder / f"{i}.png"
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(path)
        if i == 3:
            path.write_bytes(path.read_bytes()[:40])
        lines.append(f"{i}.png\tcaption {i}")
    (folder / "pairs.tsv").write_text("\n".join(lines))
    data = f"table:path={folder}/pairs.tsv,image=image,caption=caption"
    lift.embed([data], out=tmp_path / "cache", encoder="hashing:dimensions=32", progress=False)
    config = tiny(
        data=data, validation="", evaluations=(), cache=str(tmp_path / "cache"), samples=40
    )
    config = dataclasses.replace(config, loader=dataclasses.replace(config.loader, batch_size=20))
    result = run(config, tmp_path / "run", progress=False)
    # Of two epochs; the file is cut off within its header.
    assert result.counters == {"left out, not an image": 1, "views left out": 2}
    warnings = [event["text"] for event in events(result.folder, "warning")]
    assert sum("'3'" in text for text in warnings) == 1, warnings


def test_the_environment_changes_no_result(
    tiny: Maker, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny(), finished, progress=False)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "2")
    monkeypatch.chdir(tmp_path)
    run(tiny(), tmp_path / "run", progress=False)
    assert_same_weights(finished, tmp_path / "run")


def test_texts_without_images_are_no_pairs(tmp_path):
    (tmp_path / "c.txt").write_text("a\nb\n")
    lift.embed([str(tmp_path / "c.txt")], out=tmp_path / "c", encoder="hashing", progress=False)
    options = ["encoder=hashing", "samples=64", "evaluations=[]"]
    with pytest.raises(DataError, match="holds texts without images"):
        lift.train(
            "quickstart",
            data=str(tmp_path / "c.txt"),
            cache=tmp_path / "c",
            out=tmp_path / "run",
            options=options,
        )
