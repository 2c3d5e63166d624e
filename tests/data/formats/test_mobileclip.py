"""Reinforced shards: two kinds of captions, and files that are never opened."""

from __future__ import annotations

import json

import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError


def members(key, image="jpg", rewrites=("one", "two"), leave_out=(), syn=None):
    files = {
        image: b"image " + key.encode(),
        "txt": b"the caption",
        "url.txt": b"http://example.org",
        "json": json.dumps({"uid": f"uid-{key}", "sha256": "s"}).encode(),
        "syn.json": json.dumps({"syn_text": list(rewrites)}).encode() if syn is None else syn,
        "paug.json": b'{"param_aug": "[]"}',
        "npz": b"PK not a real one",
        "pth.gz": b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
    }
    return [(f"{key}.{ending}", c) for ending, c in files.items() if ending not in leave_out]


def opened(path, **options):
    return open_source(Part("data/formats", "mobileclip", {"path": str(path), **options}))


def test_captions_and_rewrites(tmp_path, write_tar):
    shard = [*members("a"), *members("b", "jpeg"), *members("c", "webp")]
    source = opened(write_tar(tmp_path / "s.tar", shard))
    assert [key for key, _ in source.texts()] == ["a", "b", "c"] and not source.counters
    sample = source.read(2)
    assert sample.image == b"image c"
    assert [c[:2] for c in sample.captions] == [
        ("the caption", "raw"), ("one", "rewrite"), ("two", "rewrite"),
    ]  # fmt: skip
    assert dict(sample.fields) == {"uid": "uid-c", "sha256": "s"}


def test_without_the_synthetic_ones(tmp_path, write_tar):
    shard = [*members("a", leave_out=("syn.json",)), *members("b", syn=b"broken")]
    source = opened(write_tar(tmp_path / "s.tar", shard), synthetic=False)
    assert [len(captions) for _, captions in source.texts()] == [1, 1] and not source.counters
    assert [source.read(n).key for n in range(2)] == ["a", "b"]


def test_uids_as_keys(tmp_path, write_tar):
    for name in ("s", "t"):
        write_tar(tmp_path / f"{name}.tar", [*members("a"), *members(name)])
    source = opened(tmp_path / "*.tar", key_field="uid")
    assert [key for key, _ in source.texts()] == ["uid-a", "uid-s", "uid-t"]
    assert source.counters == {"duplicate key": 1}
    assert opened(tmp_path / "*.tar").read(2).key == "t/a"


def test_what_is_broken_is_counted(tmp_path, write_tar):
    shard = [
        *members("a", leave_out=("syn.json",)),
        *members("b", syn=b"{}"),
        *members("c", syn=b'{"syn_text": []}'),
        *members("d", syn=b'{"syn_text": "x", '),
        *members("e", syn=b'{"syn_text": [1]}'),
        *members("f", leave_out=("txt",)),
        *members("good"),
    ]
    source = opened(write_tar(tmp_path / "s.tar", shard))
    assert [(key, len(captions)) for key, captions in source.texts()] == [
        *((key, 1) for key in "abcde"), ("f", 2), ("good", 3),
    ]  # fmt: skip
    assert source.counters == {
        "without caption field beside a good one": 3,
        "empty caption beside a good one": 1,
        "damaged .syn.json beside a good one": 1,
        "caption that is not text beside a good one": 1,
    }
    strict = opened(tmp_path / "s.tar", strict=True)
    with pytest.raises(BrokenSample, match="Sample a has no field 'syn_text'"):
        list(strict.texts())


def test_the_published_shards_have_to_be_joined_first(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", members("a", leave_out=("jpg", "txt")))
    with pytest.raises(DataError, match=r"1 image missing .* join them with DataComp's"):
        opened(path)
