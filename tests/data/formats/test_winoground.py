"""Winoground's files: two samples a row, from names without endings or images in the table."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError


def pairs(path, **options):
    return open_source(Part("data/formats", "winoground", {"path": str(path), **options}))


def row(number, **values):
    return {
        "id": number + 40,
        "image_0": f"ex_{number}_img_0",
        "image_1": f"ex_{number}_img_1.png",
        "caption_0": "a b",
        "caption_1": "b a",
        "collapsed_tag": "Object",
    } | values


@pytest.fixture
def folder(tmp_path, picture):
    (tmp_path / "data" / "images").mkdir(parents=True)
    for number in range(2):
        for side in range(2):
            name = f"ex_{number}_img_{side}.png"
            (tmp_path / "data" / "images" / name).write_bytes(picture())
    lines = "\n".join(json.dumps(row(number)) for number in range(2))
    (tmp_path / "data" / "examples.jsonl").write_text(lines)
    return tmp_path


def test_two_samples_a_row(folder):
    for path in (folder, folder / "data", folder / "data" / "examples.jsonl"):
        source = pairs(path)
        samples = [source.read(n) for n in range(len(source))]
        assert [sample.key for sample in samples] == ["0/0", "0/1", "1/0", "1/1"]
        assert [sample.fields["pair"] for sample in samples] == ["0", "0", "1", "1"]
        assert [sample.captions[0].text for sample in samples] == ["a b", "b a"] * 2
        assert samples[2].fields == {"id": "41", "collapsed_tag": "Object", "pair": "1"}
        images = folder / "data" / "images"
        assert samples[2].image == (images / "ex_1_img_0.png").read_bytes()


def test_images_in_a_table(tmp_path, picture):
    image = {"bytes": picture(), "path": None}
    rows = [row(n, image_0=image, image_1=image) for n in range(3)]
    for name in "ab":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=2)
    source = pairs(tmp_path / "*.parquet")
    assert len(source) == 12 and source.groups == (4, 2, 4, 2)
    assert source.read(9).key == "b/1/1" and source.read(9).image == image["bytes"]
    assert [key for key, _ in source.texts()] == [source.read(n).key for n in range(12)]


def test_what_is_wrong_is_said(folder):
    path = folder / "data" / "examples.jsonl"
    (folder / "data" / "images" / "ex_0_img_0.png").unlink()
    with pytest.raises(BrokenSample, match=r"Sample 0/0: .*ex_0_img_0\.png can't be read"):
        pairs(path).read(0)
    path.write_text(json.dumps(row(1, image_0="../../secret.png", caption_1=" ")))
    with pytest.raises(BrokenSample, match="lies outside"):
        pairs(path).read(0)
    with pytest.raises(BrokenSample, match="empty caption"):
        pairs(path).read(1)
    path.write_text(json.dumps({"image_0": "a", "image_1": "b", "caption_0": "a"}))
    with pytest.raises(DataError, match=r"column of .*'caption_1'"):
        pairs(path)
    with pytest.raises(DataError, match=r"No examples\.jsonl is in"):
        pairs(folder / "data" / "images")
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "winoground"))
    with pytest.raises(ConfigError, match="memory_mb"):
        pairs(folder, memory_mb=0)
