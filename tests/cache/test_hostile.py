"""What a hostile reading of the cache found, and what now stands against each."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import shutil
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

from lift.cache import probes
from lift.cache.audit import audit
from lift.cache.manifest import read_manifest, write_manifest
from lift.cache.place import place_of
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.errors import CacheError, ConfigError, DataError, SpaceMismatch, StorageError
from lift.text.encoders.hashing import Config, HashingEncoder
from lift.text.roles import Linked

V1 = Path(__file__).parents[1] / "fixtures" / "cache-v1"


class Other(HashingEncoder):
    """Claims the space of its options; its rows are changed by a function."""

    def __init__(self, change, **options):
        super().__init__(Config(**options))
        self.change = change

    def encode(self, texts, **options):
        found = super().encode(texts)
        return dataclasses.replace(found, rows=self.change(found.rows).astype(np.float32))


def rolled(rows: np.ndarray) -> np.ndarray:
    return np.roll(rows, 1, axis=1)


def test_parts_that_start_together_hold_each_other(tmp_path, captions, monkeypatch):
    """The second finds no probes, makes its own, loses the race, and still has to compare."""
    good = HashingEncoder(Config(dimensions=24))
    embed(captions, good, tmp_path / "c", part=(0, 2), progress=False)
    asked: list[object] = []
    real = probes.read

    def late(place, space):
        asked.append(place)
        return None if len(asked) == 1 else real(place, space)

    monkeypatch.setattr(probes, "read", late)
    with pytest.raises(SpaceMismatch, match="does not make the rows any more"):
        embed(captions, Other(rolled, dimensions=24), tmp_path / "c", part=(1, 2), progress=False)
    assert not list((tmp_path / "c").rglob("part-2-of-2/shard-*"))


@pytest.mark.parametrize("name", ["../../victim.txt", "/etc/passwd", "shard-00001.arrow", "x"])
def test_a_manifest_names_no_file_of_others(tmp_path, encoder, captions, name):
    embed(captions, encoder, tmp_path / "c", progress=False)
    manifest = read_manifest(place_of(tmp_path / "c"))
    shards = (dataclasses.replace(manifest.shards[0], file=name),)
    write_manifest(place_of(tmp_path / "c"), dataclasses.replace(manifest, shards=shards))
    with pytest.raises(CacheError, match=r"where shard-00000\.arrow belongs"):
        EmbeddingCache.open(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": "\udce9.jpg"}, r"The key of caption 3 is not valid Unicode"),
        ({"key": 7}, "The key of caption 3 is not text: 7"),
        ({"role": "\udce9"}, "The role of caption 3 is not valid Unicode"),
        ({"weight": float("nan")}, r"The weight of caption 3 \('c'\) is nan"),
        ({"weight": -1.0}, "0 or more"),
    ],
)
def test_what_can_not_be_stored_is_told_first(tmp_path, encoder, change, sentence):
    items = [Linked(text, f"{text}.jpg") for text in "abc"]
    items[2] = items[2]._replace(**change)
    with pytest.raises(DataError, match=sentence):
        embed(items, encoder, tmp_path / "c", progress=False)
    assert not list((tmp_path / "c").glob("shard-*"))


def test_a_wrong_part_leaves_no_trace(tmp_path, encoder, captions):
    for number in range(2):
        embed(captions, encoder, tmp_path / "c", part=(number, 2), progress=False)
    with pytest.raises(CacheError, match="created with parts 2, not 3"):
        embed(captions, encoder, tmp_path / "c", part=(0, 3), progress=False)
    assert not (tmp_path / "c" / "part-1-of-3").exists()
    (tmp_path / "c" / "part-1-of-3").mkdir()  # nor is an empty folder anybody's part
    assert len(EmbeddingCache.open(tmp_path / "c")) == 60


@pytest.mark.parametrize("parts", [1, 2])
def test_an_edited_plan_is_noticed(tmp_path, encoder, captions, parts):
    for number in range(parts):
        embed(captions[:30], encoder, tmp_path / "c", part=(number, parts), progress=False)
    path = tmp_path / "c" / "plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "threads": 7}))
    with pytest.raises(CacheError, match="another plan than"):
        embed(captions, encoder, tmp_path / "c", part=(0, parts), progress=False)
    with pytest.raises(CacheError, match=r"plan\.json"):
        EmbeddingCache.open(tmp_path / "c")
    for name in ("parts", "threads", "block", "rows_per_shard", "token_budget"):
        path.write_text(json.dumps({**plan, name: 0}))
        with pytest.raises(CacheError, match=f"{name} is 0, and has to be positive"):
            EmbeddingCache.open(tmp_path / "c")


def test_files_that_go_up_do_not_stay_here(encoder, captions, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = f"memory://tests/{uuid.uuid4().hex}"
    items = [Linked(text, "1.jpg") for text in captions]
    embed(items, encoder, url, rows_per_shard=8, progress=False)
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_forked_process_asks_nothing_that_it_has(encoder, captions, monkeypatch):
    url = f"memory://tests/{uuid.uuid4().hex}"
    embed(captions, encoder, url, progress=False)
    cache = EmbeddingCache.open(url)
    rows = cache.take([3, 5])

    def gone(*_: object, **__: object) -> None:
        raise RuntimeError("This class is not fork-safe")

    for name in ("info", "ls", "get_file", "cat_file"):
        monkeypatch.setattr(type(fsspec.filesystem("memory")), name, gone)
    np.testing.assert_array_equal(cache.take([3, 5]), rows)


def test_errors_of_a_store_are_sentences(encoder, captions, monkeypatch):
    url = f"memory://tests/{uuid.uuid4().hex}"

    class NoCredentials(Exception):
        pass

    for error in (NoCredentials("Unable to locate credentials"), FileNotFoundError("no bucket")):

        def refused(*_: object, error=error, **__: object) -> None:
            raise error

        monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", refused)
        with pytest.raises(StorageError, match=rf"Can't write {url}: {error}"):
            embed(captions, encoder, url, progress=False)


def test_a_row_of_zeros_is_itself(tmp_path, captions):
    def without(rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows[3] = 0
        return rows

    encoder = Other(without, dimensions=24)
    encoder.space = dataclasses.replace(encoder.space, normalised=False)
    embed(captions[:30], encoder, tmp_path / "c", codec="float32", progress=False)
    assert embed(captions, encoder, tmp_path / "c", progress=False).embedded


def test_the_length_of_a_row_counts_where_it_is_free(tmp_path, captions):
    once, long = Other(lambda r: r * 3, dimensions=24), Other(lambda r: r * 30, dimensions=24)
    for encoder in (once, long):
        encoder.space = dataclasses.replace(encoder.space, normalised=False)
    embed(captions[:30], once, tmp_path / "c", progress=False)
    with pytest.raises(SpaceMismatch, match=r"smallest cosine 0\.1"):
        embed(captions, long, tmp_path / "c", progress=False)


def test_probes_of_an_older_cache_come_from_an_encoder_that_fits(tmp_path):
    shutil.copytree(V1, tmp_path / "c")
    options = {"dimensions": 16, "max_tokens": 8}
    with pytest.raises(SpaceMismatch, match="does not make the rows any more"):
        embed(["two people", "new"], Other(rolled, **options), tmp_path / "c", progress=False)
    assert not (tmp_path / "c" / "probes.arrow").exists()
    embed(["two people", "new"], HashingEncoder(Config(**options)), tmp_path / "c", progress=False)
    assert EmbeddingCache.open(tmp_path / "c").probes() is not None


def test_a_file_system_without_locks_is_told(tmp_path, encoder, captions, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StorageError, match=r"has no locks \(No locks available\)"):
        embed(captions, encoder, tmp_path / "c", progress=False)


def test_places_that_are_no_folders(tmp_path, encoder, captions):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="give a folder"):
        embed(captions, encoder, tmp_path / "file", progress=False)
    with pytest.raises(CacheError, match="There is no cache in"):
        audit(tmp_path / "file")
    embed(captions, encoder, tmp_path / "c", progress=False)
    (tmp_path / "c" / "plan.json").unlink()
    (tmp_path / "c" / "plan.json").mkdir()
    with pytest.raises(CacheError, match=r"plan\.json can't be read"):
        EmbeddingCache.open(tmp_path / "c")
    (tmp_path / "c" / "plan.json").rmdir()
    (tmp_path / "c" / "plan.json").write_text("[" * 100_000)
    with pytest.raises(CacheError, match=r"plan\.json is damaged"):
        EmbeddingCache.open(tmp_path / "c")


def test_files_of_the_system_do_no_harm(tmp_path, encoder, captions):
    embed(captions[:30], encoder, tmp_path / "c", progress=False)
    for name in (".DS_Store", ".nfs000001"):
        (tmp_path / "c" / name).write_text("")
    assert embed(captions, encoder, tmp_path / "c", progress=False).embedded == 30
    shutil.copy(tmp_path / "c" / "shard-00000.arrow", tmp_path / "c" / "shard-00000 (copy).arrow")
    with pytest.raises(CacheError, match=r"holds something else \(shard-00000 \(copy\)\.arrow\)"):
        embed(captions, encoder, tmp_path / "c", progress=False)
    assert len(EmbeddingCache.open(tmp_path / "c")) == 60


def test_links_tell_parents_and_sources_apart(tmp_path, encoder):
    items = [
        Linked("a red dog", "1.jpg", source="a"),
        Linked("a red dog", "1.jpg", source="b"),
        Linked("a dog", "1.jpg"),
        Linked("a cat", "1.jpg", "phrase", parent="a red dog"),
        Linked("a cat", "1.jpg", "phrase", parent="a dog"),
    ]
    assert embed(items, encoder, tmp_path / "c", progress=False).links == 5
    assert embed(items, encoder, tmp_path / "c", progress=False).links == 0


def test_texts_that_come_between_the_readings_get_no_link(tmp_path, encoder):
    class Growing(list):
        readings = 0

        def __iter__(self):
            self.readings += 1
            yield Linked("a", "1.jpg")
            if self.readings > 1:
                yield Linked("b", "2.jpg")

    report = embed(Growing(), encoder, tmp_path / "c", total=1, progress=False)
    assert report.links == 1
    assert report.left_out == {"links to texts that came after the rows": 1}
    assert audit(tmp_path / "c").dangling == 0


def test_versions_are_those_of_the_shards(tmp_path, encoder, captions, monkeypatch):
    """A run that was killed after its last shard leaves the same manifest as one that was not."""
    monkeypatch.setattr("lift.cache.part.versions", lambda _: {"torch": "1"})
    embed(captions[:30], encoder, tmp_path / "c", progress=False)
    monkeypatch.setattr("lift.cache.part.versions", lambda _: {"torch": "2"})
    before = (tmp_path / "c" / "manifest.json").read_bytes()
    embed(captions, encoder, tmp_path / "c", progress=False)
    after = (tmp_path / "c" / "manifest.json").read_bytes()
    (tmp_path / "c" / "manifest.json").write_bytes(before)
    embed(captions, encoder, tmp_path / "c", progress=False)
    assert (tmp_path / "c" / "manifest.json").read_bytes() == after
    assert [v["torch"] for v in EmbeddingCache.open(tmp_path / "c").manifest.versions] == ["1", "2"]


def test_a_row_that_a_codec_loses_is_not_stored(tmp_path, captions):
    tiny = Other(lambda rows: rows * 1e-9, dimensions=24)
    tiny.space = dataclasses.replace(tiny.space, normalised=False)
    with pytest.raises(CacheError, match="The codec float16 turns a row into zeros"):
        embed(captions, tiny, tmp_path / "c", progress=False)
    assert embed(captions, tiny, tmp_path / "d", codec="float32", progress=False).rows == 60


@pytest.mark.parametrize("codec", ["float32", "int8", "int4", "binary"])
def test_the_codec_does_not_choose_the_negatives(tmp_path, codec):
    """Equal words in another case have equal rows here: too near, however they are stored."""
    encoder = HashingEncoder(Config(dimensions=64))
    items = []
    for i in range(20):
        parent = f"{i} red dogs by the old stone wall of house {i * 7}"
        items.append(Linked(parent, f"{i}.jpg"))
        for text in (parent.replace("dogs", "cats"), parent.upper(), "other words"):
            items.append(Linked(text, f"{i}.jpg", "negative", parent=parent))
    report = embed(items, encoder, tmp_path / "c", codec=codec, progress=False)
    assert report.left_out == {"negatives too near": 20, "negatives too far": 20}
    rows = [
        row for table in EmbeddingCache.open(tmp_path / "c").links() for row in table.to_pylist()
    ]
    kept = [row for row in rows if row["role"] == "negative"]
    a, b = (encoder.encode([text]).rows[0] for text in (items[0].text, items[1].text))
    assert len(kept) == 20 and kept[0]["cosine"] == pytest.approx(float(a @ b), abs=2e-3)


def test_derived_texts_without_images_are_told_from_captions(tmp_path, encoder):
    items = [Linked("a red dog"), Linked("a red cat", role="negative", parent="a red dog")]
    report = embed(items, encoder, tmp_path / "c", progress=False)
    assert report.links == 1
    (row,) = [
        row for table in EmbeddingCache.open(tmp_path / "c").links() for row in table.to_pylist()
    ]
    assert (row["image"], row["role"], row["text"]) == ("", "negative", "a red cat")


def test_an_audit_says_what_it_did_not_ask(tmp_path, encoder, captions):
    embed(captions, encoder, tmp_path / "c", progress=False)
    assert "the encoder was not asked" in audit(tmp_path / "c").table()
    assert audit(tmp_path / "c", captions=captions, encoder=encoder, sample=0).ok
    with pytest.raises(ConfigError, match="sample is a number of captions"):
        audit(tmp_path / "c", sample=-1)
