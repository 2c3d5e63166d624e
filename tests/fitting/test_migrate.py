"""A model moved by captions alone: the formula, the figures, the rule, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import lift
from lift.cache.reader import EmbeddingCache
from lift.data.source import open_source
from lift.errors import ConfigError, LiftError, SpaceMismatch
from lift.fitting.judging import Judged
from lift.fitting.migrate import verdict_of
from lift.fitting.sampling import is_held
from lift.terms import Metric
from lift.text.encoder import caption_key

OLD, NEW = "hashing:dimensions=32", "hashing:dimensions=24,seed=4"


def rows_of(folder, texts):
    cache = EmbeddingCache.open(folder)
    rows = cache.take(cache.require(texts)).astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts_of(data):
    return sorted({c.text for _, captions in open_source(data).texts() for c in captions})


def unit_rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def moved(world, tmp_path):
    report = lift.migrate(
        world.old,
        world.new,
        model=world.model,
        out=tmp_path / "moved",
        method="ridge",
        options=["penalty=0.002"],
        progress=False,
    )
    return report, tmp_path / "moved"


def test_it_is_the_naive_formula(world, moved):
    """W = T' H (H' H + a I)^-1 without a mean, behind the head, at unit length."""
    report, folder = moved
    texts = texts_of(world.data)
    h, t = rows_of(world.old, texts), rows_of(world.new, texts)
    key = np.array([np.frombuffer(caption_key(text), np.uint64)[0] for text in texts])
    share = 0.1
    held = is_held(key, share)
    x, y = h[~held], t[~held]
    alpha = 0.002 * np.trace(x.T @ x) / x.shape[1]
    weight = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y).T
    np.testing.assert_allclose(report.solved.linear.weight, weight, atol=1e-8)
    assert not report.solved.linear.bias.any()

    images = [open_source(world.data).read(n).image for n in range(10)]
    old, new = lift.load(world.model), lift.load(folder)
    expected = unit_rows(old.encode_images(images).astype(np.float64) @ weight.T)
    np.testing.assert_allclose(new.encode_images(images), expected, atol=1e-5)
    tower = {name: v for name, v in old.side.state_dict().items() if name.startswith("tower.")}
    assert all((new.side.state_dict()[name] == v).all() for name, v in tower.items())

    judged = report.solved.judged
    z, own = unit_rows(h[held] @ weight.T), t[held]
    assert judged.images == held.sum() >= 50
    cosine = (z * own).sum(axis=1)
    assert judged.mean_cosine == pytest.approx(cosine.mean(), abs=1e-5)
    scores = z @ own.T
    rank = 1 + (scores > np.diagonal(scores)[:, None]).sum(axis=1)
    for k in (1, 10):
        ours = judged.metrics[f"image_to_text/R@{k}"].value
        assert ours == pytest.approx((rank <= k).mean(), abs=1.01 / held.sum())
    spread = ((own - own.mean(axis=0)) ** 2).sum()
    r2 = 1 - ((own - h[held] @ weight.T) ** 2).sum() / spread
    assert report.r2 == pytest.approx(r2, abs=1e-5)


def test_the_model_lives_in_the_new_space(world, moved):
    report, folder = moved
    model, cache = lift.load(folder), EmbeddingCache.open(world.new)
    assert model.space == cache.space and model.record.encoder == cache.part
    assert model.probes.texts == cache.probes().texts
    origin = model.record.origin
    assert origin["recipe"] == "made by a test"  # where it came from stays
    assert (
        origin["moved"]["from"]["fingerprint"] == EmbeddingCache.open(world.old).space.fingerprint
    )
    assert origin["moved"]["verdict"] == report.verdict and origin["moved"]["solver"] == "ridge"
    assert model.encode_texts("a red circle").shape == (1, 24)
    texts = texts_of(world.data)
    h = rows_of(world.old, texts)
    z = unit_rows(h @ report.solved.linear.weight.T)
    own, moved_to = (rows @ rows.T for rows in (h, z))
    apart = ~np.eye(len(h), dtype=bool)
    gain = np.polyfit(moved_to[apart], own[apart], 1)[0]
    assert abs(gain - 1 / gain) > 0.2
    assert model.record.scalars["scale"] == pytest.approx(20.0 * gain, rel=0.05)
    assert "the move is" in report.table() and "R@10" in report.table()


def test_encoders_in_words_do_as_caches(world, moved):
    report, _ = moved
    live = lift.migrate(
        *(OLD, NEW),
        data=[world.data],
        model=world.model,
        method="ridge",
        options=["penalty=0.002"],
        progress=False,
    )
    weight = report.solved.linear.weight
    np.testing.assert_allclose(live.solved.linear.weight, weight, atol=1e-5 * np.abs(weight).max())
    assert live.solved.pairs == report.solved.pairs and live.folder == ""
    assert live.model.probes is not None
    assert live.model.probes.texts == report.model.probes.texts


def test_a_space_that_is_only_turned_moves_well(world, tmp_path):
    """The same space again: held-out captions find themselves, and images stay where they were."""
    report = lift.migrate(world.old, world.old, model=world.model, progress=False)
    assert report.verdict == "good" and report.r2 > 0.999
    images = [open_source(world.data).read(n).image for n in range(4)]
    old = lift.load(world.model).encode_images(images)
    np.testing.assert_allclose(report.model.encode_images(images), old, atol=1e-3)
    assert report.model.record.scalars["scale"] == pytest.approx(20.0, rel=0.01)


def test_the_rule_of_the_verdict():
    def judged(first, tenth):
        metrics = {"image_to_text/R@1": first, "image_to_text/R@10": tenth}
        found = {name: Metric(low + 0.01, low, 1.0, 100) for name, low in metrics.items()}
        return Judged(metrics=found, mean_cosine=0.9, images=100, captions=100)

    assert verdict_of(judged(0.95, 0.99)) == "good"
    assert verdict_of(judged(0.94, 0.95)) == "fair"
    assert verdict_of(judged(0.94, 0.94)) == "poor"
    assert verdict_of(None) == "unknown"


def test_bad_input_is_told(world, tmp_path):
    good = {"model": world.model, "out": tmp_path / "m", "progress": False}

    def refused(kind, match, old=world.old, new=world.new, **changes):
        with pytest.raises(kind, match=match):
            lift.migrate(old, new, **{**good, **changes})
        assert not (tmp_path / "m").exists()

    refused(SpaceMismatch, "the model .* has the fingerprint", old=world.new, new=world.old)
    refused(ConfigError, "is the model that is moved", out=world.model)
    refused(LiftError, "has no stored rows, so captions are needed", new=NEW)
    refused(LiftError, "Did you mean 'hashing'", new="hashin")
    refused(LiftError, "no cache in", new="nowhere/cache")
    refused(LiftError, "nowhere is no model", model="nowhere")
    refused(ConfigError, "changes what has to be", options=["intercept=true"])
    lift.embed(
        ["scenes:count=5,seed=77,resolution=32"], out=tmp_path / "c", encoder=NEW, progress=False
    )
    data = "scenes:count=1,seed=5,resolution=32"
    refused(LiftError, "no caption is in both spaces", new=tmp_path / "c", data=[data])
