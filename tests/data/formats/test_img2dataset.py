"""img2dataset's output: its keys, its captions, and what it could not download."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError

FAILURES = [
    ("failed_to_download", "HTTP Error 404: Not Found"),
    ("failed_to_download", "HTTP Error 404: "),
    ("failed_to_download", "<urlopen error [Errno -2] Name or service not known>"),
    ("failed_to_download", "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] for 'a.example'>"),
    ("failed_to_resize", "image decoding error"),
    ("failed_to_download", None),
    (None, None),
]


def record(key, caption="of json"):
    return json.dumps({"key": key, "caption": caption, "url": "u", "status": "success", "w": 3})


@pytest.fixture
def output(tmp_path, write_tar):
    """Return a maker of folders as img2dataset leaves them."""

    def make(name="out", shards=2, failures=(), text=True):
        folder = tmp_path / name
        for number in range(shards):
            keys = [f"{number:05d}{row:04d}" for row in (0, 3, 7)]
            members = []
            for key in keys:
                members += [(f"{key}.jpg", key.encode()), (f"{key}.json", record(key).encode())]
                members += [(f"{key}.txt", f"text {key}".encode())] if text else []
            write_tar(folder / f"{number:05d}.tar", members)
            rows = [{"key": key, "status": "success", "error_message": None} for key in keys]
            rows += [
                {"key": f"{number:05d}9{row:03d}", "status": status, "error_message": message}
                for row, (status, message) in enumerate(failures)
            ]
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{number:05d}.parquet")
            (folder / f"{number:05d}_stats.json").write_text("{}")
        return folder

    return make


def opened(path, **options):
    return open_source(Part("data/formats", "img2dataset", {"path": str(path), **options}))


def test_keys_and_captions_are_those_of_the_output(output):
    folder = output()
    source = opened(folder)
    assert source.name == "out/*.tar (2 files)" and source.groups == (3, 3)
    assert [key for key, _ in source.texts()] == [
        "000000000", "000000003", "000000007", "000010000", "000010003", "000010007",
    ]  # fmt: skip
    sample = source.read(4)
    assert sample.image == b"000010003" and not source.counters
    assert [c[:2] for c in sample.captions] == [("text 000010003", "raw")]
    assert dict(sample.fields) == {"key": "000010003", "url": "u", "status": "success", "w": "3"}
    for path in (folder / "*.tar", folder / "{00000..00001}.tar"):
        assert list(opened(path).texts()) == list(source.texts())


def test_captions_of_json_where_there_is_no_text(output):
    source = opened(output(text=False))
    assert {captions[0][:2] for _, captions in source.texts()} == {("of json", "raw")}


def test_failed_downloads_are_counted_by_reason(output):
    source = opened(output(failures=FAILURES), strict=True)
    assert source.counters == {
        "not downloaded: HTTP Error 404": 4,
        "not downloaded: Name or service not known": 2,
        "not downloaded: SSL": 2,
        "not downloaded: image decoding error": 2,
        "not downloaded: failed to download": 2,
        "not downloaded: without status": 2,
    }
    assert source.examples["not downloaded: HTTP Error 404"] == "000009000 of 00000.parquet"


def test_endless_kinds_of_failure_end(output):
    failures = [("failed_to_download", f"reason {n}") for n in range(50)]
    counters = opened(output(shards=1, failures=failures)).counters
    assert len(counters) == 21 and counters["not downloaded: other reasons"] == 30


def test_tables_may_be_missing_but_not_broken(output):
    folder = output(failures=FAILURES)
    (folder / "00001.parquet").unlink()
    assert opened(folder).counters["not downloaded: HTTP Error 404"] == 2
    pq.write_table(pa.table({"url": ["a"]}), folder / "00001.parquet")
    assert opened(folder).counters["not downloaded: HTTP Error 404"] == 2
    (folder / "00001.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=r"00001\.parquet can't be read .* not downloaded"):
        opened(folder)


def test_two_outputs_are_kept_apart(output):
    both = (str(output("one", 1) / "*.tar"), str(output("two", 1) / "*.tar"))
    source = open_source(Part("data/formats", "img2dataset", {"path": both}))
    keys = [key for key, _ in source.texts()]
    assert keys[0] == "one/00000/000000000" and len(set(keys)) == len(source) == 6


def test_broken_samples(output, write_tar):
    folder = output(shards=1)
    members = [
        ("a.jpg", b"i"), ("a.json", b"{"),
        ("b.jpg", b"i"), ("b.json", record("b", None).encode()),
        ("c.jpg", b"i"),
        ("d.jpg", b"i"), ("d.json", record("d").encode()),
    ]  # fmt: skip
    write_tar(folder / "00000.tar", members)
    source = opened(folder)
    assert [(key, len(captions)) for key, captions in source.texts()] == [
        ("a", 0), ("b", 0), ("d", 1),
    ]  # fmt: skip
    assert source.counters == {"image without caption": 1, "damaged .json": 1, "empty caption": 1}
    with pytest.raises(BrokenSample, match="Sample a has a damaged"):
        source.read(0)
    with pytest.raises(BrokenSample, match=r"c in 00000\.tar: image without caption; strict"):
        opened(folder, strict=True)


def test_folders_without_shards(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.tar\.$"):
        opened(tmp_path)
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / "000000000.jpg").write_bytes(b"i")
    with pytest.raises(DataError, match=r"output_format=files, folder:.* reads the images"):
        opened(tmp_path)
