"""What every file in `search/engines/` promises, against comparing with all rows in float64."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lift import plugins
from lift.config import part
from lift.errors import ConfigError, StorageError
from lift.search.engines import NOWHERE, Engine

ROOM = "search/engines"
NAMES = plugins.names(ROOM)
LOOKING_UP = [name for name in NAMES if name != "exact"]
ROWS, WIDTH = 4_000, 24


def maker(name: str, **options):
    try:
        options = options if name == "exact" else {"least": 0, **options}
        return plugins.build(part(ROOM, name, **options))
    except Exception as error:
        if type(error).__name__ == "MissingPackage":
            pytest.skip(str(error))
        raise


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(rows: int = ROWS, width: int = WIDTH, seed: int = 0):
    dice = np.random.default_rng(seed)
    middles = dice.standard_normal((50, width))
    return unit(middles[dice.integers(0, 50, rows)] + 0.5 * dice.standard_normal((rows, width)))


def asked(vectors, count: int = 40):
    noise = np.random.default_rng(9).standard_normal((count, vectors.shape[1]))
    return unit(vectors[:: max(1, len(vectors) // count)][:count] + 0.1 * noise[: len(vectors)])


def true(vectors, z, top, allowed=None):
    """The same by sorting everything: places and cosines as they have to be."""
    exact = np.asarray(vectors, np.float64) @ z.T.astype(np.float64)
    exact = exact.T.astype(np.float32)
    if allowed is not None:
        outside = np.ones(len(vectors), bool)
        outside[: len(allowed)] = ~allowed[: len(vectors)]
        exact[:, outside] = -np.inf
    order = np.argsort(-exact, axis=1, kind="stable")[:, :top]
    cosines = np.take_along_axis(exact, order, 1)
    order[np.isneginf(cosines)] = NOWHERE
    missing = max(0, top - len(vectors))
    return (
        np.pad(order, ((0, 0), (0, missing)), constant_values=NOWHERE),
        np.pad(cosines, ((0, 0), (0, missing)), constant_values=-np.inf),
    )


def require_honest(vectors, z, found, allowed=None):
    """Each place once and allowed, its cosine that of the stored row, best first, ties by place."""
    places, cosines = found
    assert places.dtype == np.int64 and cosines.dtype == np.float32
    assert np.array_equal(places == NOWHERE, np.isneginf(cosines))
    for question, row, cosine in zip(z, places, cosines, strict=True):
        got = row[row != NOWHERE]
        assert len(set(got.tolist())) == len(got)
        assert (row[len(got) :] == NOWHERE).all()
        if allowed is not None:
            assert (got < len(allowed)).all() and allowed[got].all()
        exact = np.asarray(vectors[got], np.float64) @ question.astype(np.float64)
        np.testing.assert_allclose(cosine[: len(got)], exact, atol=1e-7)
        keys = list(zip((-cosine[: len(got)]).tolist(), got.tolist(), strict=True))
        assert keys == sorted(keys)


def recall(found, best):
    """By cosine, because of rows that are equal any will do."""
    wanted = np.isfinite(best[1])
    return float(np.mean((found[1] >= best[1][:, -1:] - 1e-6)[wanted]))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "vectors.f32"
    clustered().tofile(path)
    return np.memmap(path, np.float32, "r", shape=(ROWS, WIDTH))


@pytest.fixture(scope="module")
def built_folder(name, vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name) / "engine"
    maker(name).open(vectors, folder, writes=True).build()
    return folder


@pytest.fixture
def engine(name, vectors, built_folder):
    return maker(name).open(vectors, built_folder, writes=False)


@pytest.fixture
def copied(name, vectors, built_folder, tmp_path):
    """A folder of its own to damage."""
    if built_folder.is_dir():
        return shutil.copytree(built_folder, tmp_path / "engine")
    return tmp_path / "engine"


SHARES = {"all": None, "half": 0.5, "a tenth": 0.1, "few": 0.004, "none": 0.0}


@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
def test_the_nearest_are_found_whatever_is_allowed(engine, vectors, share):
    assert isinstance(engine, Engine) and engine.complaint == "" and engine.stale == 0
    z = asked(vectors)
    allowed = None if share is None else np.random.default_rng(2).random(ROWS) < share
    found, best = engine.nearest(z, 10, allowed), true(vectors, z, 10, allowed)
    require_honest(vectors, z, found, allowed)
    assert np.array_equal(found[0] == NOWHERE, best[0] == NOWHERE)
    if share != 0:
        assert recall(found, best) >= engine.recall
    if engine.recall == 1:
        assert np.array_equal(found[0], best[0]) and np.array_equal(found[1], best[1])


def test_a_filter_that_leaves_only_what_is_far_away_loses_nothing(engine, vectors):
    z = asked(vectors, 8)
    near = true(vectors, z, 400)[0]
    allowed = np.ones(ROWS, bool)
    allowed[near.reshape(-1)] = False
    found, best = engine.nearest(z, 10, allowed), true(vectors, z, 10, allowed)
    require_honest(vectors, z, found, allowed)
    assert recall(found, best) >= engine.recall


@pytest.mark.parametrize("top", [1, 100, 1_000, ROWS + 5])
def test_short_and_long_lists(engine, vectors, top):
    z = asked(vectors, 5)
    found, best = engine.nearest(z, top), true(vectors, z, top)
    require_honest(vectors, z, found)
    assert found[0].shape == (5, top) and recall(found, best) >= engine.recall


def test_an_answer_is_the_same_alone_and_among_others(engine, vectors):
    z = asked(vectors, 20)
    together = engine.nearest(z, 10)
    again = engine.nearest(z, 10)
    assert np.array_equal(together[0], again[0]) and np.array_equal(together[1], again[1])
    for number, question in enumerate(z):
        alone = engine.nearest(question[None], 10)
        same = np.isin(alone[0][0], together[0][number])
        assert same.mean() >= 0.9 or engine.recall < 1
        if engine.recall == 1:
            assert np.array_equal(alone[0][0], together[0][number])
            assert np.array_equal(alone[1][0], together[1][number])
    assert engine.nearest(z[:0], 3)[0].shape == (0, 3)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize(("rows", "width"), [(0, 5), (1, 5), (2, 1), (300, 1), (70, 3)])
def test_small_ones(name, tmp_path, rows, width, kind):
    dice = np.random.default_rng(1)
    vectors = unit(dice.standard_normal((rows, width))).astype(kind)
    z = unit(dice.standard_normal((3, width)))
    engine = maker(name).open(vectors, tmp_path / "e", writes=True)
    for _ in range(2):
        for allowed in (None, np.ones(rows, bool), np.zeros(rows, bool), np.ones(0, bool)):
            found, best = engine.nearest(z, 4, allowed), true(vectors, z, 4, allowed)
            require_honest(vectors, z, found, allowed)
            np.testing.assert_allclose(found[1], best[1], atol=1e-6)
        engine.build()
    engine.close()


def test_many_equal_rows(name, tmp_path):
    vectors = clustered(1_500)
    vectors[100:1_100] = vectors[100]
    engine = maker(name).open(vectors, tmp_path / "e", writes=True)
    engine.build()
    z = np.concatenate([vectors[100:101], asked(vectors, 10)])
    found, best = engine.nearest(z, 20), true(vectors, z, 20)
    require_honest(vectors, z, found)
    assert recall(found, best) >= engine.recall
    if engine.recall == 1:
        assert found[0][0].tolist() == list(range(100, 120))


def test_rows_that_came_later_are_found_at_once(name, copied, vectors, tmp_path):
    engine = maker(name).open(vectors, copied, writes=True)
    more = np.concatenate([vectors, clustered(500, seed=3)])
    engine.follow(more)
    z = asked(more[ROWS:])
    allowed = np.random.default_rng(4).random(len(more)) < 0.5
    for sieve in (None, allowed, allowed[: ROWS + 100]):
        found, best = engine.nearest(z, 10, sieve), true(more, z, 10, sieve)
        require_honest(more, z, found, sieve)
        assert recall(found, best) >= engine.recall
    assert engine.stale == (0 if name == "exact" else 500) and not engine.complaint
    reader = maker(name).open(more, copied, writes=False)
    engine.build()
    assert engine.stale == 0
    reader.follow(more)  # another process's engine goes over to what was built
    assert reader.stale == 0 and not reader.complaint
    assert recall(reader.nearest(z, 10), true(more, z, 10)) >= engine.recall


def test_a_commit_is_followed_cheaply(engine, vectors):
    began = time.process_time()
    for _ in range(20):
        engine.follow(vectors)
    assert time.process_time() - began < 1  # no hash of the file each time: about 10 ms


def test_bad_questions_are_refused(engine, vectors):
    z = asked(vectors, 2)
    with pytest.raises(ConfigError, match="was asked of vectors of 24 values"):
        engine.nearest(z[:, :5], 3)
    with pytest.raises(ConfigError, match="at least 1 hit, not 0"):
        engine.nearest(z, 0)
    with pytest.raises(ConfigError, match="not finite"):
        engine.nearest(z * np.float32("nan"), 3)


def test_rows_that_are_not_finite_are_never_found_and_hide_nobody(name, tmp_path):
    vectors = clustered(1_000)
    bad = [3, 500, 501, 999]
    vectors[bad] = [[np.nan], [np.inf], [-np.inf], [np.nan]]
    engine = maker(name).open(vectors, tmp_path / "e", writes=True)
    engine.build()
    good = np.ones(len(vectors), bool)
    good[bad] = False
    z = asked(np.where(good[:, None], vectors, vectors[0]))
    with np.errstate(all="ignore"):
        best = true(np.where(good[:, None], vectors, 0), z, 10, good)
    found = engine.nearest(z, 10)
    require_honest(vectors, z, found, good)
    assert recall(found, best) >= engine.recall


def test_threads_ask_while_rows_come_and_it_is_built(name, copied, vectors):
    engine = maker(name).open(vectors, copied, writes=True)
    more = np.concatenate([vectors, clustered(300, seed=5)])
    z, failures, over = asked(vectors, 10), [], threading.Event()
    best = true(vectors, z, 10, np.ones(ROWS, bool))

    def ask():
        allowed = np.ones(ROWS, bool)
        while not over.is_set():
            try:
                found = engine.nearest(z, 10, allowed)
                require_honest(more, z, found, allowed)
                assert recall(found, best) >= engine.recall
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for rows in (more, vectors, more):
            engine.follow(rows)
            time.sleep(0.02)
        engine.build()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_another_engine_or_other_vectors_are_not_mistaken(name, copied, vectors):
    if name == "exact":
        return
    other = clustered(seed=8)
    moved = np.ascontiguousarray(np.delete(vectors, 7, axis=0))  # a compaction
    for rows in (other, moved, vectors[:-1], vectors[:, :-1].copy(), vectors.astype(np.float16)):
        engine = maker(name).open(rows, copied, writes=False)
        assert "of other vectors" in engine.complaint and engine.stale == len(rows)
        z = asked(rows, 5)
        require_honest(rows, z, engine.nearest(z, 10))
        np.testing.assert_array_equal(engine.nearest(z, 10)[0], true(rows, z, 10)[0])
    option = {"usearch": {"connectivity": 8}, "faiss": {"cells": 9}}[name]
    engine = maker(name, **option).open(vectors, copied, writes=False)
    assert "with other options" in engine.complaint
    engine = maker(name, recall=0.99999).open(vectors, copied, writes=False)
    assert not engine.complaint or "of the nearest when it was built" in engine.complaint


def damaged_in_any_way(record: dict):
    yield b""
    yield b"\x00" * 50
    yield b"[" * 60_000
    yield b'{"a": ' * 10_000
    yield b"{}" + b" " * 70_000
    yield b"[1]"
    yield json.dumps({**record, "more": 1}).encode()
    for field, value in {
        "rows": 2**60,
        "width": -1,
        "size": "9",
        "effort": True,
        "recall": 7.0,
        "options": [],
        "engine": None,
        "hash": ["x"],
        "format": 2,
    }.items():
        yield json.dumps({**record, field: value}).encode()


@pytest.mark.parametrize("name", LOOKING_UP, indirect=True)
def test_a_damaged_folder_is_told_and_never_trusted(name, copied, vectors):
    record_file, lookup = copied / "built" / "built.json", copied / "built" / "lookup"
    whole, data = record_file.read_bytes(), lookup.read_bytes()
    z = asked(vectors, 3)

    def require_told(words):
        engine = maker(name).open(vectors, copied, writes=False)
        assert words in engine.complaint and str(copied) in engine.complaint
        np.testing.assert_array_equal(engine.nearest(z, 5)[0], true(vectors, z, 5)[0])

    for text in damaged_in_any_way(json.loads(whole)):
        record_file.write_bytes(text)
        require_told("because ")
    record_file.write_bytes(whole)
    for spoiled in (b"", data[:-1], data + b"x", data[:500] + b"?" + data[501:]):
        lookup.write_bytes(spoiled)
        require_told("its file is missing or damaged")
    lookup.unlink()
    require_told("its file is missing or damaged")
    os.mkfifo(lookup)  # nobody waits for a pipe
    require_told("its file is missing or damaged")
    record_file.unlink()
    os.mkfifo(record_file)
    require_told("can't be read")
    shutil.rmtree(copied)
    copied.write_bytes(b"no folder")
    require_told("none was built yet")


def honest_record(folder: Path, data: bytes) -> None:
    """Write a lookup with a record that says it is whole, as a stranger can."""
    import hashlib

    (folder / "built" / "lookup").write_bytes(data)
    path = folder / "built" / "built.json"
    record = json.loads(path.read_bytes())
    record |= {"size": len(data), "hash": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("name", LOOKING_UP, indirect=True)
def test_a_strangers_lookup_crashes_nothing(name, copied, vectors):
    data = (copied / "built" / "lookup").read_bytes()
    z, dice, refused = asked(vectors, 4), random.Random(0), 0
    middle = 8 + ROWS * WIDTH * 2  # where usearch's own head is
    for number in range(60):
        spoiled = bytearray(data)
        start = 0 if number % 3 == 0 else min(len(data) - 600, middle)
        end = start + 600 if number % 3 < 2 else len(data)
        for _ in range(dice.choice([1, 20])):
            spoiled[dice.randrange(start, end)] = dice.randrange(256)
        if number % 10 == 9:
            spoiled = spoiled[: dice.randrange(len(spoiled))]
        honest_record(copied, bytes(spoiled))
        engine = maker(name).open(vectors, copied, writes=False)
        refused += bool(engine.complaint)
        require_honest(vectors, z, engine.nearest(z, 10))
        require_honest(vectors, z, engine.nearest(z, 10, np.arange(ROWS) % 2 == 0))
    assert refused > 10


def test_usearch_links_that_lead_nowhere_are_seen(vectors, tmp_path):
    folder = tmp_path / "e"
    maker("usearch").open(vectors, folder, writes=True).build()
    data = (folder / "built" / "lookup").read_bytes()
    head = 8 + ROWS * WIDTH * 2
    nodes = head + 64 + 40 + 2 * ROWS
    for place, words in {
        8: None,  # a number of the copied rows: no harm, cosines are computed anew
        0: "links that lead nowhere",
        head: "links that lead nowhere",
        head + 64: "links that lead nowhere",  # how many
        head + 64 + 32: "links that lead nowhere",  # the first row
        head + 64 + 40 + 1: "links that lead nowhere",  # a level
        nodes: "links that lead nowhere",  # a key
        nodes + 13: "links that lead nowhere",  # how many links
        nodes + 17: "links that lead nowhere",  # a link
    }.items():
        spoiled = bytearray(data)
        spoiled[place] ^= 0xFF
        honest_record(folder, bytes(spoiled))
        complaint = maker("usearch").open(vectors, folder, writes=False).complaint
        assert (words in complaint) if words else not complaint, place


def test_only_a_writer_builds(name, engine):
    if name != "exact":
        with pytest.raises(StorageError, match="opened for reading only"):
            engine.build()


@pytest.mark.parametrize("name", LOOKING_UP, indirect=True)
def test_a_full_disk_leaves_what_was_built(name, full_disk, vectors):
    few = np.ascontiguousarray(vectors[:1_000])
    folder = full_disk / "e"
    engine = maker(name).open(few, folder, writes=True)
    engine.build()
    many = clustered(9_000)
    many[:1_000] = few
    engine.follow(many)
    free = shutil.disk_usage(full_disk).free
    (full_disk / "filler").write_bytes(bytes(free - 150_000))
    with pytest.raises(StorageError, match=r"Can't write .*"):
        engine.build()
    again = maker(name).open(many, folder, writes=False)
    for one in (engine, again):
        assert not one.complaint and one.stale == 8_000


BUILDER = """
import sys, numpy as np
from lift import plugins
from lift.config import part
rows = np.load(sys.argv[2])
engine = plugins.build(part("search/engines", sys.argv[1], least=0)).open(
    rows, __import__("pathlib").Path(sys.argv[3]), writes=True)
print("ready", flush=True)
while True:
    engine.build()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKING_UP, indirect=True)
def test_a_killed_builder_leaves_the_earlier_one(name, copied, vectors, tmp_path):
    np.save(tmp_path / "rows.npy", vectors[:])
    z, dice, best = asked(vectors, 5), random.Random(1), true(vectors, asked(vectors, 5), 10)
    command = [sys.executable, "-c", BUILDER, name, str(tmp_path / "rows.npy"), str(copied)]
    for _ in range(4):
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline()
        time.sleep(dice.uniform(0.01, 0.8))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        engine = maker(name).open(vectors, copied, writes=True)
        assert not engine.complaint and engine.stale == 0
        assert recall(engine.nearest(z, 10), best) >= engine.recall
        assert sorted(p.name for p in copied.iterdir()) == ["built"]


def test_blocks_and_passes_make_no_difference(monkeypatch):
    from lift.search.engines import _exact

    vectors = clustered(900)
    vectors[1::7] = vectors[0]
    z = asked(vectors, 30)
    allowed = np.random.default_rng(1).random(900) < 0.3
    whole = [_exact.exact(vectors, z, 25, a) for a in (None, allowed)]
    monkeypatch.setattr(_exact, "_BLOCK_VALUES", 64 * WIDTH)
    monkeypatch.setattr(_exact, "_MOST_QUESTIONS", 7)
    monkeypatch.setattr(_exact, "_MOST_PAIRS_VALUES", 50)
    for mine, sieve in zip(whole, (None, allowed), strict=True):
        parts = _exact.exact(vectors, z, 25, sieve)
        best = true(vectors, z, 25, sieve)
        for found in (mine, parts):
            assert np.array_equal(found.places, best[0])
            assert np.array_equal(found.cosines, best[1])


MEMORY = """
import sys, numpy as np, torch
torch.set_num_threads(1)
from pathlib import Path
from lift import plugins
from lift.config import part
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("RssAnon")).split()[1]) >> 10
def peak(rows, kind):
    path = Path(sys.argv[1]) / "rows"
    with open(path, "wb") as file:
        file.truncate(rows * 384 * np.dtype(kind).itemsize)
    held = np.memmap(path, kind, "r+", shape=(rows, 384))
    dice = np.random.default_rng(0)
    for start in range(0, rows, 10_000):
        held[start : start + 10_000] = dice.standard_normal((10_000, 384), np.float32) / 19.6
    held.flush()
    vectors = np.memmap(path, kind, "r", shape=(rows, 384))
    engine = plugins.build(part("search/engines", "exact")).open(vectors, path, writes=False)
    engine.nearest(np.asarray(vectors[:64], np.float32), 20)
    before = anonymous()
    for count, allowed in ((1, None), (64, None), (64, np.arange(rows) % 7 == 0)):
        engine.nearest(np.asarray(vectors[:count], np.float32), 20, allowed)
    return anonymous()
for kind in (np.float32, np.float16):
    print(peak(20_000, kind), peak(int(sys.argv[2]), kind))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), "1000000"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in run.stdout.splitlines():
        few, many = map(int, line.split())
        assert many - few < 40, run.stdout  # megabytes; the rows are 1,465 or 732
