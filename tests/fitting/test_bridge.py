"""From a tower's own text space into another: the formula, with and without images' mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lift
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.data.source import open_source
from lift.errors import ConfigError, LiftError, SpaceMismatch
from lift.terms import unit


def unit_rows(x):
    return unit(torch.from_numpy(np.asarray(x, np.float64))).numpy()


def captions_of(data):
    return sorted({c.text for _, captions in open_source(data).texts() for c in captions})


def naive(h, t, penalty):
    """Return W of the ridge about the means, in float64."""
    x, y = h - h.mean(axis=0), t - t.mean(axis=0)
    alpha = penalty * np.trace(x.T @ x) / x.shape[1]
    return np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y).T


def spaces(world, own, target):
    texts = captions_of(world.data)
    caches = (EmbeddingCache.open(folder) for folder in (own, target))
    return (unit_rows(cache.take(cache.require(texts))) for cache in caches)


@pytest.mark.parametrize("centred", [False, True])
def test_two_caches_and_a_tower(world, tmp_path, centred):
    given = {"features": world.features} if centred else {}
    given |= {} if centred else {"tower": f"lift_model:model={world.model}"}
    report = lift.fit(
        bridge=True,
        own=world.wide,
        cache=world.new,
        out=tmp_path / "m",
        method="ridge",
        options=["penalty=0.05"],
        holdout=0.0,
        progress=False,
        **given,
    )
    h, t = spaces(world, world.wide, world.new)
    weight = naive(h, t, 0.05)
    features = FeatureCache.open(world.features)
    images = [open_source(world.data).read(n).image for n in range(10)]
    source = {i.tobytes() for i in features.take(np.arange(len(features)))}
    assert len(source) <= 260
    u = unit_rows(features.take(np.arange(len(features))))
    centre = u.mean(axis=0) if centred and len(features) == 260 else h.mean(axis=0)
    tower = lift.load(world.model).side.tower
    model = lift.load(tmp_path / "m")
    with torch.no_grad():
        pixels = torch.stack([model.transform.evaluate(image) for image in images])
        own = tower(model.transform.normalise(pixels))
    expected = unit_rows((unit_rows(own) - centre) @ weight.T + t.mean(axis=0))
    np.testing.assert_allclose(model.encode_images(images), expected, atol=2e-5)
    assert model.record.origin["centred_by"] == ("images" if centred else "texts")
    assert model.space == EmbeddingCache.open(world.new).space and model.probes is not None
    assert report.solved.pairs == len(h)
    assert "on captions alone" in report.table()


def test_a_model_with_a_head_of_its_own(world, tmp_path):
    """Its head goes before, its captions are encoded live; unit length stands in between."""
    lift.fit(
        world.data,
        bridge=True,
        own=world.model,
        cache=world.new,
        out=tmp_path / "m",
        method="ridge",
        options=["penalty=0.05"],
        holdout=0.0,
        progress=False,
    )
    h, t = spaces(world, world.old, world.new)
    weight = naive(h, t, 0.05)
    images = [open_source(world.data).read(n).image for n in range(10)]
    own = lift.load(world.model).encode_images(images).astype(np.float64)
    expected = unit_rows((own - h.mean(axis=0)) @ weight.T + t.mean(axis=0))
    model = lift.load(tmp_path / "m")
    np.testing.assert_allclose(model.encode_images(images), expected, atol=2e-5)
    assert model.record.image.head.unit and model.record.image.head.before is not None


def test_what_is_judged_are_captions(world, tmp_path):
    """No image has been seen, so no figure speaks of one."""
    tower = f"lift_model:model={world.model}"
    for name, words in (("own", "hashing:dimensions=40"), ("new", "hashing:dimensions=24,seed=4")):
        lift.embed([world.data], out=tmp_path / name, encoder=words, progress=False)
    given = {"own": tmp_path / "own", "cache": tmp_path / "new", "tower": tower}
    report = lift.fit(bridge=True, holdout=0.4, progress=False, **given)
    assert report.solved.solver.name == "procrustes"  # captions choose a penalty that fails images
    table = report.table()
    assert "captions, mapped and searched among their true vectors" in table and "R@10" in table
    assert "text to image" not in table and " images and all" not in table


def test_bad_input_is_told(world, tmp_path):
    good = {"bridge": True, "own": world.wide, "cache": world.new, "out": tmp_path / "m"}

    def refused(kind, match, **changes):
        with pytest.raises(kind, match=match):
            lift.fit(**{**good, "progress": False, **changes})
        assert not (tmp_path / "m").exists()

    tower = f"lift_model:model={world.model}"
    refused(ConfigError, "say with --tower")
    refused(ConfigError, "give them with --own", own="")
    refused(ConfigError, "leave --tower out", own=world.model, tower=tower)
    refused(ConfigError, "know their tower", tower=tower, features=world.features)
    refused(SpaceMismatch, "gives 40 numbers, the captions .* have 32", own=world.old, tower=tower)
    refused(LiftError, "has no stored rows, so captions are needed", own=world.model)
    refused(ConfigError, "not about --bridge", roles=["raw"], tower=tower)
    lift.embed(
        ["scenes:count=5,seed=77,resolution=32"],
        out=tmp_path / "c",
        encoder="hashing:dimensions=40",
        progress=False,
    )
    some = tmp_path / "c"
    refused(LiftError, "no caption is in both spaces|can't be fitted on", own=some, tower=tower)
