"""From stored features to a model: the same numbers, the text space untouched, honest figures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import lift
from lift import plugins
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.data.source import open_source
from lift.data.stored_pairs import StoredPairs
from lift.errors import CheckpointError, ConfigError, LiftError, MissingRows
from lift.fitting.gathering import gather
from lift.fitting.judging import judge, mapped, reciprocal_rank, scale_of
from lift.fitting.solving import solve, solvers_of
from lift.linear import Linear, total
from lift.terms import unit

OLD = "hashing:dimensions=32"


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def images_of(data, count=12):
    source = open_source(data)
    return [source.read(n).image for n in range(count)]


def rows_of(world, count=12):
    pairs = StoredPairs(
        open_source(world.data), EmbeddingCache.open(world.old), FeatureCache.open(world.features)
    )
    return pairs.block(np.arange(count)).h


def test_a_model_is_tower_and_map(world, tmp_path):
    before = digest(world.old), digest(world.features)
    told = []
    report = lift.fit(
        world.data,
        cache=world.old,
        features=world.features,
        out=tmp_path / "m",
        method="ridge",
        options=["penalty=kfold"],
        say=told.append,
        progress=False,
    )
    assert (digest(world.old), digest(world.features)) == before
    assert len(told) == 1 and "nearest texts" in told[0]
    model = lift.load(tmp_path / "m")
    naive = unit(torch.from_numpy(report.solved.linear.apply(rows_of(world)))).numpy()
    np.testing.assert_allclose(model.encode_images(images_of(world.data)), naive, atol=1e-5)
    cache = EmbeddingCache.open(world.old)
    assert model.space == cache.space and model.probes.texts == cache.probes().texts
    np.testing.assert_array_equal(
        model.text_encoder.encode(["a red circle"]).rows, cache_row("a red circle", model)
    )
    origin = model.record.origin
    assert origin["recipe"] == "fit" and origin["solver"] == "ridge"
    assert origin["options"]["penalty"] == "kfold" and 0 < origin["facts"]["penalty"]
    assert origin["samples"] == 260 and "held_out" not in origin  # too few to hold some out
    assert "ridge; penalty" in report.table() and "nearest texts" in report.table()
    again = lift.fit(
        world.data,
        cache=world.old,
        features=world.features,
        out=tmp_path / "m",
        method="ridge",
        progress=False,
    )
    assert again.folder == str(tmp_path / "m")


def cache_row(text, model):
    from lift.text.encoder import build_encoder

    return build_encoder(model.record.encoder).encode([text]).rows


def test_ridge_is_that_of_all_stored_pairs(world):
    """Least squares over every (image, caption) in float64, from the same caches."""
    options = {"cache": world.old, "features": world.features, "progress": False}
    found = lift.fit(
        world.data, method="ridge", options=["penalty=0.01"], holdout=0.0, **options
    ).solved.linear
    pairs = StoredPairs(
        open_source(world.data), EmbeddingCache.open(world.old), FeatureCache.open(world.features)
    )
    block = pairs.block(np.arange(len(pairs)))
    counts = np.bincount(block.owner)
    assert counts.max() > 1
    share = np.sqrt(1.0 / counts[block.owner])[:, None]
    h, t = block.h.astype(float)[block.owner], block.t.astype(float)
    mean_h, mean_t = ((share**2 * x).sum(axis=0) / (share**2).sum() for x in (h, t))
    x, y = (h - mean_h) * share, (t - mean_t) * share
    left = np.concatenate([x, np.sqrt(found.facts["alpha"]) * np.eye(x.shape[1])])
    right = np.concatenate([y, np.zeros((x.shape[1], y.shape[1]))])
    naive = np.linalg.lstsq(left, right, rcond=None)[0].T
    np.testing.assert_allclose(found.weight, naive, atol=1e-5 * np.abs(naive).max())
    np.testing.assert_allclose(found.bias, mean_t - naive @ mean_h, atol=1e-5)


def planted(n=1500, noise=0.6, seed=0):
    """Return a block of pairs whose captions are a linear map of images, at unit length."""
    from lift.data.stored_pairs import PairBlock

    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, 24)).astype(np.float32) + 1
    t = h @ rng.normal(size=(24, 16)) + noise * rng.normal(size=(n, 16)) + 3
    t = (t / np.linalg.norm(t, axis=1, keepdims=True)).astype(np.float32)
    key = rng.integers(0, 2**63, n).astype(np.uint64)
    return PairBlock(h, t, np.arange(n), np.ones(n, np.float32), np.arange(n), key)


def test_auto_takes_the_best_and_judges_it_on_others():
    gathered = gather([planted()], 24, 16, holdout=0.2)
    found = solve(gathered, solvers_of("auto", []))
    assert set(found.scores) == {"ridge", "procrustes", "cca"}
    assert found.solver.name == max(found.scores, key=found.scores.get)
    assert found.scores[found.solver.name] > min(found.scores.values()) + 0.01
    h, t = gathered.sample.rows()  # of the first fold, that each was solved without
    for name, score in found.scores.items():
        others = total(gathered.folds[1:])
        linear = plugins.build(part("solvers", name)).solve(others, gathered.folds[1:])
        z_text = t / np.linalg.norm(t, axis=1, keepdims=True)
        assert reciprocal_rank(mapped(linear, h), z_text) == pytest.approx(score, abs=1e-6)
    judged = found.judged
    assert judged is not None and judged.images == judged.captions == len(gathered.held) > 200
    assert judged.metrics["text_to_image/R@1"].value > 0.3
    assert judged.metrics["text_to_image/R@1"].low < judged.metrics["text_to_image/R@1"].value
    assert "held out by image" in judged.protocol


def test_held_out_figures_are_the_formula():
    gathered = gather([planted()], 24, 16, holdout=0.2)
    found = solve(gathered, solvers_of("ridge", []))
    z = mapped(found.linear, gathered.held.h)
    scores = z @ gathered.held.t.T
    own = np.diagonal(scores)
    for name, axis in (("image_to_text", 1), ("text_to_image", 0)):
        rival = own[:, None] if axis else own[None, :]
        rank = 1 + (scores > rival).sum(axis=axis)
        for k in (1, 5, 10):
            ours = found.judged.metrics[f"{name}/R@{k}"].value
            assert ours == pytest.approx((rank <= k).mean(), abs=2 / len(z))
    assert found.judged.mean_cosine == pytest.approx(own.mean(), abs=1e-6)


def test_equal_captions_are_one_text():
    block = planted(n=600)
    block.t[::2] = block.t[0]
    gathered = gather([block], 24, 16, holdout=0.5)
    perfect = Linear(np.zeros((16, 24)), block.t[0].astype(float))
    judged = judge(perfect, gathered.held)
    assert judged.metrics["image_to_text/R@1"].value > 0.4  # all of the half that has that text
    assert "text_to_image/R@1 (strict)" in judged.metrics


def test_reciprocal_rank_shares_ties():
    z = np.eye(4, dtype=np.float32)
    assert reciprocal_rank(z, z) == 1.0
    same = np.ones((4, 4), np.float32) / 2
    assert reciprocal_rank(same, same) == pytest.approx(1 / 2.5)
    assert reciprocal_rank(z, np.roll(z, 1, axis=0)) == pytest.approx(1 / 3)


def test_the_temperature_is_the_likeliest_of_the_grid():
    rng = np.random.default_rng(0)
    z = unit(torch.from_numpy(rng.normal(size=(200, 8)))).float().numpy()
    near = unit(torch.from_numpy(z + 0.6 * rng.normal(size=z.shape))).float().numpy()
    found = scale_of(z, near)
    scores = torch.from_numpy((z @ near.T).astype(np.float64))
    target = torch.arange(200)

    def loss(scale):
        return torch.nn.functional.cross_entropy(scale * scores, target).item()

    assert loss(found) <= min(loss(found * 2**0.5), loss(found / 2**0.5))
    assert 1 < found < 256


def test_least_squares_is_taken_where_all_are_as_good():
    found = solve(gather([planted(noise=1e-3)], 24, 16), solvers_of("auto", []))
    assert found.solver.name == "ridge" and max(found.scores.values()) > 0.99


def test_few_pairs_choose_no_method():
    found = solve(gather([planted(n=30)], 24, 16), solvers_of("auto", []))
    assert found.solver.name == "ridge" and not found.scores
    assert "Too few pairs to choose a method by" in found.notes[0]


def test_bad_input_is_told_before_anything_is_written(world, tmp_path):
    good = {"cache": world.old, "features": world.features, "out": tmp_path / "m"}

    def refused(kind, match, data=world.data, **changes):
        with pytest.raises(kind, match=match):
            lift.fit(data, **{**good, "progress": False, **changes})
        assert not (tmp_path / "m").exists()

    one = "scenes:count=1,seed=1,resolution=32"
    refused(LiftError, "can't be fitted on 1 pair", data=one)
    few = tmp_path / "few"
    lift.embed(["scenes:count=5,seed=1,resolution=32"], out=few, encoder=OLD, progress=False)
    refused(MissingRows, r"captions of scenes .* have no row in the cache", cache=few)
    refused(LiftError, "are of none of the images", data="scenes:count=9,seed=9,resolution=32")
    refused(LiftError, "lift embed", features=world.old)
    refused(LiftError, "lift embed", cache=world.features)
    refused(ConfigError, "Did you mean 'ridge'", method="rigde")
    refused(ConfigError, "Did you mean 'penalty'", method="ridge", options=["penalt=1"])
    refused(ConfigError, "about one way to solve", options=["penalty=1"])
    refused(ConfigError, r"holdout must lie in \[0, 1\)", holdout=1.0)
    refused(ConfigError, "--own and --tower are for --bridge", own="x")
    refused(ConfigError, "pairs with --data", data="")
    refused(ConfigError, "stored features with --features", features="")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("precious")
    refused(CheckpointError, "holds something else", out=tmp_path / "other")


def test_a_tower_that_changed_since_is_refused(world, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    weights = world.model / "model.safetensors"
    kept = tmp_path / "kept"
    shutil.copyfile(weights, kept)
    try:
        state = load_file(weights)
        save_file({name: value * 1.01 for name, value in state.items()}, weights)
        with pytest.raises(LiftError, match="fingerprint"):
            lift.fit(world.data, cache=world.old, features=world.features, progress=False)
    finally:
        shutil.copyfile(kept, weights)


def twins(tmp_path, count=400):
    """Return pairs of samples that share an image file, their features and captions."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "twins"
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number // 2).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
        (folder / f"{number:04}.txt").write_text(f"thing {number} of {rng.integers(99)}\n")
    lift.embed([str(folder)], out=tmp_path / "c", encoder=OLD, progress=False)
    keys = [key for key, _ in open_source(str(folder)).texts()]
    rows = np.repeat(rng.normal(size=(count // 2, 16)), 2, axis=0).astype(np.float32)
    np.save(tmp_path / "f.npy", rows)
    (tmp_path / "f.txt").write_text("\n".join(keys))
    lift.embed_images(
        [str(folder)],
        out=tmp_path / "f",
        tower="stored:width=16,model=x",
        vectors=f"{tmp_path}/f.npy,texts={tmp_path}/f.txt",
        progress=False,
    )
    return str(folder), tmp_path / "c", tmp_path / "f"


def test_equal_images_are_held_out_together(tmp_path):
    """Else the map is judged on images that it was fitted on."""
    data, captions, features = twins(tmp_path)
    pairs = StoredPairs(
        open_source(data), EmbeddingCache.open(captions), FeatureCache.open(features)
    )
    gathered = gather(pairs.blocks(), 16, 32, holdout=0.3)
    held = np.unique(gathered.held.h, axis=0, return_counts=True)[1]
    assert 40 < len(gathered.held) < 220 and set(held.tolist()) == {2}
    assert all(fold.images % 2 == 0 for fold in gathered.folds)


def test_a_model_tells_what_it_was_fitted_on(tmp_path):
    data, captions, features = twins(tmp_path)
    report = lift.fit(
        data, cache=captions, features=features, out=tmp_path / "m", holdout=0.3, progress=False
    )
    assert len(report.model.trained_on) == report.solved.pairs < 400
    model = lift.load(tmp_path / "m")
    assert model.record.origin["trained_on"]["samples"] == report.solved.pairs
    from lift.leaks import leaks

    found = leaks(model.trained_on, open_source(data))
    assert found.equal_captions.count == report.solved.pairs
    assert not found.alike.count  # nobody knows how its images look
