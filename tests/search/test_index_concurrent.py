"""An index asked while it changes: by threads, by another process; and two writers at once."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from lift.errors import ConfigError, StorageError
from lift.search import adding, reading
from lift.search.filters import Filter
from lift.search.index import Index
from lift.search.terms import Item
from made_model import made

PIECE = 8


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(adding, "AT_ONCE", PIECE)
    monkeypatch.setattr(reading, "LOOK", 0.0)


def item(number: int, again: int = 0) -> Item:
    """Two texts that say how often the item was written."""
    return Item(
        key=f"k{number}",
        texts={"title": (f"word{number} t{again}",), "body": (f"text{number} b{again}",)},
        facts={"again": again},
    )


def require_one_commit(index: Index) -> int:
    """Whatever is read belongs together; return how many items there are."""
    view = index.view
    text = view.sides["text"]
    assert text.live == 2 * view.items and view.items % PIECE == 0
    assert len(text.owner) == len(text.file.rows) == text.file.count
    z = (
        np.asarray(text.file.rows[:1])
        if text.file.count
        else np.ones((1, 24), np.float32) / 24**0.5
    )
    for hit in index.near(z, of=["text"], top=5)[0]:
        kind = "t" if hit.field == "title" else "b"
        assert hit.text.split()[1][0] == kind
        assert abs(hit.cosine) <= 1.001
    return view.items


def forked(work) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that are asleep
        child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:  # noqa: BLE001
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def test_a_reader_in_another_process_sees_whole_commits(model, tmp_path):
    folder = tmp_path / "index"
    Index.create(folder, model).close()

    def write() -> None:
        with Index.open(folder, model=model, writes=True) as index:
            for again in range(3):
                index.add(item(number, again) for number in range(12 * PIECE))
            index.compact()

    seen, child = set(), forked(write)
    with Index.open(folder, model=model) as index:
        while True:
            seen.add(require_one_commit(index))
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
        assert os.waitstatus_to_exitcode(status) == 0
        assert require_one_commit(index) == 12 * PIECE
        assert index.counted(Filter.parse("again=2")) == 12 * PIECE
        assert len(index.view.sides["text"].owner) == 24 * PIECE  # what was replaced is gone
    assert len(seen) > 1


def test_a_second_writer_is_told_so(model, tmp_path):
    folder = tmp_path / "index"
    Index.create(folder, model).close()
    ready, going = os.pipe()

    def write() -> None:
        with Index.open(folder, model=model, writes=True) as index:
            index.add([item(1)])
            os.write(going, b"x")
            time.sleep(60)

    child = forked(write)
    try:
        os.read(ready, 1)
        with pytest.raises(StorageError, match="Another process is writing into"):
            Index.open(folder, model=model, writes=True)
        with Index.open(folder, model=model) as reader:
            assert len(reader) == 1
            with pytest.raises(ConfigError, match="opened for reading"):
                reader.add([item(2)])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(going)
    with Index.open(folder, model=model, writes=True) as writer:  # the lock went with the process
        assert len(writer) == 1


@pytest.mark.parametrize("engine", ["exact", "usearch"])
def test_threads_ask_while_it_is_changed(model, tmp_path, engine):
    from lift.config import part

    if engine != "exact":
        pytest.importorskip(engine)
    options = {} if engine == "exact" else {"least": 0}
    chosen = part("search/engines", engine, **options)
    failures: list[BaseException] = []
    over = threading.Event()
    with Index.create(tmp_path / "index", model, engine=chosen) as index:
        index.add(item(number) for number in range(4 * PIECE))
        index.build_engine()
        z = model.encode_texts(["word3 t0"])

        def ask() -> None:
            while not over.is_set():
                try:
                    hits = index.near(z, of=["text"], top=5, where=Filter.parse("again>=0"))[0]
                    assert len(hits) == 5 and len({hit.key for hit in hits}) == 5
                    require_one_commit(index)
                    index.facts()
                    index.browse(0, 3)
                except BaseException as error:  # noqa: BLE001
                    failures.append(error)
                    return

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for again in (1, 2):
                index.add(item(number, again) for number in range(6 * PIECE))
                index.build_engine()
            index.delete([f"k{number}" for number in range(PIECE)])
            index.compact()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not failures, failures[0]
        assert len(index) == 5 * PIECE


def test_any_order_of_changes_ends_where_a_new_index_starts(model, tmp_path):
    """Added, replaced, deleted, added again, compacted at random: equal to one made at once."""
    dice, kept = random.Random(3), {}
    with Index.create(tmp_path / "a", model) as index:
        for _ in range(25):
            what = dice.choice(["add", "add", "replace", "delete", "compact"])
            numbers = dice.sample(range(40), 9)
            if what in ("add", "replace"):
                again = dice.randrange(3)
                index.add(item(number, again) for number in numbers)
                kept |= dict.fromkeys(numbers, 0) | {number: again for number in numbers}
            elif what == "delete":
                gone = [number for number in numbers if number in kept]
                assert index.delete([f"k{number}" for number in numbers]) == len(gone)
                kept = {number: again for number, again in kept.items() if number not in gone}
            else:
                index.compact()
            assert len(index) == len(kept)
        z = model.encode_texts([f"word{number} t0" for number in range(12)])
        with Index.create(tmp_path / "b", model) as fresh:
            fresh.add(item(number, again) for number, again in kept.items())
            for where in (None, Filter.parse("again=1")):
                mine, theirs = (
                    one.near(z, of=[None] * 12, top=8, where=where) for one in (index, fresh)
                )
                assert [[(h.key, h.cosine, h.field) for h in own] for own in mine] == [
                    [(h.key, h.cosine, h.field) for h in own] for own in theirs
                ] or sorted_alike(mine, theirs)
        assert sorted(index.keys()) == sorted(f"k{number}" for number in kept)
        index.compact()
        assert index.compact() == 0


def sorted_alike(mine, theirs) -> bool:
    """Equal scores may stand in another order, because items came in another one."""
    return all(
        [hit.score for hit in a] == [hit.score for hit in b]
        and {hit.key for hit in a if hit.score > a[-1].score}
        == {hit.key for hit in b if hit.score > b[-1].score}
        for a, b in zip(mine, theirs, strict=True)
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_long_reading_leaks_no_files(model, tmp_path):
    with Index.create(tmp_path / "index", model) as index:
        index.add(item(number) for number in range(PIECE))
        open_before = len(list(Path("/proc/self/fd").iterdir()))
        for again in range(12):
            index.add(item(number, again) for number in range(PIECE))
            index.compact()
            require_one_commit(index)
        maps = Path("/proc/self/maps").read_text()
        assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 2
        assert maps.count("(deleted)") - maps.count("SYSV") < 20
