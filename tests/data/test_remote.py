from __future__ import annotations

import copy
import functools
import gc
import hashlib
import itertools
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lift.data import _shelf, _wire
from lift.data._trouble import told
from lift.data.formats._index import Spool
from lift.data.formats._paths import expand_anywhere
from lift.data.remote import Shelf, expand_url, is_url
from lift.errors import ConfigError, DataError, MissingPackage, StorageError
from misbehaving_http import MisbehavingServer, Reply, Request, made

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a temporary folder of this test alone, of a name short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="lift-test-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


def content(number: int, size: int = 50_000) -> bytes:
    return hashlib.shake_256(str(number).encode()).digest(size)


def read(shelf: Shelf, number: int) -> bytes:
    fd = shelf.fd(number)
    return os.pread(fd, os.fstat(fd).st_size, 0)


def only(method: str, *replies: Reply) -> Callable[[Request, int], Reply]:
    """Answer the first requests of a method with `replies`, the others well."""

    def behave(request: Request, before: int) -> Reply:
        wrong = request.method == method and before < len(replies)
        return replies[before] if wrong else Reply()

    return behave


def for_ever(method: str, reply: Reply) -> Callable[[Request, int], Reply]:
    return lambda request, _: reply if request.method == method else Reply()


def copies(tmp: Path) -> list[Path]:
    return [
        path for path in tmp.glob("lift-shelf-*/*") if path.name.removesuffix(".part").isdigit()
    ]


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def forked(*works: Callable[[], None]) -> None:
    """Run each in a forked process of its own, at the same time; all must end well."""

    def told(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 - told by the exit code
            traceback.print_exc()
            os._exit(1)

    running = [FORK.Process(target=told, args=(work,)) for work in works]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in running] == [0] * len(works)


@pytest.mark.parametrize(
    "path", ["http://a/b", "s3://a/b", "memory://a", "file:///a", "abfs+x://a"]
)
def test_urls(path: str) -> None:
    assert is_url(path)


@pytest.mark.parametrize(
    "path", ["a/b", "/a", r"C:\a", "C:/a", "C://a", "a::b", "", "://a", "a b://c"]
)
def test_paths_are_no_urls(path: str) -> None:
    assert not is_url(path)


def test_a_glob_becomes_urls_that_open() -> None:
    files = fsspec.filesystem("memory")
    for name in ("b", "a", "c.txt"):
        files.pipe_file(f"/globbed/{name}.tar", name.encode())
    assert expand_url("memory://globbed/?.tar") == [
        "memory://globbed/a.tar",
        "memory://globbed/b.tar",
    ]
    assert expand_url("memory://globbed/x.tar") == ["memory://globbed/x.tar"]
    shelf = Shelf(expand_url("memory://globbed/*.tar"))
    assert [read(shelf, number) for number in range(3)] == [b"a", b"b", b"c.txt"]
    with pytest.raises(DataError, match=r"No file matches memory://globbed/\*\.zip"):
        expand_url("memory://globbed/*.zip")


def test_a_glob_of_local_files(tmp_path: Path) -> None:
    (tmp_path / "x-1").write_bytes(b"one")
    urls = expand_url(f"file://{tmp_path}/x-*")
    assert urls == [f"file://{tmp_path}/x-1"]
    assert read(Shelf(urls), 0) == b"one"


def test_a_name_with_brackets(server: MisbehavingServer) -> None:
    fsspec.filesystem("memory").pipe_file("/brackets/a[1] b.tar", b"abc")
    (url,) = expand_url("memory://brackets/a[1] b.tar")
    assert read(Shelf([url]), 0) == b"abc"
    server.files = {"a%5B1%5D%20b": b"abc"}
    (url,) = expand_url(f"{server.url}/a%5B1%5D b")
    assert read(Shelf([url]), 0) == b"abc"


def test_globs_tell_no_passwords() -> None:
    with pytest.raises(DataError, match=r"No file matches memory://globbed/\*\.zip") as caught:
        expand_url("memory://me:secret@globbed/*.zip")
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="brace range") as caught:
        expand_url("https://me:secret@host/a-*.tar?key=secret")
    assert "secret" not in str(caught.value)
    for braces in ("{3..1}", "{a}"):
        with pytest.raises(DataError, match=r"https://host/") as caught:
            expand_anywhere(f"https://me:secret@host/{braces}.tar?key=secret")
        assert "secret" not in str(caught.value)


def test_a_glob_over_http_is_refused() -> None:
    with pytest.raises(DataError, match=r"brace range.*%5B"):
        expand_url("https://host/a-*.tar")
    plain = "http://[::1]:80/a.tar?version=*"
    assert expand_url(plain) == [plain]


def test_copies_equal_the_files(server: MisbehavingServer) -> None:
    contents = [content(0), b"", content(2, 3_000_000), b"x"]
    shelf = Shelf(server.put(*contents))
    assert shelf.sizes == [50_000, 0, 3_000_000, 1]
    assert all(shelf.tags) and len(set(shelf.tags)) == 4
    assert [read(shelf, number) for number in (3, 2, 1, 0, 3)] == [
        contents[i] for i in (3, 2, 1, 0, 3)
    ]
    assert read(shelf, -1) == b"x"
    assert set(server.count().values()) == {1} and set(server.count("HEAD").values()) == {1}
    with pytest.raises(IndexError):
        shelf.fd(4)


def test_copies_from_memory() -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/copied/a", content(1, 3_000_000))
    shelf = Shelf(["memory://copied/a"])
    assert read(shelf, 0) == content(1, 3_000_000)
    assert shelf.tags[0]


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_server_that_recovers(server: MisbehavingServer, status: int) -> None:
    urls = server.put(content(0))
    server.behave = only("GET", Reply(status), Reply(status))
    assert read(Shelf(urls), 0) == content(0)
    assert server.count() == {"0.bin": 3}


def test_a_server_that_does_not_know_sizes_at_first(server: MisbehavingServer) -> None:
    urls = server.put(content(0))
    # fsspec asks by GET where HEAD failed.
    server.behave = lambda request, before: Reply(503) if len(server.requests) <= 4 else Reply()
    assert Shelf(urls).sizes == [50_000]
    assert len(server.requests) == 5


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("wrong", [Reply(cut_after=20_000), Reply(stall_after=20_000)])
def test_it_goes_on_where_it_broke(server: MisbehavingServer, wrong: Reply, tagged: bool) -> None:
    urls = server.put(content(0))
    server.tagged = tagged
    server.behave = only("GET", wrong, wrong)
    assert read(Shelf(urls, timeout_s=0.5), 0) == content(0)
    asked = [request.range for request in server.requests if request.method == "GET"]
    assert asked == [None, "bytes=20000-", "bytes=40000-"]


def test_it_starts_anew_without_ranges(server: MisbehavingServer) -> None:
    urls = server.put(content(0))
    server.ranges = False
    server.behave = only("GET", Reply(cut_after=20_000), Reply(cut_after=10_000))
    assert read(Shelf(urls), 0) == content(0)
    assert server.count() == {"0.bin": 3}


def test_another_range_than_asked_for_is_not_taken(server: MisbehavingServer) -> None:
    urls = server.put(content(0))
    lie = Reply(headers={"Content-Range": "bytes 0-49999/50000"})
    server.behave = only("GET", Reply(cut_after=20_000), lie)
    assert read(Shelf(urls), 0) == content(0)
    assert server.count() == {"0.bin": 3}


def test_nothing_asked_for_after_the_end(server: MisbehavingServer) -> None:
    """A server that refuses the range gets asked for the whole file."""
    urls = server.put(content(0))
    server.behave = only("GET", Reply(cut_after=20_000), Reply(416))
    assert read(Shelf(urls), 0) == content(0)


def test_a_cut_off_that_stays_is_told(server: MisbehavingServer, tmp: Path) -> None:
    urls = server.put(content(0), content(1))
    server.ranges = False
    server.behave = lambda request, _: (
        Reply(cut_after=20_000) if request[:2] == ("GET", "0.bin") else Reply()
    )
    shelf = Shelf(urls, retries=2)
    with pytest.raises(
        DataError, match=r"http://127.*/0\.bin can't be read: .*\(3 tries in 0\.\d s\)"
    ):
        shelf.fd(0)
    assert server.count() == {"0.bin": 3}
    assert copies(tmp) == []
    assert read(shelf, 1) == content(1)


@pytest.mark.parametrize("ranges", [True, False])
def test_tries_are_counted_from_the_last_progress(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    """A line that breaks every few hundred megabytes still brings a large file."""
    monkeypatch.setattr(_wire, "_PROGRESS", 10_000)
    urls = server.put(content(0))
    server.ranges = ranges
    server.behave = for_ever("GET", Reply(cut_after=10_000))
    shelf = Shelf(urls, retries=2)
    if ranges:
        assert read(shelf, 0) == content(0)
        assert server.count() == {"0.bin": 5}
    else:  # it never gets further
        with pytest.raises(DataError, match=r"can't be read"):
            shelf.fd(0)
        assert server.count() == {"0.bin": 3}


@pytest.mark.parametrize("after", [-1, 0, 30_000])
def test_a_stall_ends_within_timeout_times_tries(server: MisbehavingServer, after: int) -> None:
    urls = server.put(content(0))
    server.ranges = False
    server.behave = for_ever("GET", Reply(stall_after=after))
    shelf = Shelf(urls, timeout_s=0.5, retries=2)
    assert shelf.sizes
    began = time.monotonic()
    with pytest.raises(DataError, match=r"0\.bin can't be read: nothing came for 0\.5 s \(3 tries"):
        shelf.fd(0)
    assert 1.5 < time.monotonic() - began < 2.5


def test_a_stall_when_asked_for_sizes(server: MisbehavingServer) -> None:
    urls = server.put(*map(content, range(20)))
    server.behave = lambda request, _: Reply(stall_after=-1) if request.name == "7.bin" else Reply()
    began = time.monotonic()
    with pytest.raises(DataError, match=r"7\.bin can't be read: nothing came for 0\.5 s \(2 tries"):
        _ = Shelf(urls, timeout_s=0.5, retries=1).sizes
    assert time.monotonic() - began < 2


def test_a_drip_counts_as_a_stall(server: MisbehavingServer) -> None:
    urls = server.put(content(0))
    server.behave = for_ever("GET", Reply(drip=0.1))
    began = time.monotonic()
    with pytest.raises(DataError, match=r"only \d+ bytes came in \d s \(2 tries"):
        Shelf(urls, timeout_s=0.5, retries=1).fd(0)
    assert time.monotonic() - began < 4


def test_a_driver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeout of a driver is needed: here it sleeps through everything."""
    files = fsspec.filesystem("memory")
    files.pipe_file("/hanging/a", b"abc")
    shelf = Shelf(["memory://hanging/a"], timeout_s=0.2, retries=1)
    assert shelf.sizes == [3]
    free = threading.Event()
    kind = type(files.open("/hanging/a"))
    monkeypatch.setattr(kind, "read", lambda *_: free.wait() and b"", raising=False)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"nothing came for 0\.2 s \(2 tries"):
        shelf.fd(0)
    assert time.monotonic() - began < 1
    free.set()


def test_nobody_listens(server: MisbehavingServer) -> None:
    with pytest.raises(DataError, match=r"127\.0\.0\.1:1/a can't be read: Client.*\(2 tries"):
        _ = Shelf(["http://127.0.0.1:1/a"], retries=1).sizes


@pytest.mark.parametrize("claim", [40_000, 60_000])
def test_a_wrong_length_is_tried_again(server: MisbehavingServer, claim: int) -> None:
    urls = server.put(content(0))
    server.ranges = False
    server.behave = only("GET", Reply(claim=claim), Reply(claim=claim))
    assert read(Shelf(urls), 0) == content(0)
    server.requests.clear()
    server.behave = for_ever("GET", Reply(claim=claim))
    with pytest.raises(DataError, match=r"50,000.*\(3 tries"):
        Shelf(urls, retries=2).fd(0)


def test_the_pauses_grow(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(_wire, "_LONGEST_PAUSE_S", 0.3)
    urls = server.put(content(0))
    server.behave = for_ever("GET", Reply(503))
    with pytest.raises(DataError, match="the server answered 503 Service Unavailable"):
        Shelf(urls).fd(0)
    times = [request.time for request in server.requests if request.method == "GET"]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert [round(pause, 1) for pause in pauses] == [0.1, 0.2, 0.3, 0.3]


@pytest.mark.parametrize("status", [404, 403, 401, 410])
def test_what_is_refused_is_not_asked_for_again(server: MisbehavingServer, status: int) -> None:
    urls = server.put(content(0))
    server.behave = for_ever("GET", Reply(status))
    with pytest.raises(
        DataError, match=rf"0\.bin can't be read: .*(no such file|{status}).*\(1 try"
    ):
        Shelf(urls).fd(0)
    assert server.count() == {"0.bin": 1}
    server.behave = lambda *_: Reply(status)
    with pytest.raises(DataError, match=rf"0\.bin can't be read: the server answered {status}"):
        _ = Shelf(urls).sizes


def test_what_is_missing_in_memory_is_not_asked_for_again() -> None:
    with pytest.raises(
        DataError, match=r"memory://no/such can't be read: there is no such file \(1 try"
    ):
        _ = Shelf(["memory://no/such"]).sizes
    fsspec.filesystem("memory").pipe_file("/folder/a", b"")
    with pytest.raises(DataError, match="is a folder"):
        _ = Shelf(["memory://folder"]).sizes


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("size", [50_000, 60_000, 30_000])
def test_a_changed_file_is_told(server: MisbehavingServer, size: int, tagged: bool) -> None:
    server.tagged = tagged
    if size == 50_000 and not tagged:
        return  # nothing tells it
    urls = server.put(content(0))
    shelf = Shelf(urls)
    assert shelf.sizes == [50_000]
    server.put(content(1, size))
    with pytest.raises(DataError, match=rf"0\.bin changed .* 50,000 bytes .* {size:,} bytes"):
        shelf.fd(0)


def test_a_file_that_changes_while_it_comes(server: MisbehavingServer) -> None:
    urls = server.put(content(0))

    def behave(request: Request, before: int) -> Reply:
        if request.method == "GET" and before:
            server.put(content(1))
        return Reply(cut_after=20_000) if request.method == "GET" else Reply()

    server.behave = behave
    with pytest.raises(DataError, match="changed"):
        Shelf(urls).fd(0)


@pytest.mark.parametrize("size", [10, 5, 20])
def test_a_changed_file_in_memory_is_told(size: int) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/changing/a", content(0, 10))
    shelf = Shelf(["memory://changing/a"])
    assert shelf.sizes == [10]
    files.pipe_file("/changing/a", content(1, size))
    with pytest.raises(DataError, match="changed"):
        shelf.fd(0)


def test_an_unknown_size_is_refused(server: MisbehavingServer) -> None:
    urls = server.put(content(0))
    server.behave = lambda *_: Reply(headers={"Content-Encoding": "gzip"})
    with pytest.raises(DataError, match="does not say how many bytes"):
        _ = Shelf(urls).sizes


def test_passwords_and_signatures_are_not_told() -> None:
    url = "http://me:secret@127.0.0.1:1/a?Signature=secret"
    with pytest.raises(DataError) as raised:
        _ = Shelf([url], retries=0).sizes
    assert "secret" not in str(raised.value) and "127.0.0.1:1/a?..." in str(raised.value)


@pytest.mark.parametrize(
    "words",
    [
        "no way to https://host/a%20b?Signature=secret in 3 s",
        "https://me:secret@host/a refused",
        "0, message='', url='http://host/a?b=secret&c'",
    ],
)
def test_what_drivers_say_is_cleaned(words: str) -> None:
    said = told(ValueError(words), "https://host/a b?Signature=secret", 1.0)
    assert "secret" not in said and "://host/a" in said


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "aiohttp" else find(n))
    with pytest.raises(MissingPackage, match=r"aiohttp.*lift-align\[remote\]"):
        _ = Shelf(["https://a/b"]).sizes
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingPackage, match=r"s3:// needs .*s3fs.*remote"):
        _ = Shelf(["s3://a/b"]).sizes
    with pytest.raises(ConfigError, match="nonsense://a is no address"):
        _ = Shelf(["nonsense://a"]).sizes


def test_limits_that_make_no_sense() -> None:
    for wrong in ({"timeout_s": 0}, {"retries": -1}, {"disk_mb": 0}):
        with pytest.raises(ConfigError, match="must be"):
            Shelf([], **wrong)


def test_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_FIRST_PAUSE_S", 0.5)
    told = Shelf([], timeout_s=30, retries=4).promise()
    assert "Copies" not in told
    assert "30 s" in told and "4 times" in told and "after at most 157.5 s" in told


def test_forked_processes_fetch_each_file_once(server: MisbehavingServer) -> None:
    contents = [content(number) for number in range(20)]
    shelf = Shelf(server.put(*contents))
    assert read(shelf, 0) == contents[0]  # the parent has used its connections
    server.behave = lambda *_: Reply(wait=0.02)

    def work(first: int) -> None:
        for number in range(20):
            number = (first * 3 + number) % 20
            assert read(shelf, number) == contents[number]

    forked(*(functools.partial(work, first) for first in range(4)))
    assert set(server.count().values()) == {1} and len(server.count()) == 20
    assert set(server.count("HEAD").values()) == {1}
    assert read(shelf, 19) == contents[19]
    assert server.count()["19.bin"] == 1


def test_forks_while_the_parent_fetches(server: MisbehavingServer) -> None:
    """Locks, connections and threads of the moment of the fork don't matter."""
    contents = [content(number) for number in range(12)]
    shelf = Shelf(server.put(*contents))
    server.behave = for_ever("GET", Reply(wait=0.05))
    assert shelf.sizes
    shelf.ahead(range(12))

    def work() -> None:
        for number in reversed(range(12)):
            assert read(shelf, number) == contents[number]
        shelf.ahead([0])

    for _ in range(4):
        forked(work)
    assert set(server.count().values()) == {1}


def test_what_the_parent_dropped_does_not_hold_up_its_children(server: MisbehavingServer) -> None:
    """fsspec closes file systems when they are collected, and waits for their event loop."""
    urls = server.put(content(0))
    gc.disable()
    try:
        for _ in range(3):
            shelf = Shelf(urls)
            assert read(shelf, 0) == content(0)
            del shelf  # file systems are cycles, so they stay until the child collects them

        def work() -> None:
            began = time.monotonic()
            gc.collect()
            assert read(Shelf(urls), 0) == content(0)
            spent = time.monotonic() - began
            gc.collect()  # in a large process this alone takes a second
            assert spent < 0.9 + 3 * (time.monotonic() - began - spent)

        forked(work)
    finally:
        gc.enable()


def test_a_child_waits_for_its_parent_no_longer_than_promised(server: MisbehavingServer) -> None:
    """All who wait for a file get the reason of the one that tried."""
    shelf = Shelf(server.put(content(0)), timeout_s=0.5, retries=1)
    assert shelf.sizes
    server.behave = for_ever("GET", Reply(stall_after=100))

    def work() -> None:
        began = time.monotonic()
        with pytest.raises(DataError, match="nothing came for"):
            shelf.fd(0)
        assert time.monotonic() - began < 2

    forked(*[work] * 4)
    assert server.count()["0.bin"] == 2


def test_a_killed_fetcher_is_replaced(server: MisbehavingServer, tmp: Path) -> None:
    shelf = Shelf(server.put(content(0)))
    assert shelf.sizes
    server.behave = only("GET", Reply(stall_after=100))
    child = FORK.Process(target=shelf.fd, args=(0,))
    child.start()
    until(lambda: server.count().total() == 1)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert [path.name for path in copies(tmp)] == ["0.part"]
    assert read(shelf, 0) == content(0)


def test_waiting_for_a_stopped_fetcher_ends(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(server.put(content(0)), timeout_s=5)
    server.behave = for_ever("GET", Reply(stall_after=100))
    assert shelf.sizes
    child = FORK.Process(target=shelf.fd, args=(0,))
    child.start()
    until(lambda: server.count().total() == 1)
    os.kill(child.pid or 0, signal.SIGSTOP)
    room = shelf._room(shelf._here())
    monkeypatch.setattr(room, "_patience_s", 0.3)
    with pytest.raises(DataError, match="got nothing done for"):
        shelf.fd(0)
    child.kill()
    child.join()


def test_the_disk_is_bounded(server: MisbehavingServer, tmp: Path) -> None:
    contents = [content(number, 300_000) for number in range(30)]
    shelf = Shelf(server.put(*contents), disk_mb=1)
    first = os.dup(shelf.fd(0))
    most = 0
    for number in [*range(30), 29, 28]:
        assert read(shelf, number) == contents[number]
        most = max(most, sum(path.stat().st_size for path in copies(tmp)))
    assert 800_000 < most <= 1 << 20
    assert sum(server.count().values()) == 30
    assert os.pread(first, 300_000, 0) == contents[0]  # removed, and still readable
    assert os.fstat(first).st_nlink == 0
    os.close(first)
    # What is removed does not stay on the disk because it is open.
    held = shelf._here().opened
    shelf._here().looked = 0.0
    shelf.fd(29)
    assert len(held) <= 4
    assert read(shelf, 0) == contents[0]
    assert server.count()["0.bin"] == 2


def test_a_file_larger_than_the_disk_bound(server: MisbehavingServer, tmp: Path) -> None:
    shelf = Shelf(server.put(content(0), content(1, 1_500_000)), disk_mb=1)
    for number in (0, 1, 0):
        assert read(shelf, number) == content(number, shelf.sizes[number])
        assert len(copies(tmp)) == 1


def test_the_least_recently_used_go_first(server: MisbehavingServer, tmp: Path) -> None:
    shelf = Shelf(server.put(*(content(n, 300_000) for n in range(5))), disk_mb=1)
    for number in (0, 1, 2, 0, 3, 0, 4):
        shelf.fd(number)
    assert sorted(path.name for path in copies(tmp)) == ["0", "3", "4"]


def test_processes_share_the_bound(server: MisbehavingServer, tmp: Path) -> None:
    contents = [content(number, 200_000) for number in range(12)]
    shelf = Shelf(server.put(*contents), disk_mb=1)
    assert shelf.sizes
    over = []

    def watch() -> None:
        while not done.is_set():
            names = {path.name.removesuffix(".part") for path in copies(tmp)}
            over.append(200_000 * len(names))
            time.sleep(0.002)

    def work(seed: int) -> None:
        for number in range(24):
            number = (number * 5 + seed) % 12
            assert read(shelf, number) == contents[number]

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        forked(*(functools.partial(work, seed) for seed in (0, 1, 2)))
    finally:
        done.set()
        watcher.join()
    assert 800_000 <= max(over) <= 1 << 20


def test_a_full_disk(server: MisbehavingServer, full_disk: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    shelf = Shelf(server.put(content(0, 2_000_000)))
    with pytest.raises(
        StorageError, match=r"0\.bin \(2,000,000 bytes\) .*: .*No space left.*TMPDIR"
    ):
        shelf.fd(0)
    assert server.count() == {"0.bin": 1}


def test_no_folder_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    for make in (lambda: Shelf(["memory://a"]), Spool):
        with pytest.raises(StorageError, match=r"temporary files can be written .*TMPDIR"):
            make()


def test_a_disk_smaller_than_what_copies_may_take(
    server: MisbehavingServer, full_disk: Path, monkeypatch: Any
) -> None:
    """The temporary folder of a container has less than the usual 4 GB; old copies go earlier."""
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    contents = [content(number, 200_000) for number in range(12)]
    shelf = Shelf(server.put(*contents), disk_mb=4096)
    assert f"Copies take at most 0 MB, since {full_disk} has no" in shelf.promise()
    shelf.ahead([11, 10])
    for number in range(12):
        assert read(shelf, number) == contents[number]
        shelf._here().looked = 0.0


def test_fetching_ahead(server: MisbehavingServer, tmp: Path) -> None:
    contents = [content(number, 200_000) for number in range(10)]
    shelf = Shelf(server.put(*contents), disk_mb=1)
    assert read(shelf, 0) == contents[0]
    shelf.ahead([3, 1, 2])
    until(lambda: server.count().total() == 4 and shelf._here().thread is None)
    order = [request.name for request in server.requests if request.method == "GET"]
    assert order == ["0.bin", "3.bin", "1.bin", "2.bin"]
    assert read(shelf, 1) == contents[1]
    assert server.count()["1.bin"] == 1
    # No more than fits beside the file in hand, and what waits for its first use stays.
    shelf.ahead([4, 5, 6, 7, 8, 9])
    until(lambda: server.count().total() == 5)
    time.sleep(0.1)
    assert sorted(path.name for path in copies(tmp)) == ["0", "1", "2", "3", "4"]


def test_idle_copies_make_room_for_wishes(server: MisbehavingServer, monkeypatch: Any) -> None:
    contents = [content(number, 200_000) for number in range(10)]
    shelf = Shelf(server.put(*contents), disk_mb=1)
    for number in range(5):
        shelf.fd(number)
    shelf.ahead([5, 6])
    time.sleep(0.2)
    assert server.count().total() == 5  # those were in use just now
    monkeypatch.setattr(_shelf, "_BUSY_S", 0.0)
    until(lambda: server.count().total() == 7)
    until(lambda: shelf._here().thread is None)
    for number in (5, 6, 4, 3, 2):
        assert read(shelf, number) == contents[number]
    assert server.count().total() == 7


def test_a_new_wish_replaces_the_old(server: MisbehavingServer) -> None:
    shelf = Shelf(server.put(*map(content, range(10))))
    assert shelf.sizes
    server.behave = for_ever("GET", Reply(wait=0.1))
    shelf.ahead(range(8))
    until(lambda: server.count().total() == 1)
    shelf.ahead([9, 8])
    until(lambda: server.count().total() == 3 and shelf._here().thread is None)
    order = [request.name for request in server.requests if request.method == "GET"]
    assert order == ["0.bin", "9.bin", "8.bin"]


def test_what_fails_ahead_is_told_when_it_is_needed(server: MisbehavingServer) -> None:
    shelf = Shelf(server.put(content(0), content(1)), retries=0)
    assert shelf.sizes
    server.behave = lambda request, _: Reply(503) if request.name == "0.bin" else Reply()
    shelf.ahead([0, 1])
    until(lambda: shelf._here().thread is None)
    assert server.count() == {"0.bin": 1, "1.bin": 1}
    with pytest.raises(DataError, match="503"):
        shelf.fd(0)
    server.behave = lambda *_: Reply()
    assert read(shelf, 0) == content(0)


def test_the_folder_goes_with_the_last_copy_of_its_shelf(
    server: MisbehavingServer, tmp: Path
) -> None:
    shelf = Shelf(server.put(content(0)))
    another = copy.deepcopy(shelf)
    assert read(shelf, 0) == content(0)
    open_before = len(os.listdir("/proc/self/fd"))
    del shelf
    assert len(list(tmp.iterdir())) == 1
    assert read(another, 0) == content(0)
    assert server.count()["0.bin"] == 1
    del another
    assert list(tmp.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) < open_before


USER = """
import os, pickle, sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from lift.data.remote import Shelf
if sys.argv[2] == "copy":
    shelf = pickle.loads(bytes.fromhex(sys.stdin.read()))
else:
    shelf = Shelf(sys.argv[3:])
if sys.argv[2] == "ahead":
    shelf.ahead([1])
    time.sleep(0.5)
fd = shelf.fd(0)
print(len(os.pread(fd, 1 << 20, 0)), flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


def user(tmp: Path, *words: str, said: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(tmp), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(said)
    process.stdin.close()
    assert process.stdout.readline() == "50000\n"
    return process


def ended(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(30)


def test_a_process_that_ends_leaves_nothing(server: MisbehavingServer, tmp: Path) -> None:
    (url,) = server.put(content(0))
    assert ended(user(tmp, "end", url)) == 0
    assert list(tmp.iterdir()) == []


def test_a_shelf_that_was_not_used_yet_is_no_leftover(tmp: Path) -> None:
    shelves = [Shelf([]), Shelf([])]
    assert len(list(tmp.iterdir())) == len(shelves)


def test_what_a_killed_fetcher_left_takes_no_room(server: MisbehavingServer, tmp: Path) -> None:
    shelf = Shelf(server.put(content(0, 900_000), content(1, 500_000)), disk_mb=1)
    server.behave = only("GET", Reply(stall_after=100))
    assert shelf.sizes
    child = FORK.Process(target=shelf.fd, args=(0,))
    child.start()
    until(lambda: server.count().total() == 1)
    child.kill()
    child.join()
    server.behave = lambda *_: Reply()
    assert read(shelf, 1) == content(1, 500_000)
    assert [path.name for path in copies(tmp)] == ["1"]


def test_a_process_ends_while_it_fetches_ahead(server: MisbehavingServer, tmp: Path) -> None:
    urls = server.put(content(0), content(1))
    stalled = Reply(stall_after=100)
    server.behave = lambda r, _: stalled if r[:2] == ("GET", "1.bin") else Reply()
    process = user(tmp, "ahead", *urls)
    assert server.count()["1.bin"] == 1
    began = time.monotonic()
    assert ended(process) == 0
    assert time.monotonic() - began < 5
    assert list(tmp.iterdir()) == []


def test_a_date_as_tag(server: MisbehavingServer) -> None:
    urls = server.put(content(0))
    server.tagged = False
    date = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    server.behave = lambda *_: Reply(headers=date)
    shelf = Shelf([*urls, *urls])
    assert shelf.tags == [date["Last-Modified"]] * 2
    assert read(shelf, 0) == content(0)
    server.behave = lambda *_: Reply(headers={"Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"})
    with pytest.raises(DataError, match="changed"):
        shelf.fd(1)


def test_what_a_killed_process_left_goes_at_the_next_start(
    server: MisbehavingServer, tmp: Path
) -> None:
    (url,) = server.put(content(0))
    alive, killed = user(tmp, "wait", url), user(tmp, "wait", url)
    foreign = tmp / "lift-shelf-999999999-x"
    foreign.symlink_to(tmp.parent)
    killed.kill()
    ended(killed)
    assert len(list(tmp.glob("lift-shelf-*/0"))) == 2
    shelf = Shelf([url])
    left = {path.name.split("-")[2] for path in tmp.glob("lift-shelf-*")}
    assert left == {str(os.getpid()), str(alive.pid), "999999999"}
    assert tmp.parent.exists()
    assert read(shelf, 0) == content(0)
    alive.kill()
    ended(alive)


def test_a_spawned_process_uses_the_same_folder(server: MisbehavingServer, tmp: Path) -> None:
    shelf = Shelf(server.put(content(0)))
    assert shelf.sizes
    assert ended(user(tmp, "copy", said=pickle.dumps(shelf).hex())) == 0
    assert len(list(tmp.iterdir())) == 1
    assert read(shelf, 0) == content(0)
    assert server.count() == {"0.bin": 1}
    # One that comes too late for the folder makes its own.
    said = pickle.dumps(shelf).hex()
    del shelf
    assert list(tmp.iterdir()) == []
    assert ended(user(tmp, "copy", said=said)) == 0
    assert list(tmp.iterdir()) == []


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def test_memory_does_not_grow_with_the_file(server: MisbehavingServer) -> None:
    size = 100_000_000
    server.files |= {"small": 2_000_000, "large": size}
    shelf = Shelf([f"{server.url}/small", f"{server.url}/large"])

    def work() -> None:
        shelf.fd(0)
        before, most = anonymous(), 0
        fetching = threading.Thread(target=shelf.fd, args=(1,))
        fetching.start()
        while fetching.is_alive():
            most = max(most, anonymous())
            time.sleep(0.005)
        assert most - before < 16_000_000
        fd, at = shelf.fd(1), 0
        for piece in made(size):
            assert os.pread(fd, len(piece), at) == piece
            at += len(piece)
        assert at == size == os.fstat(fd).st_size

    forked(work)
