"""Spherical k-means over stored rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lift.curation import clusters
from lift.errors import ConfigError


def bunches(count: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around `count` directions, of many lengths, and which one each is around."""
    rng = np.random.default_rng(seed)
    middles = np.linalg.qr(rng.normal(size=(16, count)))[0].T
    owner = rng.permutation(np.repeat(np.arange(count), each))
    rows = middles[owner] + 0.05 * rng.normal(size=(len(owner), 16))
    return (rows * rng.uniform(0.1, 9, (len(owner), 1))).astype(np.float32), owner


def test_bunches_are_found_whatever_the_lengths():
    rows, owner = bunches(6, 50)
    centres = clusters.fit(rows, 6, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-6)
    found = clusters.assign(rows, centres)
    pairs = set(zip(found.tolist(), owner.tolist(), strict=True))
    assert len(pairs) == 6 and found.dtype == np.int32


def test_equal_arguments_give_equal_bits_and_a_seed_counts():
    rows, _ = bunches(4, 100)
    first = clusters.fit(rows, 20, seed=3)
    assert (first == clusters.fit(rows.copy(), 20, seed=3)).all()
    assert not np.array_equal(first, clusters.fit(rows, 20, seed=4))


def test_blocks_change_nothing(monkeypatch):
    rows, _ = bunches(5, 60)
    whole = clusters.assign(rows, clusters.fit(rows, 5, seed=0))
    monkeypatch.setattr(clusters, "_BLOCK", 35)
    assert (clusters.assign(rows, clusters.fit(rows, 5, seed=0)) == whole).all()


def test_rounds_make_rows_nearer_to_their_centres():
    rows = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    z = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def nearness(rounds: int) -> float:
        return float((z @ clusters.fit(rows, 10, seed=0, rounds=rounds).T).max(axis=1).mean())

    assert nearness(0) < nearness(1) < nearness(25)


def test_a_centre_without_rows_starts_anew(monkeypatch):
    rows, _ = bunches(4, 30)
    same = torch.from_numpy(rows[:1] / np.linalg.norm(rows[0])).repeat(4, 1)
    monkeypatch.setattr(clusters, "_first", lambda z, count, seed: same)
    found = clusters.assign(rows, clusters.fit(rows, 4, seed=1))
    assert np.bincount(found, minlength=4).min() > 0


def test_too_few_distinct_rows_are_told():
    rows = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    with pytest.raises(ConfigError, match="3 distinct rows for 4 clusters"):
        clusters.fit(rows, 4, seed=0)
    with pytest.raises(ConfigError, match="0 distinct rows"):
        clusters.fit(rows[:0], 4, seed=0)
    with pytest.raises(ConfigError, match="at least 1"):
        clusters.fit(rows, 0, seed=0)


def test_a_sample_is_all_or_about_as_many_as_asked():
    assert clusters.sampled(5, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = clusters.sampled(10**9, 0, most=1000)
    assert 990 < len(drawn) <= 1000 and (np.diff(drawn) > 0).all() and drawn[-1] < 10**9
    assert (drawn == clusters.sampled(10**9, 0, most=1000)).all()
    assert drawn[500] == pytest.approx(5e8, rel=0.2)
