"""A cache behind a URL is the cache that would lie in a folder."""

from __future__ import annotations

import pickle
import uuid

import fsspec
import numpy as np
import pytest

from lift.cache.audit import audit
from lift.cache.place import LocalPlace, RemotePlace, place_of
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.errors import CacheError, ConfigError, MissingPackage, StorageError
from lift.text.roles import Linked


@pytest.fixture
def url() -> str:
    return f"memory://tests/{uuid.uuid4().hex}"


def content(url: str) -> dict[str, bytes]:
    files = fsspec.filesystem("memory")
    root = "/" + url.removeprefix("memory://")
    return {path.removeprefix(root + "/"): files.cat_file(path) for path in files.find(root)}


def linked(captions: list[str]) -> list[Linked]:
    return [Linked(text, key=f"{i % 7}.jpg") for i, text in enumerate(captions)]


@pytest.mark.parametrize("parts", [1, 2])
def test_the_same_files_as_in_a_folder(tmp_path, url, encoder, captions, parts):
    for where in (tmp_path / "c", url):
        for number in range(parts):
            embed(
                linked(captions),
                encoder,
                where,
                part=(number, parts),
                rows_per_shard=16,
                progress=False,
            )
    there = {p.relative_to(tmp_path / "c").as_posix(): p for p in (tmp_path / "c").rglob("*")}
    expected = {n: p.read_bytes() for n, p in there.items() if p.is_file() and p.name != ".lock"}
    assert content(url) == expected
    cache = EmbeddingCache.open(url, verify=True)
    np.testing.assert_array_equal(
        cache.take(cache.require(captions)),
        EmbeddingCache.open(tmp_path / "c").take(cache.require(captions)),
    )
    assert audit(url, captions=captions, encoder=encoder).ok
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again.take([3]), cache.take([3]))


def test_resumes_after_a_kill(url, encoder, captions):
    embed(captions, encoder, url, rows_per_shard=16, progress=False)
    whole, files = content(url), fsspec.filesystem("memory")
    root = "/" + url.removeprefix("memory://")
    files.rm(f"{root}/manifest.json")
    files.rm(f"{root}/shard-00003.arrow")
    # What a killed upload may leave where objects do not appear whole.
    files.pipe(f"{root}/shard-00002.arrow", whole["shard-00002.arrow"][:500])
    report = embed(captions, encoder, url, rows_per_shard=16, progress=False)
    assert (report.stored, report.embedded) == (32, 28)
    assert content(url) == whole


def test_damage_is_told(url, encoder, captions):
    embed(captions, encoder, url, rows_per_shard=16, progress=False)
    root = "/" + url.removeprefix("memory://")
    files = fsspec.filesystem("memory")
    files.pipe(f"{root}/shard-00001.arrow", content(url)["shard-00001.arrow"][:500])
    with pytest.raises(CacheError, match=r"shard-00001\.arrow has 500 bytes"):
        EmbeddingCache.open(url)
    with pytest.raises(CacheError, match="There is no cache in memory://tests/nowhere"):
        EmbeddingCache.open("memory://tests/nowhere")


def test_one_machine_has_one_writer(url):
    with place_of(url).held():
        with pytest.raises(StorageError, match=f"Another process is writing into {url}"):
            with place_of(url).held():
                pass
    with place_of(url).held():
        pass


def test_addresses(tmp_path):
    assert isinstance(place_of(tmp_path), LocalPlace)
    assert isinstance(place_of("some/folder"), LocalPlace)
    local = place_of(f"file://{tmp_path}/c")
    assert isinstance(local, LocalPlace) and local.folder == tmp_path / "c"
    assert isinstance(place_of("memory://x"), RemotePlace)
    with pytest.raises(ConfigError, match=r"'nowhere://x' is no address"):
        place_of("nowhere://x")
    with pytest.raises(MissingPackage, match=r"s3:// needs a package"):
        place_of("s3://bucket/captions")


def test_what_a_server_refuses_is_one_sentence(url, encoder, captions, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("403: not yours")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", refused)
    with pytest.raises(StorageError, match=rf"Can't write {url}: 403: not yours\."):
        embed(captions, encoder, url, progress=False)
    assert content(url) == {}
