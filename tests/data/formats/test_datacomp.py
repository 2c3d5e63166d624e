"""DataComp's shards: the uid is the key, wherever the shard came from."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError


def uid(number):
    return f"{number:032x}"


def members(*numbers, missing=()):
    for place, number in enumerate(numbers):
        record = {"uid": uid(number), "caption": "c", "sha256": "s", "width": 2}
        if number in missing:
            del record["uid"]
        yield f"{place:09d}.jpg", f"image {number}".encode()
        yield f"{place:09d}.json", json.dumps(record).encode()
        yield f"{place:09d}.txt", f"text {number}".encode()


def opened(path, **options):
    return open_source(Part("data/formats", "datacomp", {"path": str(path), **options}))


def test_keys_are_uids(tmp_path, write_tar):
    write_tar(tmp_path / "00000000.tar", members(5, 6))
    write_tar(tmp_path / "00000001.tar", members(7))
    source = opened(tmp_path / "*.tar")
    assert [key for key, _ in source.texts()] == [uid(5), uid(6), uid(7)]
    sample = source.read(2)
    assert sample.image == b"image 7" and [c[:2] for c in sample.captions] == [("text 7", "raw")]
    assert dict(sample.fields) == {"uid": uid(7), "sha256": "s", "width": "2"}
    assert not source.counters and source.groups == (2, 1)


def test_missing_and_repeated_uids_are_left_out(tmp_path, write_tar):
    write_tar(tmp_path / "00000000.tar", members(5, 6, 7, 5, missing=(6,)))
    write_tar(tmp_path / "00000001.tar", members(7, 8))
    source = opened(tmp_path / "*.tar")
    assert [source.read(n).image for n in range(3)] == [b"image 5", b"image 7", b"image 8"]
    assert [key for key, _ in source.texts()] == [uid(5), uid(7), uid(8)]
    assert source.counters == {"without a key": 1, "duplicate key": 2}
    assert source.examples["without a key"] == "000000001 in 00000000.tar"
    assert source.examples["duplicate key"] == f"{uid(5)} in 00000000.tar"
    with pytest.raises(BrokenSample, match="without a key; strict"):
        opened(tmp_path / "*.tar", strict=True)
    with pytest.raises(BrokenSample, match=f"{uid(7)} in 00000001.tar: duplicate key"):
        write_tar(tmp_path / "00000000.tar", members(5, 7))
        opened(tmp_path / "*.tar", strict=True)


def test_repeated_uids_are_found_among_kept_scans(tmp_path, write_tar):
    write_tar(tmp_path / "00000000.tar", members(*range(1100)))
    write_tar(tmp_path / "00000001.tar", members(*range(1099, 2200)))
    options = {"index": str(tmp_path / "kept")}
    for _ in range(2):
        source = opened(tmp_path / "*.tar", **options)
        assert source.groups == (1100, 1100) and source.counters == {"duplicate key": 1}
        assert source.read(1100).image == b"image 1100"
    # Without the first shard nothing is repeated: what is kept knows one shard only.
    assert opened(tmp_path / "00000001.tar", **options).groups == (1101,)


def test_a_shard_twice_under_two_names(tmp_path, write_tar):
    write_tar(tmp_path / "00000000.tar", members(5))
    write_tar(tmp_path / "00000001.tar", members(5))
    with pytest.raises(DataError, match=r"00000001\.tar holds no samples; left out: 1 duplicate"):
        opened(tmp_path / "*.tar")


def test_failed_downloads_are_counted(tmp_path, write_tar):
    write_tar(tmp_path / "00000000.tar", members(5))
    rows = {"status": ["success", "failed_to_download"], "error_message": [None, "timed out"]}
    pq.write_table(pa.table(rows), tmp_path / "00000000.parquet")
    assert opened(tmp_path / "*.tar").counters == {"not downloaded: timed out": 1}
