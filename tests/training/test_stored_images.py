"""Runs on stored features: what they show, what they save, when they end, what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lift
from lift.bundle import load as load_bundle
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.data.dice import turn, turns
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.stored_pairs import StoredPairs
from lift.data.transform import Transform
from lift.encoders import CachedImages, CachedTexts
from lift.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingRows,
    NotFinite,
    SpaceMismatch,
)
from lift.evaluation import evaluate, parse_plan
from lift.heads import HeadConfig
from lift.training.config import OptimConfig, RunConfig
from lift.training.loop import run

from .conftest import TRAIN, VALIDATION

Maker = Callable[..., RunConfig]


@pytest.fixture
def stored(captions: Path, features: Path) -> Maker:
    """Return a maker of runs on stored features."""

    def make(**changes: Any) -> RunConfig:
        config = RunConfig(
            recipe="stored",
            data=TRAIN,
            validation=VALIDATION,
            cache=str(captions),
            features=str(features),
            encoder=None,
            samples=96 * 4,
            transform=Transform(),
            loader=LoaderConfig(batch_size=16),
            tower=part("towers", "stored"),
            head=HeadConfig(kind="residual", hidden=32, standardise=True, dropout=0.1),
            optim=OptimConfig(lr=3e-3, warmup_steps=4),
            evaluations=("retrieval",),
            checkpoint_every=5,
            log_every=4,
            precision="float32",
            threads=1,
        )
        return dataclasses.replace(config, **changes)

    return make


def test_pairs_are_what_the_tower_and_the_encoder_say(
    captions: Path, features: Path, tower: Path
) -> None:
    source, model = open_source(TRAIN), load_bundle(tower)
    pairs = StoredPairs(source, EmbeddingCache.open(captions), FeatureCache.open(features))
    assert len(pairs) == pairs.samples == 96
    blocks = list(pairs.blocks(size=40))
    assert [len(block.h) for block in blocks] == [40, 40, 16]
    sample = source.read(41)
    block, at = blocks[1], 1
    assert np.allclose(block.h[at], model.features([sample.image])[0], atol=2e-2)  # float16
    own = block.t[block.owner == at]
    expected = model.encode_texts([caption.text for caption in sample.captions])
    assert np.allclose(own, expected, atol=1e-3) and block.number[at] == 41


def test_turns_are_those_of_pixels() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**63, 200, dtype=np.uint64)
    epochs, choices = rng.integers(0, 50, 200), rng.integers(1, 9, 200)
    for seed in (0, 3, 2**63 - 1):
        expected = [
            turn(seed, int(n), int(e), int(c))
            for n, e, c in zip(numbers, epochs, choices, strict=True)
        ]
        assert turns(seed, numbers, epochs, choices).tolist() == expected


@pytest.mark.parametrize("shown", ["one", "all", "mix", "any:2"])
def test_batches_show_the_captions_that_pixels_would(
    captions: Path, features: Path, tower: Path, shown: str
) -> None:
    source, texts = open_source(TRAIN), EmbeddingCache.open(captions)
    config = LoaderConfig(batch_size=24, captions=shown)
    images = FeatureCache.open(features)
    look = Transform(resolution=32)
    pixels = Loader(source, texts, look, config, seed=5)
    rows = Loader(source, texts, look, config, seed=5, images=images)
    assert rows.pairs.usable == 96 and rows.samples_per_epoch == pixels.samples_per_epoch
    model = load_bundle(tower)
    for ours, theirs in zip(rows.batches(2, 6), pixels.batches(2, 6), strict=True):
        for name in ("owner", "row", "index", "texts"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        content = [source.read(int(number)).image for number in ours.index]
        h = rows.images(ours)
        assert np.allclose(h.numpy(), model.features(content), atol=2e-2)


def test_a_run_learns_and_its_model_stands_alone(
    stored: Maker, tower: Path, captions: Path, features: Path, tmp_path: Path
) -> None:
    before = [path.read_bytes() for path in sorted(captions.rglob("*.arrow"))]
    result = run(stored(samples=96 * 40), tmp_path / "run", progress=False)
    assert [path.read_bytes() for path in sorted(captions.rglob("*.arrow"))] == before
    made = load_bundle(tmp_path / "run")
    theirs = load_bundle(tower).side.state_dict()
    for name, value in made.side.state_dict().items():
        if name.startswith("tower."):
            assert torch.equal(value, theirs[name]), name
    assert made.record.image.tower is not None and made.record.image.tower.name == "vit"
    plan = parse_plan("retrieval", data=VALIDATION)
    live = evaluate(made, [plan], progress=False)[0]
    cached = CachedImages(
        CachedTexts(made, EmbeddingCache.open(captions)), FeatureCache.open(features)
    )
    fast = evaluate(cached, [plan], progress=False)[0]
    assert cached.live == 0 and cached.from_cache == 32
    primary = live.metrics[live.primary].value
    assert abs(primary - result.results[0].metrics[live.primary].value) <= 2 / 32
    assert abs(fast.metrics[live.primary].value - primary) <= 2 / 32
    assert primary > (live.chance or 0.0) + 0.1


def test_a_resumed_run_is_the_run_that_was_never_stopped(
    stored: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stored(evaluate_every=4, patience=50, ema=0.9)
    run(config, tmp_path / "whole", progress=False)
    from lift.training.step import Stepper

    take, steps = Stepper.take, 0

    def dying(self: Stepper, *args: Any, **more: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 13:
            raise KeyboardInterrupt
        return take(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "take", dying)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "parts", progress=False)
    run(config, tmp_path / "parts", progress=False)
    for name in ("model.safetensors", "bundle.json"):
        whole, parts = ((tmp_path / which / "model" / name) for which in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), name
    kept = sorted((tmp_path / "parts" / "checkpoints").rglob("model.safetensors"))[-1]
    assert kept.stat().st_size < 40_000, "a tower that stands still is in no checkpoint"


def test_patience_ends_a_run_and_keeps_the_best(stored: Maker, tmp_path: Path) -> None:
    # A rate that tears the head apart after a few steps.
    config = stored(
        samples=96 * 200,
        evaluate_every=4,
        patience=2,
        optim=OptimConfig(lr=3.0, warmup_steps=30, clip_norm=None),
    )
    result = run(config, tmp_path / "run", progress=False)
    assert result.steps < config.steps
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"] == "finished"
    events = [json.loads(x) for x in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    scores = [
        found["metrics"][found["primary"]]["value"]
        for event in events
        if event["event"] == "eval" and event["step"] < result.steps
        for found in event["results"]
    ]
    assert len(scores) >= 2
    again = run(config, tmp_path / "run", progress=False)
    assert again.steps == result.steps and again.results == result.results
    best = result.results[0].metrics[result.results[0].primary].value
    assert all(best >= score - 1e-9 for score in scores)


def test_views_take_turns_with_the_whole_image(
    captions: Path, tower: Path, stored: Maker, tmp_path: Path
) -> None:
    lift.embed_images(
        [TRAIN],
        out=tmp_path / "f",
        tower=str(tower),
        views=2,
        options=["augment.scale=0.3,0.6"],
        progress=False,
    )
    cache = FeatureCache.open(tmp_path / "f")
    config = LoaderConfig(batch_size=96)
    loader = Loader(
        open_source(TRAIN),
        EmbeddingCache.open(captions),
        Transform(resolution=32),
        config,
        seed=1,
        images=cache,
    )
    seen: dict[int, set[bytes]] = {}
    for batch in loader.batches(0, 3):  # three epochs
        for number, row in zip(batch.index.tolist(), batch.images, strict=True):
            seen.setdefault(number, set()).add(row.numpy().tobytes())
    assert sorted({len(rows) for rows in seen.values()}) == [3]


def test_what_does_not_fit_is_refused(
    stored: Maker, captions: Path, features: Path, tower: Path, tmp_path: Path
) -> None:
    other = "scenes:count=40,seed=9,resolution=32"
    lift.embed(
        [other], out=captions.parent / "more", encoder="hashing:dimensions=32", progress=False
    )
    with pytest.raises(DataError, match=r"none of the images of .*lift embed --images"):
        run(stored(data=other, cache=str(captions.parent / "more")), tmp_path / "a", progress=False)
    with pytest.raises(MissingRows, match="have no row in the cache"):
        run(stored(cache=str(captions.parent / "more")), tmp_path / "b", progress=False)
    with pytest.raises(SpaceMismatch, match="image space"):
        wrong = part("towers", "vit", width=32, depth=2, heads=2, patch=8, resolution=32)
        run(stored(tower=wrong, seed=1), tmp_path / "c", progress=False)
    with pytest.raises(ConfigError, match=r"has no tower of its own.*features=FOLDER"):
        run(stored(features=""), tmp_path / "d", progress=False)
    for changes, words in (
        ({"loader": LoaderConfig(batch_size=16, linked=True)}, "leave out loader.linked"),
        ({"last_blocks": 1}, "leave out last_blocks"),
        ({"patience": 2}, "give evaluate_every"),
    ):
        with pytest.raises(ConfigError, match=words):
            stored(**changes)
    assert not list(tmp_path.iterdir()) or not any(tmp_path.rglob("model.safetensors"))


def test_a_sample_without_features_is_counted(
    captions: Path, tower: Path, stored: Maker, tmp_path: Path
) -> None:
    part_of = "scenes:count=80,seed=1,resolution=32"
    lift.embed_images([part_of], out=tmp_path / "f", tower=str(tower), progress=False)
    result = run(
        stored(features=str(tmp_path / "f"), validation="", evaluations=()),
        tmp_path / "run",
        progress=False,
    )
    assert result.counters["left out, without stored features"] == 16


def test_patience_without_anything_to_go_by_is_refused_first(stored: Maker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"patience=2 .* give --validation, or --set patience=0"):
        run(stored(validation="", evaluate_every=4, patience=2), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_model_says_how_many_images_its_weights_have_seen(stored: Maker, tmp_path: Path) -> None:
    config = stored(
        samples=96 * 200,
        evaluate_every=4,
        patience=2,
        optim=OptimConfig(lr=3.0, warmup_steps=30, clip_norm=None),
    )
    result = run(config, tmp_path / "run", progress=False)
    told = load_bundle(tmp_path / "run").record.origin["samples"]
    assert told == 16 * (result.steps - 2 * 4)  # the best was two evaluations before the end


def test_what_a_head_costs_is_told_without_its_tower(
    captions: Path, features: Path, stored: Maker, tmp_path: Path
) -> None:
    words = [f"features={features}", "head.hidden=64", "loader.batch_size=16"]
    told = lift.dry_run("head", data=TRAIN, cache=captions, options=words)
    assert told.tower_parameters == 0
    assert told.head_parameters == 32 * 32 + 32 + 32 * 64 + 64 + 64 * 32
    assert told.image.forward == 2 * (32 * 32 + 32 * 64 + 64 * 32)
    assert told.activation_bytes > 0 and "MF" in told.table()


def test_features_of_another_tower_do_not_go_on_with_a_run(
    stored: Maker, features: Path, captions: Path, tmp_path: Path
) -> None:
    cut = dataclasses.replace(stored(), samples=96)
    run(cut, tmp_path / "run", progress=False)
    place = tmp_path / "run" / "run.json"
    facts = json.loads(place.read_text())
    assert facts["features"] == FeatureCache.open(features).space.fingerprint
    place.write_text(json.dumps({**facts, "status": "running", "features": "another"}))
    with pytest.raises(CheckpointError, match="features of the image space another"):
        run(cut, tmp_path / "run", progress=False)


def test_a_row_that_is_no_number_is_named(
    stored: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = FeatureCache.take_stored

    def broken(self: FeatureCache, rows: np.ndarray) -> np.ndarray:
        taken = take(self, rows)
        taken[np.asarray(rows) == 7] = np.nan
        return taken

    monkeypatch.setattr(FeatureCache, "take_stored", broken)
    head = HeadConfig(layers=1)
    with pytest.raises(NotFinite, match=r"stored features of sample\(s\) \[\d+\] hold NaN"):
        run(stored(head=head), tmp_path / "run", progress=False)


def test_a_pair_alone_is_too_few(captions: Path, stored: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fewer than one batch of 16; lower loader\.batch_size"):
        run(stored(data="scenes:count=1,seed=1,resolution=32"), tmp_path / "run", progress=False)
