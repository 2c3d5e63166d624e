"""Tuning what knows something already: blocks that stand still, anchors, teachers, the guard."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import lift
from lift.bundle import load as load_bundle
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.errors import ConfigError, LiftError, NotFinite, Regressed, SpaceMismatch
from lift.heads import HeadConfig
from lift.text.conditioning import ConditionConfig
from lift.training import guard
from lift.training.anchor import AnchorConfig
from lift.training.config import OptimConfig, RunConfig
from lift.training.guard import GuardConfig
from lift.training.loop import run
from lift.training.step import Stepper

from .conftest import TRAIN, VALIDATION

Maker = Callable[..., RunConfig]
LOOK = Transform(resolution=32)
SMALL = part("towers", "vit", width=16, depth=1, heads=1, patch=8, resolution=32)


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a k-NN evaluation that any tower passes which tells colours apart."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("colours")
    for split, count in (("train", 8), ("test", 12)):
        for name, colour in {
            "red": (220, 40, 40),
            "green": (40, 200, 60),
            "blue": (40, 60, 220),
        }.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(colour, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    test, train = (f"classes:path={folder / split}" for split in ("test", "train"))
    return f"knn:data=[{test}],train=[{train}],label=class,k=5"


@pytest.fixture
def tuned(tiny: Maker, tower: Path) -> Maker:
    """Return a maker of runs that start from a model whose tower they find out by themselves."""

    def make(**changes: Any) -> RunConfig:
        fixed = {
            "start": str(tower),
            "tower": part("towers", "stored"),
            "head": HeadConfig(kind="residual", hidden=16),
            "transform": Transform(),
            "evaluate_every": 0,
            "ema": None,
        }
        return tiny(**{**fixed, **changes})

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    for place in (folder, folder / "model"):
        if (place / "model.safetensors").exists():
            return load_file(place / "model.safetensors")
    raise AssertionError(folder)


def test_last_blocks_leave_the_rest_bit_equal(tuned: Maker, tower: Path, tmp_path: Path) -> None:
    run(tuned(last_blocks=1), tmp_path / "run", progress=False)
    before, after = weights(tower), weights(tmp_path / "run")
    moved = {n for n, v in before.items() if n.startswith("tower.") and not v.equal(after[n])}
    assert moved and all(n.startswith(("tower.blocks.1.", "tower.norm.")) for n in moved)
    with pytest.raises(ConfigError, match="last_blocks=5, but the tower has 2 blocks"):
        run(tuned(last_blocks=5), tmp_path / "other", progress=False)


def test_an_anchor_holds_the_tower(tuned: Maker, tower: Path, tmp_path: Path) -> None:
    images = [open_source(VALIDATION).read(n).image for n in range(32)]
    start = load_bundle(tower).features(images)
    far = {}
    for name, anchor in (
        ("free", AnchorConfig()),
        ("held", AnchorConfig(instance=5.0)),
        ("shaped", AnchorConfig(structure=20.0)),
    ):
        run(tuned(anchor=anchor, samples=96 * 6), tmp_path / name, progress=False)
        h = load_bundle(tmp_path / name).features(images)
        cosine = (h * start).sum(1) / np.linalg.norm(h, axis=1) / np.linalg.norm(start, axis=1)
        z, z0 = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (h, start))
        far[name] = 1 - cosine.mean(), np.abs(z @ z.T - z0 @ z0.T).mean()
    assert far["held"][0] < 0.3 * far["free"][0]
    assert far["shaped"][1] < 0.8 * far["free"][1]


def test_an_anchored_run_that_is_resumed_is_held_to_the_same_start(
    tuned: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tuned(
        anchor=AnchorConfig(instance=1.0, structure=1.0), optim=OptimConfig(accumulate=2)
    )
    run(config, tmp_path / "whole", progress=False)
    take, left = Stepper.take, [7]

    def dying(self: Stepper, *args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return take(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "take", dying)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "parts", progress=False)
    run(config, tmp_path / "parts", progress=False)
    whole, parts = ((tmp_path / n / "model" / "model.safetensors") for n in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.fixture
def collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tower say the same of every image from the third step on."""
    take = Stepper.take

    def taken(self: Stepper, *args: Any, **more: Any) -> Any:
        report = take(self, *args, **more)
        if args[1] >= 2:
            tower = self.means.model.image.tower
            assert tower is not None
            with torch.no_grad():
                for name, value in tower.named_parameters():
                    value.fill_(float(name == "norm.bias"))
        return report

    monkeypatch.setattr(Stepper, "take", taken)


@pytest.mark.usefixtures("collapse")
def test_the_guard_catches_a_collapse(tuned: Maker, watched: str, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    config = tuned(
        guard=GuardConfig(on=(watched,), drop=0.02, on_breach="stop"),
        evaluate_every=4,
        checkpoint_every=100,
    )
    words = r"After step 4 .* knn on .* fell from 100\.0% to 33\.3%, .* guard.drop allows 2 points"
    with pytest.raises(Regressed, match=words):
        run(config, stopped, progress=False)
    facts = json.loads((stopped / "run.json").read_text())
    assert facts["status"] == "running"
    with pytest.raises(Regressed, match=words):  # and again: not one step further
        run(config, stopped, progress=False)
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["step-00000004"]
    told = dataclasses.replace(config, guard=GuardConfig(on=(watched,)))
    run(told, tmp_path / "told", progress=False)
    (change,) = guard.report(tmp_path / "told", 0.02)
    assert change.breach and change.before.value - change.after.value > 0.02
    assert "BREACH" in guard.table([change])


def test_the_guard_lets_pass_what_stands_still(tuned: Maker, watched: str, tmp_path: Path) -> None:
    config = tuned(
        freeze=("image.tower",),
        guard=GuardConfig(on=(watched,), drop=0.0, on_breach="stop"),
        evaluate_every=7,
    )
    run(config, tmp_path / "run", progress=False)
    (change,) = guard.report(tmp_path / "run", 0.0)
    assert change.before == change.after and not change.breach


@pytest.fixture(scope="session")
def taught(tower: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a teacher's features of three random views of each image."""
    folder = tmp_path_factory.mktemp("taught") / "features"
    words = ["augment.scale=0.3,0.9", "augment.flip=0.5", "augment.jitter=1", "augment.hue=0.1"]
    lift.embed_images([TRAIN], out=folder, tower=str(tower), views=3, options=words, progress=False)
    return folder


def test_a_student_sees_what_its_teacher_saw(captions: Path, tower: Path, taught: Path) -> None:
    teacher, cache = load_bundle(tower), FeatureCache.open(taught)
    loader = Loader(
        open_source(TRAIN),
        EmbeddingCache.open(captions),
        Transform(resolution=32),
        LoaderConfig(batch_size=24),
        seed=3,
        teacher=cache,
    )
    seen = []
    for batch in loader.batches(3, 9):
        assert batch.taught is not None and batch.taught.all() and batch.teacher is not None
        pixels = teacher.transform.normalise(loader.images(batch))
        with torch.no_grad():
            h = teacher.side.features(pixels)
        stored = loader.decode_teacher(batch.teacher)
        assert torch.allclose(h, stored, atol=2e-2), float((h - stored).abs().max())
        seen.append(stored)
    assert torch.cat(seen).unique(dim=0).shape[0] > 1.4 * 96  # views, not images alone


@pytest.mark.slow
def test_a_small_tower_learns_from_a_large_one(
    tiny: Maker, tower: Path, taught: Path, tmp_path: Path
) -> None:
    images = [open_source(VALIDATION).read(n).image for n in range(32)]
    goal = load_bundle(tower).encode_images(images)
    small = part("towers", "vit", width=16, depth=1, heads=1, patch=8, resolution=32)
    config = tiny(
        tower=small,
        transform=Transform(resolution=32),
        head=HeadConfig(layers=1),
        anchor=AnchorConfig(instance=10.0, of="vector", cache=str(taught), model=str(tower)),
        optim=OptimConfig(lr=3e-3, warmup_steps=4),
        samples=96 * 12,
        ema=None,
    )
    run(config, tmp_path / "taught", progress=False)
    alone = dataclasses.replace(config, anchor=AnchorConfig())
    run(alone, tmp_path / "alone", progress=False)
    near = {
        name: (load_bundle(tmp_path / name).encode_images(images) * goal).sum(1).mean()
        for name in ("taught", "alone")
    }
    assert near["taught"] > near["alone"] + 0.1
    with pytest.raises(ConfigError, match=r"set transform\.canvas=none"):
        dataclasses.replace(config, transform=Transform(resolution=32, canvas=32))
    lift.embed(
        [TRAIN, VALIDATION], out=tmp_path / "c", encoder="hashing:dimensions=48", progress=False
    )
    other = dataclasses.replace(config, cache=str(tmp_path / "c"), encoder=None)
    with pytest.raises(SpaceMismatch, match="give a teacher of the same space"):
        run(other, tmp_path / "other", progress=False)


def test_bad_words_of_the_guard_leave_nothing_behind(tuned: Maker, tmp_path: Path) -> None:
    with pytest.raises(LiftError, match="knm"):
        run(tuned(guard=GuardConfig(on=("knm:data=x",))), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "run.json").exists()


def test_images_are_not_held_to_a_head_that_begins_anew(
    tuned: Maker, tower: Path, taught: Path, tmp_path: Path
) -> None:
    held = AnchorConfig(instance=1.0, of="vector")
    whitened = ConditionConfig(kind="whiten")
    for name, changes, words in (
        ("a", {"condition": whitened}, "not in the conditioned one. Say anchor.of=tower"),
        ("b", {"head": HeadConfig(layers=2, unit=True)}, "of a shape that it can't take over"),
        ("c", {"start": "", "tower": SMALL, "transform": LOOK}, "there is no start"),
    ):
        with pytest.raises(ConfigError, match=words):
            run(tuned(anchor=held, **changes), tmp_path / name, progress=False)
    teacher = AnchorConfig(instance=1.0, of="vector", cache=str(taught), model=str(tower))
    with pytest.raises(ConfigError, match="answers in the space itself"):
        run(tuned(anchor=teacher, condition=whitened), tmp_path / "d", progress=False)
    assert not list(tmp_path.rglob("run.json"))
    run(tuned(anchor=held), tmp_path / "e", progress=False)


def test_a_head_that_begins_anew_is_told(tuned: Maker, tmp_path: Path) -> None:
    run(tuned(head=HeadConfig(layers=2, unit=True), samples=96), tmp_path / "run", progress=False)
    assert "The head of this run begins anew" in (tmp_path / "run" / "events.jsonl").read_text()


def test_cosines_of_conditioned_rows_are_not_those_of_an_index(tuned: Maker) -> None:
    with pytest.raises(ConfigError, match="objective=compatible exclude each other"):
        tuned(condition=ConditionConfig(kind="whiten"), objective=part("objectives", "compatible"))


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
def test_a_teachers_row_that_is_no_number_is_named(
    tiny: Maker, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    decode = Loader.decode_teacher

    def broken(self: Loader, stored: torch.Tensor) -> torch.Tensor:
        rows = decode(self, stored)
        return torch.where(torch.arange(len(rows))[:, None] == 3, torch.nan, rows)

    monkeypatch.setattr(Loader, "decode_teacher", broken)
    config = tiny(
        transform=LOOK,
        objective=part("objectives", objective),
        anchor=AnchorConfig(instance=1.0, cache=str(taught)),
        optim=OptimConfig(accumulate=2),
    )
    with pytest.raises(NotFinite, match="Samples"):
        run(config, tmp_path / "run", progress=False)
