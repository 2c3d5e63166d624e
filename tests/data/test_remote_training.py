"""The real loader over shards that come from afar: the same batches, whatever the server does."""

from __future__ import annotations

import gc
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from lift.config import Part
from lift.data import _wire
from lift.data.formats import _stands
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.errors import DataError
from lift.terms import Batch
from lift.world import Worker
from misbehaving_http import MisbehavingServer, Reply, Request

SHARDS, EACH = 10, 6
SAMPLES = SHARDS * EACH
BATCH = 6
EPOCH = SAMPLES // BATCH


@pytest.fixture(autouse=True)
def tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a temporary folder of this test alone, of a name short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="lift-test-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(_wire, "_FIRST_PAUSE_S", 0.01)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def write_shards(tmp_path: Path, write_tar, picture) -> Callable[..., list[Path]]:
    """Return a maker of shards of `EACH` samples; two captions each, as large as is wanted."""

    def make(count: int = SHARDS, padding: int = 0) -> list[Path]:
        paths = []
        for shard in range(count):
            members = [("padding.bin", b"p" * padding)] if padding else []
            for place in range(EACH):
                number = shard * EACH + place
                members.append((f"{place}.png", picture(number)))
                members.append((f"{place}.txt", f"one of {number}\ntwo of {number}".encode()))
            paths.append(write_tar(tmp_path / "shards" / f"s-{shard:02d}.tar", members))
        return paths

    return make


@pytest.fixture
def local(write_shards) -> list[Path]:
    return write_shards()


@pytest.fixture
def opened(tmp_path: Path):
    def make(path: Any, **options: Any):
        options = {"path": path, "index": str(tmp_path / "index"), **options}
        return open_source(Part("data/formats", "webdataset", options))

    return make


@pytest.fixture
def loaded(stored, tmp_path: Path):
    caches: list[Any] = []

    def make(source: Any, worker: Worker | None = None, **config: Any) -> Loader:
        if not caches:
            caches.append(stored(str(tmp_path / "shards" / "*.tar")))
        config = {"batch_size": BATCH, "captions": "all", "stall_s": 60.0, **config}
        transform = Transform(resolution=16)
        return Loader(source, caches[0], transform, LoaderConfig(**config), 3, worker)

    return make


def serve(server: MisbehavingServer, paths: list[Path]) -> str:
    server.files = {path.name: path.read_bytes() for path in paths}
    return f"{server.url}/s-{{00..{len(paths) - 1:02d}}}.tar"


def seen(batches: list[Batch]) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return number, content of the image and rows of every sample shown."""
    found = []
    for batch in batches:
        assert not batch.dropped and isinstance(batch.images, torch.Tensor)
        for place, number in enumerate(batch.index.tolist()):
            rows = tuple(batch.row[batch.owner == place].tolist())
            found.append((number, zlib.crc32(batch.images[place].numpy().tobytes()), rows))
    return found


def keys_of(source: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(key, tuple(caption.text for caption in captions)) for key, captions in source.texts()]


def flaky(request: Request, before: int) -> Reply:
    """Refuse, cut off and stall, each shard in its own way, the first time and a few more."""
    if request.method == "GET" and before % 3 < 2:
        wrong = (Reply(503), Reply(cut_after=1500), Reply(stall_after=700), Reply(429))
        return wrong[(int(request.name[2:4]) + before) % 4]
    return Reply(503) if request.method == "HEAD" and before == 0 else Reply()


def test_an_epoch_from_afar_is_the_epoch_of_the_files(
    server: MisbehavingServer, local: list[Path], opened, loaded
) -> None:
    memory = fsspec.filesystem("memory")
    for path in local:
        memory.pipe(f"/far-training/{path.name}", path.read_bytes())
    near = opened([str(path) for path in local])
    expected = {}
    for url in (serve(server, local), "memory://far-training/*.tar"):
        far = opened(url)
        assert keys_of(far) == keys_of(near)
        epochs = list(loaded(far).batches(0, 2 * EPOCH))
        near.window_samples = far.window_samples
        expected = seen(list(loaded(near).batches(0, 2 * EPOCH)))
        assert seen(epochs) == expected
    near.window_samples = None
    plain = seen(list(loaded(near).batches(0, EPOCH)))
    assert sorted(plain) == sorted(expected[:SAMPLES]) != expected[:SAMPLES]
    assert len({number for number, _, _ in plain}) == SAMPLES
    memory.rm("/far-training", recursive=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers(
    server: MisbehavingServer, local: list[Path], opened, loaded, workers: int
) -> None:
    url = serve(server, local)
    alone = list(loaded(opened(url)).batches(0, EPOCH + 3))
    source = opened(url)
    several = list(loaded(source, workers=workers).batches(0, EPOCH + 3))
    for one, other in zip(alone, several, strict=True):
        for name in ("images", "texts", "owner", "row", "index"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    # Fetched once for the two openings' index, once by each for its texts, by no worker again.
    assert set(server.count().values()) == {2}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_fails_now_and_then(
    server: MisbehavingServer, write_shards, opened, loaded, workers: int
) -> None:
    """On so little disk that shards are fetched again and again."""
    paths = write_shards(padding=300_000)
    url = serve(server, paths)
    calm = seen(list(loaded(opened(url, disk_mb=1)).batches(0, EPOCH)))
    server.behave = flaky
    source = opened(url, disk_mb=1, timeout_s=0.5)
    asked = server.count().total()
    loader = loaded(source, workers=workers)
    assert seen(list(loader.batches(0, EPOCH))) == calm
    assert server.count().total() > asked + 2 * SHARDS
    assert source.counters == {"image missing": SHARDS}  # the padding


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("strict", ["skip", "stop"])
def test_a_server_that_stalls_for_ever_ends_the_run(
    server: MisbehavingServer, write_shards, opened, loaded, workers: int, strict: str
) -> None:
    """Not one sample after another: each would wait for as long as was promised."""
    source = opened(
        serve(server, write_shards(padding=300_000)), disk_mb=1, timeout_s=0.4, retries=1
    )
    # A batch lies in two shards, so that it could go on without one.
    loader = loaded(source, workers=workers, on_unreadable=strict, batch_size=EACH + 2)
    assert "after at most 0.81 s" in source.promise()
    gone = "s-04.tar"
    server.behave = lambda r, _: Reply(stall_after=5000) if r.name == gone else Reply()
    began = time.monotonic()
    with pytest.raises(
        DataError, match=rf"{server.url}/{gone} can't be read: nothing came"
    ) as told:
        list(loader.batches(0, 3 * EPOCH))
    assert time.monotonic() - began < 8
    assert "\n" not in str(told.value) and "No sample of a batch" not in str(told.value)


@pytest.mark.parametrize("far", [True, False])
def test_a_shard_that_is_another_one_ends_the_run(
    server: MisbehavingServer,
    write_shards,
    opened,
    loaded,
    far: bool,
    picture,
    write_tar,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_stands, "_MOST_OPEN", 1)
    paths = write_shards(padding=300_000)
    url = serve(server, paths)
    source = opened(url, disk_mb=1) if far else opened([str(path) for path in paths])
    loader = loaded(source)
    for path in paths:
        path.unlink()
        write_tar(path, [("other.png", picture(1)), ("other.txt", b"one of 1")])
    serve(server, paths)
    with pytest.raises(DataError, match=r"s-\d\d\.tar changed while it was"):
        list(loader.batches(0, EPOCH))


def test_texts_of_a_shard_that_does_not_come_end_the_reading(
    server: MisbehavingServer, local: list[Path], opened
) -> None:
    url = serve(server, local)
    opened(url)
    source = opened(url, timeout_s=0.3, retries=0)
    server.behave = lambda r, _: Reply(stall_after=5000) if r.name == "s-01.tar" else Reply()
    began, told = time.monotonic(), []
    with pytest.raises(DataError, match=r"s-01\.tar can't be read: nothing came"):
        for key, captions in source.texts():
            told.append((key, captions))
    assert len(told) == EACH and time.monotonic() - began < 3
    # Whoever goes on with the next sample all the same does not wait as long for each.
    began = time.monotonic()
    for number in range(EACH, 2 * EACH):
        with pytest.raises(DataError, match=r"s-01\.tar can't be read: nothing came"):
            source.read(number)
    assert time.monotonic() - began < 1.2


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_in_the_middle(
    server: MisbehavingServer, local: list[Path], opened, loaded, workers: int
) -> None:
    url = serve(server, local)
    whole = seen(list(loaded(opened(url)).batches(0, 2 * EPOCH)))
    for start in (1, EPOCH - 1, EPOCH + 3):
        again = loaded(opened(url), workers=workers)
        assert seen(list(again.batches(start, 2 * EPOCH))) == whole[start * BATCH :]


def test_ranks_are_disjoint_and_cover(
    server: MisbehavingServer, local: list[Path], opened, loaded
) -> None:
    url = serve(server, local)
    whole = seen(list(loaded(opened(url)).batches(0, EPOCH)))
    ranks = [
        seen(list(loaded(opened(url), Worker(rank, 2), workers=rank).batches(0, EPOCH)))
        for rank in range(2)
    ]
    assert not set(ranks[0]) & set(ranks[1])
    assert sorted(ranks[0] + ranks[1]) == sorted(whole) and len(whole) == SAMPLES


@pytest.mark.parametrize("workers", [0, 2])
def test_thirty_shards_on_little_disk(
    server: MisbehavingServer, write_shards, opened, loaded, tmp: Path, workers: int
) -> None:
    paths = write_shards(30, padding=200_000)
    size = paths[0].stat().st_size
    source = opened(serve(server, paths), disk_mb=1)
    loader = loaded(source, workers=workers)
    most, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            names = {
                path.name.removesuffix(".part")
                for path in tmp.glob("lift-shelf-*/*")
                if path.name.removesuffix(".part").isdigit()
            }
            most.append(len(names) * size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = server.count().total()
    try:
        epoch = seen(list(loader.batches(0, 30 * EACH // BATCH)))
    finally:
        done.set()
        watcher.join()
    assert sorted(number for number, _, _ in epoch) == list(range(30 * EACH))
    assert 0 < max(most) <= 1 << 20
    # A window holds as many shards as fit beside the next one, so none is fetched again and again.
    assert server.count().total() - before <= 45
    del loader, source
    gc.collect()
    assert not list(tmp.glob("lift-shelf-*"))


def test_an_opening_that_breaks_off_does_not_start_over(
    server: MisbehavingServer, local: list[Path], opened
) -> None:
    url = serve(server, local)
    server.behave = lambda r, _: Reply(403) if r[:2] == ("GET", "s-06.tar") else Reply()
    with pytest.raises(DataError, match=r"s-06\.tar can't be read: the server answered 403"):
        opened(url)
    server.behave = lambda *_: Reply()
    server.requests.clear()
    assert len(opened(url)) == SAMPLES
    assert set(server.count()) == {f"s-{number:02d}.tar" for number in range(6, SHARDS)}


def test_what_has_no_version_is_not_taken_from_the_index(
    server: MisbehavingServer, write_tar, tmp_path: Path, opened
) -> None:
    """A shard of as many bytes may stand there by now."""
    server.tagged = False
    for word in (b"early", b"later"):
        members = [("a.jpg", b"i"), ("a.txt", word), (f"{word.decode()}.jpg", b"i")]
        server.files = {"s.tar": write_tar(tmp_path / "s.tar", members).read_bytes()}
        source = opened(f"{server.url}/s.tar")
        assert source.read(0).captions[0].text == word.decode()
        assert source.examples == {"image without caption": f"{word.decode()} in s.tar"}
    assert server.count() == {"s.tar": 2}
