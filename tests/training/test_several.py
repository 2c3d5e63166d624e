"""Several real processes train one model: the same one that a single process trains."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import lift
from lift.config import part, to_json
from lift.data.loader import LoaderConfig
from lift.heads import HeadConfig
from lift.text.conditioning import ConditionConfig
from lift.training.anchor import AnchorConfig
from lift.training.config import MosaicConfig, OptimConfig, RunConfig
from lift.training.loop import run

Maker = Callable[..., RunConfig]

STILL = part("towers", "vit", width=32, depth=2, heads=2, patch=8, resolution=32)
"""A tower that drops nothing: what is dropped depends on which rank has an image."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(
    ranks: int, runs: Mapping[Path, RunConfig], program: str | None = None
) -> subprocess.Popen[str]:
    """Start `torchrun` on runs, by folder; it leads a group of processes that can be killed."""
    words = []
    for out, config in runs.items():
        path = out.with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(config))
        words.append(f"{path}={out}")
    program = program or str(Path(__file__).with_name("several.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--master-port", str(free_port()), "--max-restarts", "0", program, *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def train(ranks: int, runs: Mapping[Path, RunConfig]) -> None:
    process = start(ranks, runs)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told[-4000:]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((out / "checkpoints").glob("step-*"))[-1] / "model.safetensors")


def furthest(a: Path, b: Path) -> float:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    return max(float((ours[n] - theirs[n]).abs().max()) for n in ours)


def equal_results(a: Path, b: Path) -> bool:
    """Return whether two runs found the same in every evaluation, to the last digit."""

    def found(out: Path) -> list:
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        results = [result for event in events if event["event"] == "eval"
                   for result in event["results"]]  # fmt: skip
        return [result["metrics"] for result in results]

    return found(a) == found(b) and bool(found(a))


def steps_of(out: Path) -> list[list[float]]:
    """Return loss and gradient norm of every reported step."""
    events = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    return [[e["loss"], e["grad_norm"]] for e in events if e["event"] == "step"]


@pytest.fixture
def still(tiny: Maker) -> Maker:
    """Return a maker of runs in float64 whose steps don't depend on who takes them."""

    def make(**changes) -> RunConfig:
        fixed = {"tower": STILL, "precision": "float64", "samples": 16 * 10, "evaluate_every": 5}
        return tiny(**{**fixed, **changes})

    return make


def ways(still: Maker) -> dict[str, RunConfig]:
    """Return a run for each way in which ranks have to talk."""
    several = LoaderConfig(batch_size=16, captions="all")
    optim = OptimConfig(lr=1e-3, warmup_steps=4, accumulate=2)
    text = part("text_towers", "transformer", width=32, depth=1, heads=2, context=16)
    clip = {
        "cache": "",
        "encoder": None,
        "dimensions": 24,
        "text_tower": text,
        "text_head": HeadConfig(layers=1, bias=False),
        "ema": None,
    }
    return {
        "softmax": still(loader=several),
        "sigmoid": still(objective=part("objectives", "sigmoid")),
        "cosine": still(objective=part("objectives", "cosine"), optim=optim),
        "matryoshka": still(objective=part("objectives", "matryoshka", prefixes=(8, 16))),
        "in batches": still(optim=optim, bank=40),
        "conditioned": still(condition=ConditionConfig(kind="whiten", dimensions=16)),
        "mosaics": still(mosaic=MosaicConfig(every=2), loader=LoaderConfig(batch_size=24)),
        "anchored": still(
            anchor=AnchorConfig(instance=0.7, structure=0.4), optim=optim, last_blocks=1
        ),
        "clip": still(**clip),
        "clip in batches": still(**clip, optim=optim),
    }


@pytest.fixture
def on_features(still: Maker, features: Path) -> RunConfig:
    """Return a run on stored features in float64."""
    head = HeadConfig(kind="gated", hidden=16, standardise=True)
    return still(features=str(features), tower=part("towers", "stored"), head=head, patience=9)


def _same_on(ranks: int, configs: Mapping[str, RunConfig], tmp_path: Path) -> None:
    for name, config in configs.items():
        run(config, tmp_path / "one" / name, progress=False)
    train(ranks, {tmp_path / "several" / name: config for name, config in configs.items()})
    for name in configs:
        one, several = tmp_path / "one" / name, tmp_path / "several" / name
        assert furthest(one, several) < 1e-8, name
        assert equal_results(one, several), name
        # Clipping and AdamW hide the length of a gradient: it is compared by itself.
        for ours, theirs in zip(steps_of(one), steps_of(several), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9), name
        ours, theirs = (json.loads((at / "run.json").read_text()) for at in (one, several))
        assert ours["counters"] == theirs["counters"]
        trained_on = (at / "model" / "trained_on.parquet" for at in (one, several))
        ours, theirs = (path.read_bytes() for path in trained_on)
        assert ours == theirs, name


def test_three_ranks_train_the_model_that_one_process_trains(
    still: Maker, on_features: RunConfig, tmp_path: Path
) -> None:
    configs = ways(still)
    chosen = ("in batches", "clip in batches", "anchored")
    configs = {name: configs[name] for name in chosen} | {"on features": on_features}
    _same_on(3, configs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_train_the_model_that_one_process_trains(
    still: Maker, on_features: RunConfig, tmp_path: Path, ranks: int
) -> None:
    configs = {**ways(still), "on features": on_features}
    if 24 % (4 * ranks):  # tiles of a mosaic are neighbours of one rank
        del configs["mosaics"]
    _same_on(ranks, configs, tmp_path)


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "events.jsonl").exists():
            lines = (out / "events.jsonl").read_text().splitlines()[:-1]
            if any(json.loads(line).get("step", 0) >= step for line in lines):
                return
        time.sleep(0.02)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that a `torchrun` started, in the order of their ranks."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = [word for word in words if word.startswith(b"RANK=")]
        if parent == process.pid and rank:
            found[int(rank[0][5:])] = int(entry.name)
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_and_the_next_one_goes_on(
    tiny: Maker, still: Maker, tmp_path: Path
) -> None:
    """With as many ranks to the bit, with all that is drawn at random; with others nearly."""
    dice = random.Random(5)
    straight, killed, fewer = (tmp_path / name for name in ("straight", "killed", "fewer"))
    config = tiny(samples=96 * 6, evaluate_every=0)
    train(3, {straight: config})
    process = start(3, {killed: config})
    wait_for_step(killed, dice.randint(6, 16), process)
    victim = dice.randrange(3)
    os.kill(children(process)[victim], signal.SIGKILL)
    _, told = process.communicate(timeout=200)
    assert process.returncode != 0, told
    assert not json.loads((killed / "run.json").read_text())["status"] == "finished"
    train(3, {killed: config})
    ours, theirs = weights(straight), weights(killed)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    one = tmp_path / "one"
    config = still(samples=16 * 20, evaluate_every=0)
    run(config, one, progress=False)
    process = start(2, {fewer: config})
    wait_for_step(fewer, 8, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run(config, fewer, progress=False)
    assert furthest(one, fewer) < 1e-8
    events = [json.loads(line) for line in (fewer / "events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == sorted(set(steps))


def test_sigterm_stops_all_ranks_after_the_same_step(tiny: Maker, tmp_path: Path) -> None:
    config = tiny(samples=96 * 20, evaluate_every=0, checkpoint_every=0)
    out = tmp_path / "run"
    config = dataclasses.replace(config, loader=LoaderConfig(batch_size=16, workers=1))
    process = start(2, {out: config})
    wait_for_step(out, 6, process)
    # As a scheduler does: to one rank, whose data worker gets it, too; the other only hears of it.
    os.killpg(os.getpgid(children(process)[1]), signal.SIGTERM)
    _, told = process.communicate(timeout=200)
    assert "Stopped by" in told, told
    (saved,) = (out / "checkpoints").glob("step-*")
    train(2, {out: config, tmp_path / "straight": config})
    ours, theirs = weights(out), weights(tmp_path / "straight")
    assert saved.name < "step-00000120"
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_bad_input_is_told_once(tiny: Maker, tmp_path: Path) -> None:
    config = tiny(cache=str(tmp_path / "nothing"))
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    program = tmp_path / "train.py"
    program.write_text(
        "import sys; from lift.cli import main; "
        f"sys.exit(main(['train', {str(path)!r}, '--out', {str(tmp_path / 'run')!r}, '--quiet']))"
    )
    process = start(2, {}, str(program))
    _, told = process.communicate(timeout=200)
    assert process.returncode != 0
    assert told.count("lift: ") == 1 and "There is no cache in" in told, told
    assert not (tmp_path / "run").exists()


def test_what_is_left_out_is_counted_once(still: Maker, tmp_path: Path) -> None:
    """Also where a rank's whole share of a batch can't be used."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    lines = ["image\tcaption"]
    for i in range(20):
        path = folder / f"{i}.png"
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(path)
        if i % 4 == 3:
            path.write_bytes(path.read_bytes()[:40])
        lines.append(f"{i}.png\tcaption {i}")
    (folder / "pairs.tsv").write_text("\n".join(lines))
    words = f"table:path={folder}/pairs.tsv,image=image,caption=caption"
    lift.embed([words], out=tmp_path / "cache", encoder="hashing:dimensions=32", progress=False)
    config = still(
        data=words,
        cache=str(tmp_path / "cache"),
        validation=words,  # an image that one rank can't read is one that none can
        samples=60,
        loader=LoaderConfig(batch_size=4),
    )
    run(config, tmp_path / "one", progress=False)
    train(3, {tmp_path / "several": config})
    assert furthest(tmp_path / "one", tmp_path / "several") < 1e-8
    assert equal_results(tmp_path / "one", tmp_path / "several")
    ours, theirs = (
        json.loads((tmp_path / name / "run.json").read_text())["counters"]
        for name in ("one", "several")
    )
    assert ours == theirs == {"left out, not an image": 5, "views left out": 15}
