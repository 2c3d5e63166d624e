"""Several parts of one cache: divided by hash, run anywhere, complete together, or refused."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lift.cache.audit import audit
from lift.cache.part import owners
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.errors import CacheError, ConfigError, StorageError
from lift.text.keys import keys_of
from lift.text.roles import Linked

PARTS = 3


def embed_parts(captions, encoder, folder: Path, order=range(PARTS), **options):
    options = {"rows_per_shard": 8, "progress": False, **options}
    return [embed(captions, encoder, folder, part=(i, PARTS), **options) for i in order]


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def test_parts_hold_everything_once(tmp_path, encoder, captions):
    reports = embed_parts(captions, encoder, tmp_path / "c")
    assert sum(r.embedded for r in reports) == sum(r.rows for r in reports) == 60
    assert sum(r.captions for r in reports) == 90
    assert all(r.rows > 5 for r in reports)
    cache = EmbeddingCache.open(tmp_path / "c", verify=True)
    assert len(cache) == 60 and cache.index().repeated() == 0
    assert cache.counters["rows"] == 60 and cache.counters["captions"] == 90
    rows = cache.take(cache.require(captions))
    np.testing.assert_allclose(rows, encoder.encode(captions).rows, atol=1e-3)
    found = audit(tmp_path / "c", captions=captions, encoder=encoder)
    assert found.ok and found.parts == PARTS


def test_rows_do_not_depend_on_parts_order_or_batches(tmp_path, encoder, captions):
    """To 1e-6, before the codec: here to the bit, since float32 stores what the encoder gave."""
    embed(captions, encoder, tmp_path / "one", codec="float32", progress=False)
    one = EmbeddingCache.open(tmp_path / "one")
    for number, (order, listed) in enumerate([((2, 0, 1), captions), ((0, 1, 2), captions[::-1])]):
        folder = tmp_path / f"many{number}"
        embed_parts(listed, encoder, folder, order, codec="float32", token_budget=40 + number)
        many = EmbeddingCache.open(folder)
        np.testing.assert_allclose(
            many.take(many.require(captions)), one.take(one.require(captions)), rtol=0, atol=1e-6
        )


def test_the_order_of_parts_changes_no_file(tmp_path, encoder, captions):
    embed_parts(captions, encoder, tmp_path / "a")
    embed_parts(captions, encoder, tmp_path / "b", (2, 1, 0))
    embed_parts(captions, encoder, tmp_path / "b", (1, 0))  # and running one again does nothing
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_longer_list_adds_only_what_is_new(tmp_path, encoder, captions):
    embed_parts(captions[:30], encoder, tmp_path / "c")
    before = files(tmp_path / "c")
    reports = embed_parts(captions, encoder, tmp_path / "c")
    assert sum(r.stored for r in reports) == 30 and sum(r.embedded for r in reports) == 30
    after = files(tmp_path / "c")
    assert {n: b for n, b in before.items() if n.endswith(".arrow")}.items() <= after.items()
    assert len(EmbeddingCache.open(tmp_path / "c", verify=True)) == 60


def test_a_missing_part_is_named(tmp_path, encoder, captions):
    embed_parts(captions, encoder, tmp_path / "c", (0, 2))
    with pytest.raises(CacheError, match=r"no manifest of part 2/3; run `lift embed` with --part"):
        EmbeddingCache.open(tmp_path / "c")
    embed_parts(captions, encoder, tmp_path / "c", (1,))
    EmbeddingCache.open(tmp_path / "c")


def test_another_number_of_parts_is_refused(tmp_path, encoder, captions):
    embed_parts(captions, encoder, tmp_path / "c", (0,))
    with pytest.raises(CacheError, match="created with parts 3, not 4"):
        embed(captions, encoder, tmp_path / "c", part=(0, 4))
    with pytest.raises(CacheError, match="created with parts 3, not 1"):
        embed(captions, encoder, tmp_path / "c")
    with pytest.raises(ConfigError, match="no part 4 of 3"):
        embed(captions, encoder, tmp_path / "d", part=(3, 3))
    assert not (tmp_path / "d").exists()


def test_parts_of_two_caches_do_not_mix(tmp_path, encoder, captions):
    embed_parts(captions, encoder, tmp_path / "a")
    embed_parts(captions, encoder, tmp_path / "b", codec="float32")
    shutil.rmtree(tmp_path / "a" / "part-2-of-3")
    shutil.copytree(tmp_path / "b" / "part-2-of-3", tmp_path / "a" / "part-2-of-3")
    with pytest.raises(CacheError, match=r"part-2-of-3/manifest\.json belongs to another cache"):
        EmbeddingCache.open(tmp_path / "a")
    shutil.rmtree(tmp_path / "b" / "part-2-of-3")
    shutil.copytree(tmp_path / "b" / "part-1-of-3", tmp_path / "b" / "part-2-of-3")
    with pytest.raises(CacheError, match="belongs to another cache"):
        EmbeddingCache.open(tmp_path / "b")
    (tmp_path / "b" / "part-2-of-3").rename(tmp_path / "b" / "part-2-of-4")
    with pytest.raises(CacheError, match="holds part-2-of-4, but its plan says 3 parts"):
        EmbeddingCache.open(tmp_path / "b")


def test_a_second_writer_of_a_part_is_refused(tmp_path, encoder, captions):
    embed_parts(captions, encoder, tmp_path / "c", (0,))
    with (tmp_path / "c" / "part-1-of-3" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="Another process is writing"):
            embed_parts(captions, encoder, tmp_path / "c", (0,))
        embed_parts(captions, encoder, tmp_path / "c", (1, 2))  # the others are free


def test_the_first_plan_counts(tmp_path, encoder, captions):
    """Whoever comes second obeys, even where both had begun before there was a plan."""
    embed_parts(captions, encoder, tmp_path / "c", (1,), rows_per_shard=8)
    plan = json.loads((tmp_path / "c" / "plan.json").read_text())
    embed(captions, encoder, tmp_path / "c", part=(0, PARTS), progress=False)
    assert json.loads((tmp_path / "c" / "plan.json").read_text()) == plan
    assert plan["parts"] == PARTS and plan["rows_per_shard"] == 8


def test_owners_are_even_and_fixed():
    keys = keys_of([f"caption {i}" for i in range(30_000)])
    counts = np.bincount(owners(keys, 7).astype(int))
    assert counts.min() > 0.95 * 30_000 / 7
    np.testing.assert_array_equal(owners(keys[::3], 7), owners(keys, 7)[::3])
    # The division of the first format that had parts; changing it would embed everything again.
    assert owners(keys_of(["a dog", "a cat", "犬"]), 5).tolist() == OWNERS


OWNERS = [0, 4, 2]


def test_a_derived_text_goes_with_its_parent(tmp_path, encoder):
    items = [
        Linked(text, key=f"{i}.jpg", role=role, parent=parent)
        for i in range(40)
        for text, role, parent in (
            (f"dog {i} by the sea", "raw", ""),
            ("the sea", "phrase", f"dog {i} by the sea"),
        )
    ]
    embed_parts(items, encoder, tmp_path / "c")
    cache = EmbeddingCache.open(tmp_path / "c")
    for number, table in enumerate(cache.links()):
        keys = {key for key in table["caption"].to_pylist()}
        assert all(parent in keys for parent in table["parent"].to_pylist() if parent), number
    report = audit(tmp_path / "c")
    assert report.ok and report.duplicate_keys == 0 and report.shared_keys == 2
    assert cache.find(["the sea"])[0] == cache.find_keys(keys_of(["the sea"]))[0] >= 0
