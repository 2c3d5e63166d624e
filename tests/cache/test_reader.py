"""Reading: lookups and rows against plain numpy, in other processes too; what it refuses."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

from lift.cache.manifest import write_manifest
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.errors import CacheError, MissingRows
from lift.text.encoder import caption_key


@pytest.fixture(params=["float16", "float32"])
def cache(request, tmp_path, encoder, captions) -> EmbeddingCache:
    embed(captions, encoder, tmp_path / "c", codec=request.param, rows_per_shard=16)
    return EmbeddingCache.open(tmp_path / "c")


def test_facts(cache, encoder):
    assert len(cache) == 60 and cache.dimensions == 24
    assert cache.space == encoder.space and cache.part == encoder.part and cache.saw == ()


def test_find(cache, captions):
    texts = ["never seen", *captions[::-1], "", captions[7]]
    places = {text.strip(): row for row, text in enumerate(captions[:60])}
    assert cache.find(texts).tolist() == [places.get(text.strip(), -1) for text in texts]
    assert cache.find([]).tolist() == []
    assert cache.find_keys([caption_key(captions[9])]).tolist() == [9]


def test_take_in_any_order_with_repeats(cache, captions, encoder):
    expected = encoder.encode(captions[:60]).rows
    if cache.codec.name == "float16":
        expected = expected.astype(np.float16).astype(np.float32)
    rows = np.random.default_rng(0).integers(0, 60, 500)
    taken = cache.take(rows)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, expected[rows])
    assert cache.take([]).shape == (0, 24)


def test_views_are_not_copies(cache):
    view = cache.view(0)
    assert not view.stored.flags.owndata and not view.stored.flags.writeable
    assert not view.keys.flags.owndata
    assert cache.view(0) is view


@pytest.mark.parametrize("bad", [-1, 60])
def test_rows_outside_are_refused(cache, bad):
    with pytest.raises(CacheError, match=f"rows 0 to 59, not {bad}"):
        cache.take([3, bad])


def test_require_counts_and_names_the_first(cache, captions):
    assert cache.require(captions[:3]).tolist() == [0, 1, 2]
    with pytest.raises(MissingRows, match=r"2 of 4 captions .* 'new one'.*lift embed"):
        cache.require([captions[0], "new one", "new two", captions[1]])


def take_in_child(cache: EmbeddingCache, queue) -> None:
    queue.put(cache.take([5, 50]))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("method", "used"), [("fork", True), ("fork", False), ("spawn", True)])
def test_other_processes_read_the_same(cache, method, used, tmp_path):
    expected = cache.take([5, 50])
    subject = cache if used else EmbeddingCache.open(cache.folder)
    if method == "spawn":
        # Test modules can't be imported by a child: send the pickle to a plain one.
        (tmp_path / "cache.pickle").write_bytes(pickle.dumps(subject))
        code = (
            "import pickle, sys; f = open(sys.argv[1], 'rb'); c = pickle.load(f); f.close();"
            "sys.stdout.write(c.take([5, 50]).tobytes().hex())"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "cache.pickle")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = np.frombuffer(bytes.fromhex(done.stdout), np.float32).reshape(2, 24)
    else:
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        child = context.Process(target=take_in_child, args=(subject, queue))
        child.start()
        found = queue.get()
        child.join()
    np.testing.assert_array_equal(found, expected)


def test_pickle_holds_a_path_not_rows(cache):
    cache.find(["a"])
    assert len(pickle.dumps(cache)) < 10_000
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again.take([3]), cache.take([3]))


def test_a_cache_that_grows_keeps_its_first_rows(cache, encoder):
    before = cache.take(range(60))
    copy = pickle.dumps(cache)
    embed(["something new"], encoder, cache.folder, codec=cache.codec.name)
    assert len(pickle.loads(copy)) == 60
    grown = EmbeddingCache.open(cache.folder)
    assert len(grown) == 61 and grown.find(["something new"]).tolist() == [60]
    np.testing.assert_array_equal(grown.take(range(60)), before)


def test_many_shards_are_not_all_kept_open(cache, monkeypatch):
    monkeypatch.setattr("lift.cache.rows._OPEN_SHARDS", 2)
    expected = cache.take(range(60))
    assert len(cache._views) == 2
    np.testing.assert_array_equal(cache.take(range(60)), expected)


def test_nothing_and_unfinished(tmp_path, cache):
    with pytest.raises(CacheError, match="no cache in"):
        EmbeddingCache.open(tmp_path / "nowhere")
    (cache.folder / "manifest.json").unlink()
    (cache.folder / "shard-00003.arrow").write_bytes(b"broken")
    with pytest.raises(CacheError, match=r"not finished: 48 rows .* run the same"):
        EmbeddingCache.open(cache.folder)


def test_damaged_files_are_refused(cache):
    path = cache.folder / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"shard-00001\.arrow does not have its checksum \(1 of 4"):
        EmbeddingCache.open(cache.folder, verify=True)
    path.write_bytes(content[:-1])
    with pytest.raises(CacheError, match=r"shard-00001\.arrow has .* the manifest says"):
        EmbeddingCache.open(cache.folder)
    path.unlink()
    with pytest.raises(CacheError, match="is missing"):
        EmbeddingCache.open(cache.folder)


def test_manifests_of_tomorrow_and_of_nobody_are_refused(cache):
    path = cache.folder / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "version": 3}))
    with pytest.raises(CacheError, match=r"version 3, and this lift reads up to 2"):
        EmbeddingCache.open(cache.folder)
    for text in ("", "[]", "{}", json.dumps({**values, "extra": 1})):
        path.write_text(text)
        with pytest.raises(CacheError, match=r"manifest\.json is damaged"):
            EmbeddingCache.open(cache.folder)
    values["plan"]["space"]["max_tokens"] = 99
    path.write_text(json.dumps(values))
    with pytest.raises(CacheError, match="changed after it was written"):
        EmbeddingCache.open(cache.folder)


def test_precision_is_said(cache, encoder, tmp_path):
    assert cache.precision == "float32"
    embed(["a"], encoder, tmp_path / "rough", precision="bfloat16", progress=False)
    rough = EmbeddingCache.open(tmp_path / "rough")
    assert rough.precision == "bfloat16" and rough.space == cache.space


def test_any_changed_byte_of_a_shard_is_one_sentence(cache):
    path = cache.folder / "shard-00001.arrow"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in (int(random.integers(1_500)), -1 - int(random.integers(1_200))):
            content[place] = int(random.integers(256))
        path.write_bytes(content)
        opened = EmbeddingCache.open(cache.folder)
        try:
            opened.find(["a red dog"])
            taken = opened.take([0, 17, 31, 59])
        except CacheError:
            continue
        assert taken.shape == (4, 24)


def test_a_shard_of_another_length_is_refused(cache):
    path = cache.folder / "manifest.json"
    values = json.loads(path.read_text())
    values["shards"][1]["rows"] = 17
    path.write_text(json.dumps(values))
    with pytest.raises(CacheError, match=r"changed after it was written: .*checksum"):
        EmbeddingCache.open(cache.folder)
    changed = dataclasses.replace(cache.manifest.shards[1], rows=17)
    shards = (cache.manifest.shards[0], changed, *cache.manifest.shards[2:])
    write_manifest(cache.place, dataclasses.replace(cache.manifest, shards=shards))
    with pytest.raises(CacheError, match=r"shard-00001\.arrow .*16 rows, the manifest says 17"):
        EmbeddingCache.open(cache.folder).take([20])
