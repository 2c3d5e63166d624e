"""Scans of shards that are kept: used, made anew where stale or damaged, never in the way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from lift.config import Part
from lift.data.formats import _index, _members
from lift.data.formats._index import Chunk, Entry, Span, Spool
from lift.data.formats._members import Scan
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError
from lift.terms import Caption

SAMPLES = 1030


def members(count=SAMPLES, start=0):
    for number in range(start, start + count):
        yield f"{number:06d}.jpg", f"image {number}".encode()
        yield f"{number:06d}.txt", f"text {number}".encode()


def everything(source):
    samples = [source.read(n) for n in range(len(source))]
    return [(s.key, s.image, s.captions) for s in samples], list(source.texts()), source.counters


@pytest.fixture
def scans(monkeypatch):
    """Return the shards that were scanned since the last look."""
    seen: list[str] = []
    fill = Scan.fill

    def filled(self, *args):
        seen.append(self._shard)
        return fill(self, *args)

    monkeypatch.setattr(Scan, "fill", filled)

    def look():
        found = list(seen)
        seen.clear()
        return found

    return look


@pytest.fixture
def shard(tmp_path, write_tar):
    return write_tar(tmp_path / "s.tar", [("alone.jpg", b"i"), *members()])


@pytest.fixture
def opened(tmp_path, shard):
    def make(**options):
        options = {"path": str(shard), "index": str(tmp_path / "kept"), **options}
        return open_source(Part("data/formats", "webdataset", options))

    return make


def kept(tmp_path):
    return sorted((tmp_path / "kept").glob("*"))


def test_the_second_opening_scans_nothing(tmp_path, opened, scans):
    first = everything(opened())
    assert scans() == ["s.tar"] and first[2] == {"image without caption": 1}
    (file,) = kept(tmp_path)
    assert file.suffix == ".arrow"
    again = opened()
    assert everything(again) == first and scans() == []
    assert again.examples == {"image without caption": "alone in s.tar"}
    assert everything(pickle.loads(pickle.dumps(again))) == first and scans() == []
    with pytest.raises(BrokenSample, match="alone"):
        opened(strict=True)
    assert scans() == []


def test_another_state_of_the_shard_is_scanned(tmp_path, opened, scans, shard, write_tar):
    first = everything(opened())
    scans()
    os.utime(shard, ns=(1, 1))
    assert everything(opened()) == first and scans() == ["s.tar"]
    write_tar(shard, members(SAMPLES + 5))
    os.utime(shard, ns=(1, 1))  # another size at the same time
    assert len(opened()) == SAMPLES + 5 and scans() == ["s.tar"]
    assert len(kept(tmp_path)) == 1
    assert len(opened()) == SAMPLES + 5 and scans() == []


def test_another_shard_of_the_same_size_and_time_is_scanned(opened, scans, shard, write_tar):
    """Tools that copy or unpack set times; archives come in round sizes."""
    before = shard.stat()
    assert opened().read(5).captions[0].text == "text 5"
    scans()
    content = [(f"{n:06d}.{kind}", b"text 5") for n in range(SAMPLES) for kind in ("txt", "jpg")]
    write_tar(shard, [("alone.jpg", b"i"), *content])
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = shard.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    source = opened()
    assert scans() == ["s.tar"] and source.read(5).image == b"text 5"
    os.chmod(shard, 0o444)  # no change of what a run reads
    assert pickle.loads(pickle.dumps(source)).read(5).image == b"text 5"


@pytest.mark.parametrize(
    "options",
    [{"max_image_bytes": 10_000}, {"max_members": 9999}, {"caption_field": (".txt", ".txt:b")}],
)
def test_what_decides_a_sample_decides_the_file(tmp_path, opened, scans, options):
    opened()
    scans()
    other = opened(**options)
    files = 1 if "caption_field" in options else 2  # its roles are no matter of the index
    assert len(kept(tmp_path)) == files and len(scans()) == files - 1
    assert len(other) == SAMPLES


def test_a_smaller_bound_is_not_hidden_by_what_is_kept(opened):
    opened()
    with pytest.raises(DataError, match="more than 100 members"):
        opened(max_members=100)


def test_damaged_files_are_made_anew(tmp_path, opened, scans):
    first = everything(opened())
    scans()
    (file,) = kept(tmp_path)
    sound = file.read_bytes()
    dice = random.Random(0)
    spoiled = [b"", sound[:100], sound[:-1], sound[: len(sound) // 2], b"x" * len(sound)]
    for _ in range(20):
        flipped = bytearray(sound)
        flipped[dice.randrange(len(sound))] ^= 1 << dice.randrange(8)
        spoiled.append(bytes(flipped))
    scanned = 0
    for content in spoiled:
        file.write_bytes(content)
        source = opened()
        assert (len(source), source.counters, source.examples) == (
            SAMPLES, {"image without caption": 1}, {"image without caption": "alone in s.tar"},
        )  # fmt: skip
        if scans():
            scanned += 1
            assert file.read_bytes() == sound
        else:  # a flip that nobody sees is in bytes that pad
            assert list(source.texts()) == first[1]
    assert scanned > 20


def test_small_shards_are_not_kept(tmp_path, opened, scans, shard, write_tar):
    write_tar(shard, members(1023))
    for _ in range(2):
        assert len(opened()) == 1023 and scans() == ["s.tar"]
    assert not kept(tmp_path)


def test_a_folder_that_can_not_be_written_is_no_error(tmp_path, opened, scans):
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        assert len(opened(index=str(tmp_path / "file" / "in"))) == SAMPLES
        assert scans() == ["s.tar"]


def test_the_usual_folder(opened, scans):
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "lift" / "index"
    before = len(list(folder.glob("*"))) if folder.exists() else 0
    opened(index=None)
    opened(index=None)
    assert scans() == ["s.tar"] and len(list(folder.glob("*.arrow"))) == before + 1


def test_several_processes_at_once(tmp_path, opened):
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()

    def work(barrier):
        barrier.wait(20)
        source = opened()
        answers.put((len(source), [source.read(n).key for n in (0, 700, SAMPLES - 1)]))

    barrier = fork.Barrier(4)
    children = [fork.Process(target=work, args=(barrier,)) for _ in range(4)]
    for child in children:
        child.start()
    told = [answers.get(timeout=30) for _ in children]
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    assert told == [(SAMPLES, ["000000", "000700", f"{SAMPLES - 1:06d}"])] * 4
    (file,) = kept(tmp_path)
    file.unlink()
    half = file.with_name(f".partial-{file.name}")  # another process is at it, or was killed
    half.write_text("half")
    opened()
    assert kept(tmp_path) == [half, file] and half.read_text() == "half"


def test_chunks_change_nothing(tmp_path, opened, scans, monkeypatch, shard, write_tar):
    doubled = [*members(1100), *members(30), *members(7, 2000)]
    write_tar(shard, doubled)
    whole = everything(opened(index=str(tmp_path / "a")))
    assert whole[2] == {"duplicate key": 30}
    monkeypatch.setattr(_members, "CHUNK", 64)
    monkeypatch.setattr(_index, "CHUNK", 50)
    for _ in range(2):
        assert everything(opened()) == whole
    assert scans() == ["s.tar"] * 2


def test_spool_and_index_return_what_came_in():
    keys = ["a", "", "größer/文字", "z" * 300]
    rows = np.arange(4 * 8).reshape(4, 8)
    chunk = Chunk.of(rows.ravel().tolist(), [key.encode() for key in keys])
    with Spool() as spool:
        spool.add(Chunk.of([9] * 8, [b"forget"]))
        spool.clear()
        spool.add(chunk)
        spool.add(chunk.only(np.array([True, False, False, True])))
        back = list(spool.chunks())
        index = spool.index()
    assert b"".join(part.keys for part in back).decode() == "".join([*keys, *keys[::3]])
    assert [entry.key for entry in index.between(0, 6)] == [*keys, *keys[::3]]
    last = index[5]
    assert last == Entry(keys[3], Span(24, 25), Span(26, 27), Span(28, 29), Span(30, 31))
    with Spool() as empty:
        assert len(empty.index()) == 0


GROWTH = """
import sys
from lift.config import Part
from lift.data.source import open_source

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) for l in file if l.startswith("RssAnon"))

def use(path):
    options = {"path": path, "index": sys.argv[3], "key_field": "uid", "caption_field": "uid"}
    source = open_source(Part("data/formats", "webdataset", options))
    for number in range(0, len(source), 7):
        source.read(number)
    assert sum(1 for _ in source.texts()) == len(source)
    return source

use(sys.argv[1])
held = use(sys.argv[1])
before = anonymous()
held = use(sys.argv[2])
scanned = anonymous() - before
held = use(sys.argv[2])
print(len(held), scanned, anonymous() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(tmp_path):
    blank = bytearray(tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT))
    blank[124:136] = b"%011o\0" % 40

    def member(name, content):
        head = blank.copy()
        head[: len(name)] = name.encode()
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head) + content.ljust(40).ljust(512, b"\0")

    def made(name, count):
        with (tmp_path / name).open("wb") as file:
            for n in range(count):
                for ending, content in (("jpg", b"i"), ("json", b'{"uid": "%d"}' % n)):
                    file.write(member(f"{n:040d}.{ending}", content))
            file.write(b"\0" * 1024)
        return tmp_path / name

    small, large = made("small.tar", 2_000), made("large.tar", 40_000)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(small), str(large), str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, scanned, again = map(int, done.stdout.split())
    # A list of 40,000 keys would take 5 MB, an entry of each 20 MB.
    assert count == 40_000 and scanned < 2_500 and again < 2_500, done.stdout


@pytest.fixture
def far(write_tar, tmp_path):
    """Return the URL of three shards in fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    for number in range(3):
        path = write_tar(tmp_path / "far.tar", members(10 + number))
        memory.pipe(f"/lift-index/far-{number}.tar", path.read_bytes())
    yield "memory://lift-index/far-{0..2}.tar"
    memory.rm("/lift-index", recursive=True)


def test_remote_shards(tmp_path, far, scans):
    def opened(**options):
        options = {"path": far, "index": str(tmp_path / "kept"), **options}
        return open_source(Part("data/formats", "webdataset", options))

    source = opened()
    assert scans() == ["far-0.tar", "far-1.tar", "far-2.tar"]
    assert source.groups == (10, 11, 12) and source.name == "lift-index/far-*.tar (3 files)"
    assert source.whereabouts == "memory://lift-index" and "4 times" in source.promise()
    source.ahead([2, 0])
    first = everything(source)
    assert first[0][10] == ("far-1/000000", b"image 0", (Caption("text 0"),))
    again = opened()
    assert scans() == [] and everything(again) == first
    assert len(kept(tmp_path)) == 3, "remote shards are kept however small"
    assert source.window_samples == 10
    fsspec.filesystem("memory").pipe("/lift-index/far-1.tar", b"\0" * 1024)
    with pytest.raises(DataError, match=r"memory://lift-index/far-1\.tar holds no samples"):
        opened()


def test_windows_of_remote_shards_fit_the_disk(tmp_path, write_tar):
    memory = fsspec.filesystem("memory")
    big = [("k.bin", b"b" * 400_000), *members(3)]
    content = write_tar(tmp_path / "far.tar", big).read_bytes()
    for number in range(6):
        memory.pipe(f"/lift-window/far-{number}.tar", content)
    for disk_mb, window in ((1, 3), (2, 6), (100, 9)):
        path = "memory://lift-window/far-*.tar"
        options = {"path": path, "disk_mb": disk_mb, "index": str(tmp_path / "kept")}
        source = open_source(Part("data/formats", "webdataset", options))
        assert source.window_samples == window
        assert [source.read(n).key for n in (0, 17, 5)] == [
            "far-0/000000", "far-5/000002", "far-1/000002",
        ]  # fmt: skip
    memory.rm("/lift-window", recursive=True)
