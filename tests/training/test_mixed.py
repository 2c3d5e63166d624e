"""A run on several sources: the log has each one's loss, the end each one's images; it resumes."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest
from PIL import Image

import lift
from lift.data.source import open_source
from lift.errors import DataError
from lift.training.loop import run
from lift.training.step import Stepper

A, B = "scenes:count=40,resolution=32,seed=1", "scenes:count=24,resolution=32,seed=2"
MIXED = f"{A}@3::{B}@1"
NAMES = [f"scenes (seed {seed}, 0 + {count})" for seed, count in ((1, 40), (2, 24))]
ENCODER = "hashing:dimensions=32"


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "cache"
    lift.embed([A, B], out=folder, encoder=ENCODER, progress=False)
    return folder


@pytest.fixture
def config(tiny, cache):
    """Return a maker of configs without evaluations on `data`."""

    def make(data=MIXED, cache=cache, samples=320, every=0, **loader):
        made = tiny(
            data=data, cache=str(cache), validation="", evaluations=(), samples=samples,
            checkpoint_every=every, log_every=5,
        )  # fmt: skip
        return dataclasses.replace(made, loader=dataclasses.replace(made.loader, **loader))

    return make


def steps(out: Path) -> list[dict]:
    lines = (out / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


def test_losses_and_images_of_each_source(config, tmp_path):
    result = run(config(), tmp_path / "run", progress=False)
    counts = [result.counters[f"images of {name}"] for name in NAMES]
    assert sum(counts) == 320 and counts[0] == pytest.approx(240, abs=35)
    assert steps(result.folder)
    for event in steps(result.folder):
        assert all(event[f"loss, {name}"] > 0 for name in NAMES)


def test_a_run_on_two_sources_goes_on_to_the_bit(config, tmp_path, monkeypatch):
    whole = run(config(every=6), tmp_path / "whole", progress=False)
    original, calls = Stepper.take, []

    def failing(*args, **more):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(*args, **more)

    monkeypatch.setattr(Stepper, "take", failing)
    with pytest.raises(KeyboardInterrupt):
        run(config(every=6), tmp_path / "part", progress=False)
    monkeypatch.setattr(Stepper, "take", original)
    part = run(config(every=6), tmp_path / "part", progress=False)
    assert part.counters == whole.counters
    weights = [result.folder / "model" / "model.safetensors" for result in (whole, part)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_device_may_resize(config, tmp_path):
    """Here the device is the CPU: the same crops make the same run, but for rounded colours."""
    losses = []
    for where in ("worker", "device"):
        result = run(config(A, resize=where, workers=1), tmp_path / where, progress=False)
        losses.append([event["loss"] for event in steps(result.folder)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.fixture
def damaged(tmp_path) -> str:
    """Return words for 20 pairs, one with half an image and one without caption."""
    lines = ["image\tcaption"]
    for n in range(20):
        path = tmp_path / f"{n}.png"
        Image.radial_gradient("L").resize((40, 40)).save(path)
        if n == 3:
            path.write_bytes(path.read_bytes()[:300])
        lines.append(f"{n}.png\t{'' if n == 7 else f'thing {n}'}")
    (tmp_path / "p.tsv").write_text("\n".join(lines) + "\n")
    return f"table:path={tmp_path}/p.tsv"


def test_what_is_left_out_is_counted_once(config, tmp_path, damaged):
    own = tmp_path / "own"
    lift.embed([damaged], out=own, encoder=ENCODER, progress=False)
    result = run(config(damaged, own, samples=96), tmp_path / "run", progress=False)
    left = {what: n for what, n in result.counters.items() if n}
    assert left.pop("views left out") in (9, 10)  # 96 views are 4.8 epochs
    assert left == {"left out, empty caption": 1, "left out, truncated or damaged image": 1}
    with pytest.raises(DataError, match=r"^[Ss]ample '?[37]"):
        run(config(damaged, own, on_unreadable="stop"), tmp_path / "strict", progress=False)


def test_roles_that_neither_data_nor_cache_has_are_counted(config, tmp_path, damaged):
    """With linked captions nobody knows before: the sample is counted when it is met."""
    own, extra = tmp_path / "own", tmp_path / "extra.jsonl"
    keys = [key for key, _ in open_source(damaged).texts()]
    rows = [{"k": key, "t": f"rewrite {key}"} for key in keys if "5" not in key]
    extra.write_text("\n".join(map(json.dumps, rows)))
    words = [damaged, f"texts:path={extra},key=k,column=t,role=rewrite"]
    lift.embed(words, out=own, encoder=ENCODER, progress=False)
    made = config(damaged, own, samples=96, linked=True, captions="rewrite:1")
    result = run(made, tmp_path / "run", progress=False)
    lacking = sum("5" in key for key in keys)
    assert result.counters["left out, without a caption of the roles"] == lacking > 0


def test_workers_end_with_the_run_though_its_error_is_held(config, tmp_path, monkeypatch):
    before = set(multiprocessing.active_children())

    def failing(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "take", failing)
    with pytest.raises(KeyboardInterrupt) as held:
        run(config(workers=2), tmp_path / "run", progress=False)
    assert not set(multiprocessing.active_children()) - before, held
