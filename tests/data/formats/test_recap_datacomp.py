"""Recap-DataComp's parquet beside images: both captions, missing images, hostile keys."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError


def recap(path, images, **options) -> Any:
    options = {"path": str(path), "images": str(images), **options}
    return open_source(Part("data/formats", "recap_datacomp", options))


def rows(first: int, count: int, **more) -> list[dict]:
    """Return rows with the columns of the published files."""
    return [
        {
            "url": f"https://example.org/{n}.jpg",
            "re_caption": f"A long sentence about thing {n}.",
            "org_caption": f"thing {n}",
            "sha256": f"{n:064x}",
            "key": f"{n:012d}",
            "re_clip_score": 0.25,
            "org_clip_score": 0.5,
            "re_length": 50,
            "org_length": 2,
            "re_gpt4v_score": 4,
            **more,
        }
        for n in range(first, first + count)
    ]


def write(path, table, group=3):
    pq.write_table(pa.Table.from_pylist(table), path, row_group_size=group)
    return path


@pytest.fixture
def images(tmp_path, picture):
    """Return a folder with images 0 to 9, of three endings, and things that are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(10):
        (folder / f"{n:012d}{('.jpg', '.PNG', '.webp')[n % 3]}").write_bytes(picture(n))
        (folder / f"{n:012d}.json").write_text("{}")
    (folder / f"{11:012d}.json").write_text("{}")
    (folder / f"{12:012d}.jpg").mkdir()
    return folder


def facts(source) -> list[tuple]:
    samples = [source.read(n) for n in range(len(source))]
    return [(s.key, s.image, s.captions) for s in samples]


def test_both_captions_of_rows_with_an_image(tmp_path, images, picture):
    source = recap(write(tmp_path / "train-0.parquet", rows(4, 10)), images)
    assert source.groups == (3, 3, 0, 0)
    assert source.counters == {"image missing": 4}
    assert "000000000010.* is not in" in source.examples["image missing"]
    for number, (key, image, captions) in enumerate(facts(source), 4):
        assert key == f"{number:012d}" and image == picture(number)
        assert [tuple(c[:3]) for c in captions] == [
            (f"thing {number}", "raw", 1.0),
            (f"A long sentence about thing {number}.", "rewrite", 1.0),
        ]
    assert list(source.texts()) == [(key, captions) for key, _, captions in facts(source)]
    fields = source.read(0).fields
    assert fields["re_gpt4v_score"] == "4" and fields["url"].endswith("/4.jpg")
    assert facts(pickle.loads(pickle.dumps(source))) == facts(source)
    with pytest.raises(BrokenSample, match="is not in"):
        recap(tmp_path / "train-0.parquet", images, strict=True)


@pytest.mark.parametrize("dot", ["", "."])
def test_the_column_extension_says_which_file(tmp_path, images, picture, dot):
    (images / f"{0:012d}.png").write_bytes(b"another one")
    table = rows(0, 4)
    for row, ending in zip(table, ("png", "PNG", None, "jpeg"), strict=True):
        row["extension"] = ending and dot + ending
    source = recap(write(tmp_path / "t.parquet", table), images)
    assert [source.read(n).image for n in range(3)] == [b"another one", picture(1), picture(2)]
    assert source.counters == {"image missing": 1}
    assert "000000000003.jpeg" in source.examples["image missing"]


def test_of_two_files_of_a_key_the_same_is_taken_every_time(tmp_path, images, picture):
    for ending in ("tif", "jpeg", "bmp"):
        (images / f"{2:012d}.{ending}").write_bytes(ending.encode())
    source = recap(write(tmp_path / "t.parquet", rows(0, 3)), images)
    assert source.read(2).image == b"jpeg" and source.read(0).image == picture(0)


def test_shards_have_folders_of_their_own(tmp_path, picture):
    for shard, count in (("train-00000", 2), ("train-00001", 3)):
        (tmp_path / "images" / shard).mkdir(parents=True)
        for n in range(count):
            (tmp_path / "images" / shard / f"im-{n:012d}.jpg").write_bytes(picture(count + n))
        write(tmp_path / f"{shard}.parquet", rows(0, 3))
    source = recap(
        tmp_path / "train-*.parquet", tmp_path / "images", pattern="{shard}/im-{key}", fields=()
    )
    assert source.groups == (2, 3) and source.counters == {"image missing": 1}
    assert [(key, image) for key, image, _ in facts(source)] == [
        (f"train-00000/{n:012d}", picture(2 + n)) for n in range(2)
    ] + [(f"train-00001/{n:012d}", picture(3 + n)) for n in range(3)]
    assert source.read(0).fields == {}


@pytest.mark.parametrize(
    "pattern",
    ["", "x", "{key}{key}", "{key}/x", "{shard}", "{key!r}", "{key}.{0}", "{key:>9}", "{key}}"],
)
def test_other_patterns_are_refused(tmp_path, images, pattern):
    with pytest.raises(ConfigError, match="behind its last slash"):
        recap(tmp_path / "t.parquet", images, pattern=pattern)


@pytest.mark.parametrize("empty", [None, "", "  ", "nul \0", "x" * 51])
def test_an_empty_caption_of_two_is_dropped_and_counted(tmp_path, images, empty):
    table = rows(0, 4)
    table[1]["org_caption"] = empty
    table[2]["re_caption"] = empty
    table[3]["org_caption"] = table[3]["re_caption"] = empty
    path = write(tmp_path / "t.parquet", table)
    source = recap(path, images, max_caption_chars=50)
    assert source.counters == {}
    for _ in range(2):  # counted by the last reading, not twice
        roles = [[caption.role for caption in captions] for _, captions in source.texts()]
        assert roles == [["raw", "rewrite"], ["rewrite"], ["raw"], []]
        assert sorted(source.counters.values()) == [1, 2]
    (beside,) = [kind for kind in source.counters if kind.endswith("beside a good one")]
    assert source.counters[beside] == 2 and "Sample 000000000001" in source.examples[beside]
    assert [c.role for c in source.read(1).captions] == ["rewrite"]
    with pytest.raises(BrokenSample, match="Sample 000000000003"):
        source.read(3)
    with pytest.raises(BrokenSample, match="Sample 000000000001"):
        list(recap(path, images, max_caption_chars=50, strict=True).texts())


@pytest.mark.parametrize("gone", ["org_caption", "re_caption"])
def test_one_column_of_captions_is_enough(tmp_path, images, gone):
    table = [{k: v for k, v in row.items() if k != gone} for row in rows(0, 2)]
    (captions,) = {len(c) for _, c in recap(write(tmp_path / "t.parquet", table), images).texts()}
    assert captions == 1


def test_no_column_of_captions_and_no_key(tmp_path, images):
    path = write(tmp_path / "t.parquet", rows(0, 2))
    with pytest.raises(DataError, match="'a or b'"):
        recap(path, images, raw="a", rewrite="b")
    with pytest.raises(DataError, match="'uid'"):
        recap(path, images, key="uid")


@pytest.mark.parametrize("key", ["../secret", "/etc/hostname", "a/b", "{shard}", "..", "nul\0", ""])
def test_hostile_keys_find_nothing(tmp_path, images, key):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (images / "t.jpg").write_bytes(b"the shard's own name")
    table = [*rows(0, 1), {**rows(0, 1)[0], "key": key}]
    source = recap(write(tmp_path / "t.parquet", table), images)
    assert len(source) == 1 and sum(source.counters.values()) == 1


def test_links_and_large_files_are_refused_when_read(tmp_path, images):
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "secret", images / f"{20:012d}.jpg")
    (images / f"{21:012d}.jpg").write_bytes(bytes(50_001))
    path = write(tmp_path / "t.parquet", rows(20, 2))
    source = recap(path, images, max_image_bytes=50_000)
    for number, kind in enumerate(("image path outside", "image file too large")):
        with pytest.raises(BrokenSample) as caught:
            source.read(number)
        assert caught.value.kind == kind
    assert recap(path, images, allow_outside=True).read(0).image == b"secret"


def test_nothing_downloaded_ends_with_the_reason(tmp_path, images):
    path = write(tmp_path / "t.parquet", rows(100, 5))
    with pytest.raises(DataError, match=r"t\.parquet holds no samples: 5 image missing"):
        recap(path, images)
    with pytest.raises(DataError, match="5 image missing"):
        recap(path, images, pattern="gone/{key}")
    with pytest.raises(DataError, match="No folder of images"):
        recap(path, tmp_path / "none")


def test_a_key_that_repeats_is_counted(tmp_path, images):
    source = recap(write(tmp_path / "t.parquet", rows(0, 4) + rows(2, 4)), images)
    assert [key for key, _ in source.texts()] == [f"{n:012d}" for n in range(6)]
    assert source.counters == {"duplicate key": 2}


def test_a_folder_is_listed_once(tmp_path, images, monkeypatch):
    for n in range(4):
        write(tmp_path / f"s{n}.parquet", rows(0, 8))
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    assert len(recap(tmp_path / "s*.parquet", images)) == 32
    assert sum(path.rstrip("/") == str(images) for path in listed) == 1


def test_a_link_to_itself_among_the_images_is_no_image(tmp_path, picture):
    (tmp_path / "images").mkdir()
    pq.write_table(pa.Table.from_pylist(rows(0, 2)), tmp_path / "a.parquet")
    (tmp_path / "images" / f"{0:012d}.png").write_bytes(picture())
    (tmp_path / "images" / f"{1:012d}.png").symlink_to(f"{1:012d}.png")
    source = recap(tmp_path / "a.parquet", tmp_path / "images")
    assert source.read(0).image
    with pytest.raises(BrokenSample, match=f"Sample {1:012d}"):
        source.read(1)
