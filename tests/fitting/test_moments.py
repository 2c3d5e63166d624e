"""Sums in one pass: those of the rows, for any blocks, captions, weights and merges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lift import plugins
from lift.config import part
from lift.data.stored_pairs import PairBlock
from lift.errors import NotFinite
from lift.fitting.gathering import gather, share_held
from lift.fitting.moments import Moments, targets
from lift.fitting.sampling import SAMPLE, Sample, fold_of, is_held
from lift.linear import Sums, total
from planted_pairs import moments, pairs, sums

NAMES = ("hh", "ht", "tt", "mean_h", "mean_t")


def same(a: Sums, b: Sums, tolerance: float = 1e-10) -> None:
    assert a.images == b.images
    assert a.weight == pytest.approx(b.weight, rel=tolerance)
    assert a.within == pytest.approx(b.within, rel=tolerance, abs=tolerance)
    for name in NAMES:
        left, right = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * np.abs(right).max())


def naive(h, t, weight) -> Sums:
    mean_h, mean_t = (np.average(rows, axis=0, weights=weight) for rows in (h, t))
    x, y = h - mean_h, t - mean_t
    w = weight[:, None]
    return Sums(weight.sum(), len(h), mean_h, mean_t, x.T @ (w * x), x.T @ (w * y), y.T @ (w * y))


def captions(n=90, seed=0):
    """Return blocks of images with one to four captions of unit length, and weights."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, n)
    owner = np.repeat(np.arange(n), counts)
    t = rng.normal(size=(len(owner), 8))
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    weight = rng.uniform(0.1, 2, len(owner))
    h = rng.normal(size=(n, 6)) + 2
    key = rng.integers(0, 2**63, n).astype(np.uint64)
    kinds = (np.float32, np.float32, np.int64, np.float32, np.int64, np.uint64)
    whole = (h, t, owner, weight, np.arange(n), key)
    return PairBlock(*(a.astype(kind) for a, kind in zip(whole, kinds, strict=True)))


def cut(block: PairBlock, start: int, stop: int) -> PairBlock:
    mine = (block.owner >= start) & (block.owner < stop)
    at = slice(start, stop)
    return PairBlock(
        block.h[at],
        block.t[mine],
        block.owner[mine] - start,
        block.weight[mine],
        block.number[at],
        block.key[at],
    )


def test_they_are_those_of_the_rows_however_they_come():
    h, t = pairs(n=3000)
    weight = np.random.default_rng(1).uniform(0, 3, len(h))
    same(sums(h, t, weight), naive(h, t, weight))
    at_once = Moments(h.shape[1], t.shape[1])
    at_once.add(h, t, weight)
    same(at_once.total, naive(h, t, weight))
    one_by_one = Moments(h.shape[1], t.shape[1])
    for n in range(200):
        one_by_one.add(h[n : n + 1], t[n : n + 1], weight[n : n + 1])
    same(one_by_one.total, naive(h[:200], t[:200], weight[:200]))
    parts = moments(h[:1000], t[:1000], weight[:1000]) + moments(h[1000:], t[1000:], weight[1000:])
    same(parts.total, naive(h, t, weight))


def test_a_mean_far_from_zero_costs_no_digits():
    h, t = pairs(n=2000)
    near, far = sums(h, t), sums(h + 1e6, t - 1e6)
    np.testing.assert_allclose(far.hh, near.hh, atol=1e-6 * near.hh.max())
    np.testing.assert_allclose(far.ht, near.ht, atol=1e-6 * np.abs(near.ht).max())


def test_about_other_centres_and_zero():
    h, t = pairs()
    raw = sums(h, t).raw()
    np.testing.assert_allclose(raw.ht, h.T @ t, rtol=1e-9)
    np.testing.assert_allclose(raw.tt, t.T @ t, rtol=1e-9)


def test_folds_are_drawn_by_key_and_make_up_the_whole():
    h, t = pairs(n=3000)
    made = moments(h, t, folds=4)
    assert [fold.images for fold in made.folds] == pytest.approx([750] * 4, abs=90)
    same(total(made.folds), sums(h, t))
    key = np.arange(40_000, dtype=np.uint64)
    shares = np.bincount(fold_of(key, 5)) / len(key)
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    held = is_held(key, 0.1)
    assert held.mean() == pytest.approx(0.1, abs=0.006)
    assert not is_held(key, 0.0).any() and is_held(key, 1.0).all()
    # What is held out says nothing about folds.
    np.testing.assert_allclose(np.bincount(fold_of(key[held], 5)) / held.sum(), 0.2, atol=0.03)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_mean_caption_gives_the_map_of_all_pairs(penalty):
    """Least squares over every (image, caption), the image's weight divided among its captions."""
    block = captions()
    mean, within = targets(block.t, block.owner, block.weight, len(block.h))
    made = Moments(6, 8)
    made.add(block.h, mean, within=within)
    found = plugins.build(part("solvers", "ridge", penalty=penalty)).solve(made.total)
    shares = block.weight / np.bincount(block.owner, block.weight)[block.owner]
    theirs = Ridge(alpha=found.facts["alpha"])
    theirs.fit(block.h[block.owner].astype(float), block.t.astype(float), shares)
    np.testing.assert_allclose(found.weight, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(found.bias, theirs.intercept_, atol=1e-6)
    spread = ((block.t - mean[block.owner]) ** 2).sum(axis=1)
    assert made.total.within == pytest.approx(shares @ spread, rel=1e-5)


def test_captions_without_any_weight_count_alike():
    block = captions()
    weight = np.where(block.owner == 3, 0.0, block.weight).astype(np.float32)
    mean, _ = targets(block.t, block.owner, weight, len(block.h))
    np.testing.assert_allclose(mean[3], block.t[block.owner == 3].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("side", ["h", "t"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(side, value):
    block = captions()
    getattr(block, side)[7, 2] = value
    number = 7 if side == "h" else block.owner[7]
    what = "image" if side == "h" else "caption"
    with pytest.raises(NotFinite, match=f"The {what} vector of sample number {number} .*NaN"):
        gather([block], 6, 8)
    made = Moments(6, 8)
    with pytest.raises(NotFinite, match="The weight of row 2 "):
        made.add(np.ones((3, 6)), np.ones((3, 8)), np.array([1.0, 1.0, value]))


def test_what_is_held_out_is_in_no_sum_and_whole():
    block = captions(n=400)
    cuts = [cut(block, start, start + 57) for start in range(0, 400, 57)]
    found, whole = gather(cuts, 6, 8, holdout=0.3), gather([block], 6, 8)
    held = is_held(block.key, 0.3)
    assert len(found.held) == held.sum() and found.sums.images == (~held).sum()
    np.testing.assert_array_equal(found.held.h, block.h[held])
    np.testing.assert_array_equal(found.held.t, block.t[held[block.owner]])
    np.testing.assert_array_equal(
        np.bincount(found.held.owner), np.bincount(block.owner, minlength=400)[held]
    )
    mean, within = targets(block.t, block.owner, block.weight, 400)
    rest = Moments(6, 8)
    rest.add(block.h[~held], mean[~held], within=within[~held])
    same(found.sums, rest.total)
    assert len(whole.held) == 0 and whole.sums.images == 400
    in_first = fold_of(block.key, 5) == 0
    assert len(whole.sample) == in_first.sum() and whole.folds[0].images == in_first.sum()
    assert {row.tobytes() for row in whole.sample.rows()[0]} == {
        row.tobytes() for row in block.h[in_first]
    }


def test_how_many_are_held_out():
    assert share_held(0.1, 1_000) == 0.1
    assert share_held(0.1, 300) == 0.0  # thirty say nothing
    assert share_held(0.1, 1_000_000) == 0.005
    assert share_held(0.0, 1_000_000) == 0.0


def test_a_sample_does_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    h = np.arange(3 * SAMPLE, dtype=np.float32)[:, None]
    key = rng.integers(0, 2**63, len(h)).astype(np.uint64)
    found = []
    for order in (np.arange(len(h)), rng.permutation(len(h))):
        sample = Sample(1, 1)
        for at in np.array_split(order, 17):
            sample.add(h[at], -h[at], key[at])
        rows, others = sample.rows()
        assert len(sample) == len(rows) == SAMPLE and np.array_equal(rows, -others)
        found.append(rows)
    np.testing.assert_array_equal(*found)


def _port() -> str:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_processes_agree_with_one(request, tmp_path, size):
    """Gathered sums to 1e-10; two of them, and the whole of `lift fit`."""
    program, where = Path(__file__).with_name("ranks_program.py"), []
    if size == 2:
        world = request.getfixturevalue("world")
        where = [str(world.old), str(world.features), world.data, str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size)}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port()}
    env["PYTHONPATH"] = os.pathsep.join([str(program.parent), str(program.parents[1])])
    running = [
        subprocess.Popen(
            [sys.executable, str(program), *where],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    done = [process.communicate(timeout=200) for process in running]
    errors = "\n".join(error[-2000:] for _, error in done)
    for process, (out, _) in zip(running, done, strict=True):
        assert process.returncode == 0 and "is right" in out, errors


@pytest.mark.slow
def test_a_million_rows_in_constant_memory():
    """Of 64 by 48 numbers: a million take no more memory than a hundred thousand."""

    def anonymous() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        pytest.skip("no RssAnon here")

    true = np.random.default_rng(1).normal(size=(64, 48))

    def blocks(count):
        for n in range(count):
            rng = np.random.default_rng(n)
            h = rng.normal(size=(4_000, 64)).astype(np.float32)
            t = (h @ true + rng.normal(size=(4_000, 48))).astype(np.float32)
            number = np.arange(n * 4_000, (n + 1) * 4_000)
            own = np.arange(4_000)
            yield PairBlock(h, t, own, np.ones(4_000, np.float32), number, number.astype(np.uint64))

    def run(count):
        found = gather(blocks(count), 64, 48, holdout=share_held(0.1, count * 4_000))
        return found.sums.images + len(found.held), anonymous()

    few, before = run(25)
    many, after = run(250)
    assert (few, many) == (100_000, 1_000_000)
    assert after - before < 20e6, (before, after)
