"""Options of the engine: what a run starts from, holds still, shows small, competes with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file

import lift
from lift import plugins
from lift.candidates import Extra
from lift.config import override, part, to_json
from lift.data.loader import LoaderConfig
from lift.errors import ConfigError, NotEnoughMemory, NotFinite
from lift.heads import HeadConfig
from lift.model import TwoSided, build_side
from lift.text.conditioning import ConditionConfig
from lift.training import memory
from lift.training.config import LowResolutionConfig, MosaicConfig, OptimConfig, RunConfig
from lift.training.loop import run
from lift.training.optim import make_optimizer, set_rate
from lift.training.step import Stepper

Maker = Callable[..., RunConfig]

STILL = part("towers", "vit", width=32, depth=2, heads=2, patch=8, resolution=32)
QUIET = {"validation": "", "evaluations": (), "ema": None, "tower": STILL}
TEXT = part("text_towers", "transformer", width=32, depth=1, heads=2, context=16)


def weights(out: Path, last: int = -1) -> dict[str, torch.Tensor]:
    return load_file(sorted((out / "checkpoints").glob("step-*"))[last] / "model.safetensors")


def events(out: Path, kind: str) -> list[dict]:
    lines = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] == kind]


# --- what a run starts from, and what it holds still ----------------------------------------------


def test_a_run_may_start_from_a_model_and_hold_its_tower_still(tiny: Maker, tmp_path: Path) -> None:
    """LiT: a frozen image tower, a text side that learns to speak about it."""
    first = run(tiny(**QUIET, samples=64), tmp_path / "first", progress=False).folder
    config = tiny(
        **QUIET,
        cache="",
        encoder=None,
        dimensions=24,
        text_tower=TEXT,
        start=str(first / "model"),
        text_head=HeadConfig(layers=1, bias=False),
        freeze=("image.tower",),
        samples=96,
    )
    out = run(config, tmp_path / "lit", progress=False).folder
    began, ended = load_file(first / "model" / "model.safetensors"), weights(out)
    towers = [name for name in began if name.startswith("tower.")]
    assert towers and all(torch.equal(began[name], ended[f"image.{name}"]) for name in towers)
    moved = [name for name in ended if name.startswith(("text.tower.", "image.head."))]
    before = weights(out, 0)
    assert any(not torch.equal(before[name], ended[name]) for name in moved)
    model = lift.load(out)
    assert model.encode_texts(["a red circle"]).shape == (1, 24)


def test_a_start_with_another_tower_is_refused(tiny: Maker, tmp_path: Path) -> None:
    first = run(tiny(**QUIET, samples=32), tmp_path / "first", progress=False).folder
    other = part("towers", "vit", width=48, depth=2, heads=2, patch=8, resolution=32)
    config = tiny(**{**QUIET, "tower": other}, start=str(first / "model"))
    with pytest.raises(ConfigError, match="has another tower than recipe tiny"):
        run(config, tmp_path / "other", progress=False)
    assert not (tmp_path / "other" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (['freeze=["image.tower","image.head"]'], "freeze leaves nothing to train"),
        (["freeze=text.tower"], "freeze names text.tower, which this model does not have"),
        (["freeze=image"], "Unknown part in freeze: 'image'"),
        (["mosaic.every=2", "mosaic.tiles=3"], "32 x 32 pixels do not divide into 3 x 3 tiles"),
        (["low_resolution.resolution=20"], "do not divide into patches"),
        (["low_resolution.share=2"], "low_resolution.share must lie in"),
        (["optim.layer_decay=0"], "optim.layer_decay must lie in"),
        (["optim.text_rate=0"], "optim.text_rate must be above 0"),
        (["text_tower=transformer", "cache=none"], "say how wide with --set dimensions"),
        (["condition.kind=whiten", "objective=matryoshka"], "exclude each other"),
        (["loader.negatives=-1"], "loader.negatives must be at least 0"),
        (["low_resolution.resolution=32"], "must be below the resolution 32"),
        (["low_resolution.resolution=8", "mosaic.every=9"], "8 x 8 pixels do not divide into"),
        (["objective=cosine", "bank=5"], "objective=cosine pushes nothing away"),
        (["text_head.layers=1"], "text_head needs a text_tower"),
        (["text_tower=transformer", "dimensions=8", "bank=5"], "need stored rows"),
        (["text_tower=transformer", "dimensions=8", "objective=cosine"], "needs fixed texts"),
        (["objective=matryoshka", "objective.prefixes=[64]"], "64"),
        (["bank=-1"], "bank must be 0 or more"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    tiny: Maker, tmp_path: Path, words: list[str], sentence: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=sentence):
        run(override(tiny(**QUIET), words), out, progress=False)
    assert not (out / "run.json").exists()


def test_layer_decay_slows_the_lower_layers(tiny: Maker, tmp_path: Path) -> None:
    config = tiny(**QUIET)
    side = build_side(config.image, None, 32)
    model = TwoSided(side, build_side(config.text, 32, 32), plugins.build(config.objective))
    optimizer = make_optimizer(model, OptimConfig(lr=1e-3, layer_decay=0.5))
    set_rate(optimizer, 1e-3)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == set(names.values())
    assert rates["image.tower.patch.weight"] == pytest.approx(1e-3 * 0.5**3)
    assert rates["image.tower.position"] == pytest.approx(1e-3 * 0.5**3)
    assert rates["image.tower.blocks.0.mlp.fc1.weight"] == pytest.approx(1e-3 * 0.5**2)
    assert rates["image.tower.blocks.1.attention.qkv.bias"] == pytest.approx(1e-3 * 0.5)
    assert rates["image.tower.norm.weight"] == rates["image.head.layers.0.weight"] == 1e-3
    assert rates["objective.log_scale"] == 1e-3
    assert len(make_optimizer(model, OptimConfig()).param_groups) == 2


def test_a_text_tower_has_a_rate_of_its_own(tiny: Maker) -> None:
    config = clip(tiny, **QUIET)
    side = build_side(config.image, None, 32)
    model = TwoSided(side, build_side(config.text, 32, 32), plugins.build(config.objective))
    optimizer = make_optimizer(model, OptimConfig(lr=1e-3, text_rate=0.05))
    set_rate(optimizer, 1e-3)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, rate in rates.items():
        assert rate == pytest.approx(5e-5 if name.startswith("text.tower.") else 1e-3), name
    assert any(name.startswith("text.tower.") for name in rates)


def test_what_failed_before_it_had_begun_may_be_started_again(tiny: Maker, tmp_path: Path) -> None:
    out = tmp_path / "conditioned"
    condition = ConditionConfig(kind="centre")
    bad = tiny(**QUIET, samples=32, condition=condition, mosaic=MosaicConfig(every=2, tiles=3))
    with pytest.raises(ConfigError, match="do not divide"):
        run(bad, out, progress=False)
    assert (out / "condition.safetensors").exists()
    good = tiny(**QUIET, samples=32, condition=ConditionConfig(kind="whiten", dimensions=8))
    assert run(good, out, progress=False).steps == 2
    assert weights(out)["image.head.layers.2.weight"].shape[0] == 8  # not what was left there
    out = tmp_path / "clip"
    with pytest.raises(ConfigError, match="mix"):
        run(clip(tiny, loader=LoaderConfig(batch_size=16, captions="mix")), out, progress=False)
    assert run(clip(tiny, samples=32), out, progress=False).steps == 2


def test_the_callers_chance_is_left_alone(tiny: Maker, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(tiny(**QUIET, samples=32), tmp_path / "run", progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_does_not_touch_a_batch_may_change(tiny: Maker, tmp_path: Path) -> None:
    first = tiny(**QUIET, samples=64, checkpoint_every=1)
    original = Stepper.take

    def failing(self, batches, step, **more):
        if step == 2:
            raise KeyboardInterrupt
        return original(self, batches, step, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "take", failing)
        with pytest.raises(KeyboardInterrupt):
            run(first, tmp_path / "run", progress=False)
    loader = LoaderConfig(batch_size=16, workers=1, stall_s=60, canvas_memory_mb=10)
    assert run(tiny(**QUIET, samples=64, checkpoint_every=1, loader=loader),
               tmp_path / "run", progress=False).steps == 4  # fmt: skip


def test_a_frozen_image_side_is_no_obstacle(tiny: Maker, tmp_path: Path) -> None:
    config = clip(tiny, freeze=("image.tower", "image.head"), samples=48, precision="auto")
    assert run(config, tmp_path / "run", progress=False).steps == 3


# --- what a step is made of -----------------------------------------------------------------------


def test_a_run_that_begins_on_small_images_shows_the_same_crops(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[int], torch.Tensor]] = []
    original = Stepper.take

    def watched(self, batches, step, **more):
        (batch,) = batches
        seen.append((batch.images.shape[-1], batch.index.tolist(), batch.row))
        return original(self, batches, step, **more)

    monkeypatch.setattr(Stepper, "take", watched)
    run(tiny(**QUIET, samples=160), tmp_path / "full", progress=False)
    full = list(seen)
    seen.clear()
    low = LowResolutionConfig(resolution=16, share=0.6)
    config = tiny(**QUIET, samples=160, low_resolution=low)
    run(config, tmp_path / "low", progress=False)
    assert [side for side, _, _ in full] == [32] * 10
    assert [side for side, _, _ in seen] == [16] * 6 + [32] * 4
    for (_, ours, rows), (_, theirs, others) in zip(seen, full, strict=True):
        assert ours == theirs and torch.equal(rows, others)


def test_a_stop_in_either_part_of_a_low_resolution_run_changes_nothing(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = LowResolutionConfig(resolution=16, share=0.5)
    config = tiny(samples=160, low_resolution=low, evaluate_every=0, checkpoint_every=1)
    run(config, tmp_path / "straight", progress=False)
    original = Stepper.take
    stops = iter([3, 5, 8])
    stop = next(stops)

    def failing(self, batches, step, **more):
        if step == stop:
            raise KeyboardInterrupt
        return original(self, batches, step, **more)

    monkeypatch.setattr(Stepper, "take", failing)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "stopped", progress=False)
        stop = next(stops, -1)
    run(config, tmp_path / "stopped", progress=False)
    ours, theirs = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_so_many_steps_are_mosaics(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = []
    original = Stepper.take

    def watched(self, batches, step, **more):
        tiles.append(more["tiles"])
        return original(self, batches, step, **more)

    monkeypatch.setattr(Stepper, "take", watched)
    config = tiny(**QUIET, samples=96, mosaic=MosaicConfig(every=3, tiles=2))
    run(config, tmp_path / "run", progress=False)
    assert tiles == [1, 1, 2, 1, 1, 2]


def _competitors(
    config: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[np.ndarray, torch.Tensor]]:
    """Return the rows and vectors of what images also compete with, step by step."""
    from lift.objectives import softmax

    seen: list[tuple[np.ndarray, torch.Tensor]] = []
    original = softmax.Softmax.forward

    def watched(self, z_image, texts):
        if isinstance(extra := texts.extra, Extra):  # not where a run tries it on nothing
            seen.append((extra.row.numpy().copy(), extra.take(0, len(extra.row))))
        return original(self, z_image, texts)

    monkeypatch.setattr(softmax.Softmax, "forward", watched)
    run(config, out, progress=False)
    monkeypatch.setattr(softmax.Softmax, "forward", original)
    return seen


def test_the_bank_draws_other_rows_each_step_and_the_same_each_run(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lift.cache.reader import EmbeddingCache
    from lift.data.source import open_source
    from lift.terms import unit

    config = tiny(**QUIET, samples=48, bank=20)
    found = _competitors(config, tmp_path / "a", monkeypatch)
    again = _competitors(config, tmp_path / "b", monkeypatch)
    cache = EmbeddingCache.open(config.cache)
    pairs = list(open_source(config.data).texts())
    known = {int(row) for _, own in pairs for row in cache.find([c.text for c in own])}
    assert len(known) < len(cache)  # the validation's captions are there, too
    for (rows, z), (others, _) in zip(found, again, strict=True):
        # What belongs to an image of the step, shown or not, stays out.
        assert 5 < len(set(rows.tolist())) < 20 and np.array_equal(rows, others)
        assert {*rows.tolist()} <= known
        torch.testing.assert_close(z, unit(torch.from_numpy(cache.take(rows))))
    assert not np.array_equal(found[0][0], found[1][0])
    everything = tiny(**QUIET, samples=32, bank=10**6)
    (rows, _), *_ = _competitors(everything, tmp_path / "c", monkeypatch)
    per_image = len(cache.find([caption.text for caption in pairs[0][1]]))
    assert len(known) - 16 * per_image <= len(rows) < len(known)
    notes = [event["text"] for event in events(tmp_path / "c", "note")]
    assert any(f"The bank has {len(known):,} captions" in note for note in notes)


def test_images_bring_their_wrong_texts_along(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lift.cache.reader import EmbeddingCache

    config, out = tiny(**QUIET, samples=96), tmp_path / "cache"
    encoder = "hashing:dimensions=32"
    lift.embed([config.data], out=out, encoder=encoder, derive=["negative"], progress=False)
    cache = EmbeddingCache.open(out)
    wrong = {}
    for table in cache.links():
        found = table.filter(pc.equal(table["role"], "negative"))
        keys = np.array(found["caption"].to_pylist(), dtype="S16")
        for image, row in zip(found["image"].to_pylist(), cache.find_keys(keys), strict=True):
            wrong.setdefault(image, set()).add(int(row))
    loader = LoaderConfig(batch_size=16, negatives=2)
    config = tiny(**{**QUIET, "cache": str(out)}, samples=96, loader=loader, bank=5)
    seen = _competitors(config, tmp_path / "run", monkeypatch)
    # Behind those of the bank, of which an image's own captions stay out.
    assert all(len(rows) for rows, _ in seen)
    brought = [
        row for rows, _ in seen for row in rows.tolist() if row in set.union(*wrong.values())
    ]
    expected = sum(min(2, len(rows)) for rows in wrong.values())  # one epoch
    assert expected <= len(brought) <= expected + 5 * len(seen)
    assert any(len(rows) > 2 for rows in wrong.values())
    with pytest.raises(lift.LiftError, match="embed the captions with --derive negative"):
        run(tiny(**QUIET, loader=loader), tmp_path / "none", progress=False)


def test_a_conditioned_run_answers_in_the_untouched_space(tiny: Maker, tmp_path: Path) -> None:
    from lift.cache.reader import EmbeddingCache

    condition = ConditionConfig(kind="whiten", dimensions=16)
    config = tiny(samples=96, condition=condition)
    out = run(config, tmp_path / "run", progress=False).folder
    model = lift.load(out)
    cache = EmbeddingCache.open(config.cache)
    assert model.space == cache.space
    assert model.encode_images(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 32)
    assert weights(out)["image.head.layers.2.weight"].shape[0] == 16
    scale = events(out, "step")[-1]["scale"]
    assert model.record.scalars["scale"] != pytest.approx(scale)


# --- text that is trained -------------------------------------------------------------------------


def clip(tiny: Maker, **changes) -> RunConfig:
    head = HeadConfig(layers=1, bias=False)
    own = {"cache": "", "encoder": None, "dimensions": 24, "text_tower": TEXT, "text_head": head}
    return tiny(**{"tower": STILL, **own, **changes})


def test_a_model_whose_text_was_trained_too_goes_on_to_the_bit(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = clip(tiny, samples=128)
    result = run(config, tmp_path / "straight", progress=False)
    original = Stepper.take

    def failing(self, batches, step, **more):
        if step == 6:
            raise KeyboardInterrupt
        return original(self, batches, step, **more)

    monkeypatch.setattr(Stepper, "take", failing)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "stopped", progress=False)
    monkeypatch.setattr(Stepper, "take", original)
    run(config, tmp_path / "stopped", progress=False)
    for name in ("model.safetensors", "text.safetensors", "tokenizer.json"):
        ours, theirs = (tmp_path / at / "model" / name for at in ("straight", "stopped"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    model = lift.load(result.folder)
    texts = model.encode_texts(["a red circle", "two blue squares"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    judged = result.results[0]
    assert judged.metrics[judged.primary].value > 0


def test_the_mean_of_weights_is_that_of_both_sides(tiny: Maker, tmp_path: Path) -> None:
    out = run(clip(tiny, samples=64, ema=0.9), tmp_path / "run", progress=False).folder
    (last,) = sorted((out / "checkpoints").glob("step-*"))[-1:]
    mean, now = load_file(last / "mean.safetensors"), weights(out)
    saved = load_file(out / "model" / "text.safetensors")
    name = next(n for n in saved if n.endswith("attention.qkv.weight"))
    assert torch.equal(saved[name], mean[f"text.{name}"])
    assert not torch.equal(saved[name], now[f"text.{name}"])


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_run_that_diverges_says_so_and_keeps_its_last_checkpoint(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(**QUIET, samples=160, checkpoint_every=4)
    original = Stepper.take

    def poisoned(self, batches, step, **more):
        if step == 6:
            with torch.no_grad():
                next(self.means.model.image.parameters()).fill_(float("nan"))
        return original(self, batches, step, **more)

    monkeypatch.setattr(Stepper, "take", poisoned)
    with pytest.raises(NotFinite, match=r"the step was not taken\. Samples .* lower optim\.lr"):
        run(config, tmp_path / "run", progress=False)
    kept = weights(tmp_path / "run")
    assert all(bool(torch.isfinite(value).all()) for value in kept.values())
    monkeypatch.setattr(Stepper, "take", original)
    assert run(config, tmp_path / "run", progress=False).steps == 10


def test_a_step_that_does_not_fit_says_what_would(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(self, batches, step, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate "
                           "memory: you tried to allocate 99 bytes.")  # fmt: skip

    monkeypatch.setattr(Stepper, "take", starved)
    monkeypatch.setattr(memory, "total_bytes", lambda device: 2 * 10**6)
    with pytest.raises(NotEnoughMemory, match="Out of memory on cpu") as told:
        run(tiny(**QUIET), tmp_path / "run", progress=False)
    words = str(told.value)
    assert "loader.batch_size=" in words and "optim.accumulate=" in words
    assert "tower.checkpoint_activations=true" in words


@pytest.mark.slow
def test_a_real_shortage_of_memory_is_told(tiny: Maker, tmp_path: Path) -> None:
    """A process that may have 6 GB and asks for a step of hundreds."""
    tower = part("towers", "vit", width=1024, depth=24, heads=16, patch=8, resolution=32)
    config = tiny(**{**QUIET, "tower": tower}, samples=96)
    config = override(
        config, ["transform.resolution=512", "transform.canvas=512", "tower.resolution=512"]
    )
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); "
        "from lift.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "train", str(path), "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Out of memory on cpu" in done.stderr and "Traceback" not in done.stderr


def test_the_profiler_writes_a_trace(tiny: Maker, tmp_path: Path) -> None:
    out = run(tiny(**QUIET, samples=16 * 14, profile=2), tmp_path / "run", progress=False).folder
    assert json.loads((out / "profile" / "trace.json").read_text())["traceEvents"]
    assert "aten::" in (out / "profile" / "operations.txt").read_text()


def test_memory_is_reported(tiny: Maker, tmp_path: Path) -> None:
    out = run(tiny(**QUIET, samples=32), tmp_path / "run", progress=False).folder
    (memory_,) = events(out, "memory")
    assert memory_["peak_bytes"] > 50e6 and events(out, "step")[-1]["peak_bytes"] > 50e6


@pytest.mark.slow
@pytest.mark.parametrize("what", ["block", "side"])
def test_a_compiled_run_is_the_same_run(tiny: Maker, tmp_path: Path, what: str) -> None:
    """In a process without the checks of shapes, which the compiler can't look through."""
    words = []
    for name in ("off", what):
        path = tmp_path / f"{name}.json"
        path.write_text(to_json(tiny(**QUIET, samples=48, compile=name)))
        words.append(f"{path}={tmp_path / name}")
    program = str(Path(__file__).with_name("several.py"))
    done = subprocess.run([sys.executable, program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = weights(tmp_path / "off"), weights(tmp_path / what)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
