"""COCO's JSON in its three forms, real photos, and files of another form."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from lift.config import Part
from lift.data.formats import _json_items
from lift.data.image import decode
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError


def coco(path, **options):
    return open_source(Part("data/formats", "coco", {"path": str(path), **options}))


def texts(source):
    return {key: [c.text for c in captions] for key, captions in source.texts()}


IMAGES = [
    {"id": 9, "file_name": "000000000009.png", "license": 4, "coco_url": "http://x/9"},
    {"id": 3, "file_name": "000000000003.png", "license": 1},
    {"id": 5, "file_name": "000000000005.png", "license": 77},
]
ANNOTATIONS = [
    {"id": 1, "image_id": 3, "caption": "A dog.\n"},
    {"id": 2, "image_id": 9, "caption": "A cat 🐈"},
    {"id": 3, "image_id": 3, "caption": "Two dogs."},
    {"id": 4, "image_id": 5, "caption": "שלום"},
]
LICENCES = [{"id": 4, "name": "Attribution License", "url": "u"}, {"id": 1, "name": "NC"}]


@pytest.fixture
def official(tmp_path, picture):
    for folder in ("val2017", "annotations"):
        (tmp_path / folder).mkdir()
    for number, image in enumerate(IMAGES):
        (tmp_path / "val2017" / image["file_name"]).write_bytes(picture(number))
    write(tmp_path)
    return tmp_path


def write(folder, **changed):
    whole = {
        "info": {"year": 2017},
        "annotations": ANNOTATIONS,  # before the images, as some tools write it
        "images": IMAGES,
        "licenses": LICENCES,
        **changed,
    }
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(whole))


def test_the_official_form(official):
    source = coco(official)
    assert texts(source) == {
        "000000000009": ["A cat 🐈"],
        "000000000003": ["A dog.", "Two dogs."],
        "000000000005": ["שלום"],
    }
    sample = source.read(0)
    assert sample.image == (official / "val2017" / "000000000009.png").read_bytes()
    assert dict(sample.fields) == {
        "coco_url": "http://x/9",
        "image_id": "9",
        "licence": "Attribution License",
    }
    assert source.read(2).fields["licence"] == "77" and source.counters == {}
    assert source.name.startswith("coco (")
    by_file = coco(official / "annotations" / "captions_val2017.json")
    assert by_file.read(1) == source.read(1)
    given = coco(official, images=str(official / "val2017"))
    assert given.read(1) == source.read(1)


def test_of_several_files_the_split_chooses(official):
    (official / "annotations" / "captions_train2017.json").write_text("{}")
    assert len(coco(official, split="val2017")) == 3
    with pytest.raises(DataError, match=r"several files .*captions_train2017\.json"):
        coco(official)
    (official / "annotations" / "captions_train2017.json").unlink()
    with pytest.raises(DataError, match="says nothing of splits"):
        coco(official, split="test")


def test_karpathys_split(tmp_path, picture):
    entries = []
    for number, split in enumerate(["train", "restval", "test", "train"]):
        name = f"COCO_val2014_{number:012d}.png"
        sentences = [{"raw": f"dog {number}", "tokens": ["dog"]}, {"raw": "x"}]
        entries.append(
            {"filepath": "val2014", "filename": name, "split": split, "cocoid": number}
            | {"sentences": sentences, "sentids": [1, 2], "imgid": 7}
        )
        (tmp_path / "val2014").mkdir(exist_ok=True)
        (tmp_path / "val2014" / name).write_bytes(picture(number))
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
    assert len(coco(tmp_path)) == 4
    source = coco(tmp_path, split=["train", "restval"])
    assert list(texts(source)) == [f"COCO_val2014_{n:012d}" for n in (0, 1, 3)]
    assert source.read(1).fields == {"split": "restval", "image_id": "1"}
    assert source.counters == {"of another split": 1}
    flat = coco(tmp_path, images=str(tmp_path / "val2014"))
    assert flat.read(0).image == source.read(0).image


def test_a_files_name_does_not_overrule_its_splits(tmp_path, picture):
    entries: list[dict[str, object]] = [
        {"file_name": f"{number}.png", "captions": ["a dog"], "split": split}
        for number, split in enumerate(["train", "val"])
    ]
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "train_val.json").write_text(json.dumps(entries))
    assert list(texts(coco(tmp_path / "train_val.json", split="val"))) == ["1"]
    entries.append({"file_name": "2.png", "captions": ["a dog"]})
    (tmp_path / "train_val.json").write_text(json.dumps(entries))
    assert list(texts(coco(tmp_path / "train_val.json", split="val"))) == ["1", "2"]


def test_real_photos_with_their_captions_and_licences(shared_data):
    root = shared_data / "coco-sugarcrepe-mini"
    source = coco(root)
    raw = json.loads((root / "images.json").read_text())
    assert len(source) == len(raw) == 39 and source.counters == {}
    for index, entry in enumerate(raw):
        sample = source.read(index)
        assert sample.key == Path(entry["file_name"]).stem
        assert sample.image == (root / "images" / entry["file_name"]).read_bytes()
        assert [c.text for c in sample.captions] == [t.strip() for t in entry["captions"]]
        assert len(sample.captions) >= 5
        assert sample.fields["licence"] == entry["license_name"]
        assert sample.fields["flickr_url"] == entry["flickr_url"]
    assert decode(source.read(0).image).shape[0] == 3


def test_what_cannot_be_used_is_counted(official, picture):
    (official / "val2017" / "000000000005.png").unlink()
    (official / "val2017" / "zero.png").write_bytes(b"")
    (official / "secret.png").write_bytes(picture())
    (official / "val2017" / "link.png").symlink_to(official / "secret.png")
    images = [
        *IMAGES,
        {"id": 20, "file_name": "../secret.png"},
        {"id": 21, "file_name": "/etc/passwd"},
        {"id": 22, "file_name": "link.png"},
        {"id": 23, "file_name": "nul\0.png"},
        {"id": 24, "file_name": "zero.png"},
        {"id": 25, "file_name": "000000000009.png"},
        {"id": 26, "file_name": "x" * 5000},
        {"id": 27},
        {"id": 28, "file_name": "\ud800.png"},
        3,
    ]
    annotations = [
        *ANNOTATIONS,
        {"image_id": 3, "caption": " "},
        {"image_id": 3, "caption": None},
        {"image_id": 3, "caption": "\ud800"},
        {"image_id": 3, "caption": "x" * 30_000},
        {"image_id": 3},
        {"image_id": 404, "caption": "nobody"},
        "x",
    ]
    write(official, images=images, annotations=annotations)
    source = coco(official)
    assert texts(source) == {"000000000009": ["A cat 🐈"], "000000000003": ["A dog.", "Two dogs."]}
    assert source.counters == {
        "row of another form": 5,
        "image path outside": 3,
        "image path that is none": 1,
        "empty image": 1,
        "duplicate key": 1,
        "image missing": 2,
        "caption without image": 2,
        "empty caption": 2,
        "caption that is not UTF-8": 1,
        "caption too long": 1,
    }
    assert source.examples["image path outside"] == "../secret.png"
    with pytest.raises(BrokenSample):
        coco(official, strict=True)
    (official / "val2017" / "000000000009.png").unlink()
    with pytest.raises(BrokenSample, match=r"Sample 000000000009: .*can't be read"):
        source.read(0)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"{", "is not JSON"),
        (b'{"images": [{"id": 1},]}', "is not JSON"),
        (b'{"images": [1 2]}', "is not JSON"),
        (b'{"images" 3}', "is not JSON"),
        (b"{} x", "something stands behind its end"),
        (b"[" * 100_000, "is nested too deeply|is not JSON"),
        (b'{"images": "\xff"}', "is not UTF-8"),
        (b"", "is not JSON"),
        (b"[]", "No folder|holds no samples"),
        (b'{"images": [], "annotations": []}', "holds no samples"),
    ],
)
def test_files_of_another_form(official, content, sentence):
    (official / "annotations" / "captions_val2017.json").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        coco(official)


def test_nothing_there(tmp_path, official):
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "coco"))
    with pytest.raises(DataError, match=r"No captions_\*\.json or"):
        coco(tmp_path / "val2017")
    with pytest.raises(DataError, match=r"No folder of photos at .*; set images=FOLDER"):
        coco(official, images=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("window", [1, 2, 7, 1 << 18])
def test_json_is_read_alike_through_any_window(tmp_path, monkeypatch, window):
    whole = {
        "a": [1, -2.5e3, "é\u2028🐕\\u00e9", [], {}, None, True, {"x": [1, {"y": "]"}]}],
        "b": {"nested": [1, 2]},
        "c": [],
        "d": 12345,
        "e": "word",
    }
    file = tmp_path / "x.json"
    file.write_text(json.dumps(whole, ensure_ascii=False, indent=1), encoding="utf-8-sig")
    monkeypatch.setattr(_json_items, "_READ", window)
    found = [tuple(item) for item in _json_items.items(file)]
    assert found == [("a", value) for value in whole["a"]] + [
        ("b", whole["b"]),
        ("d", 12345),
        ("e", "word"),
    ]
    file.write_text(json.dumps([1, [2], 34]))
    assert [tuple(item) for item in _json_items.items(file)] == [("", 1), ("", [2]), ("", 34)]
    file.write_text(" 345 ")
    assert [tuple(item) for item in _json_items.items(file)] == [("", 345)]


def anonymous() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def crowd(path, count):
    (path / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        name = f"{number:012d}.jpg"
        with open(path / "images" / name, "wb") as file:
            file.write(b"x")
        images.append({"id": number, "file_name": name, "license": 1})
        annotations += [{"image_id": number, "caption": f"photo {number} told {n}"} for n in (1, 2)]
    whole = {"images": images, "annotations": annotations}
    with open(path / "captions_val2017.json", "w") as file:
        json.dump(whole, file)


@pytest.mark.slow
def test_memory_does_not_grow_with_photos():
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shm) as path:
        for name, count in (("small", 2_000), ("large", 12_000)):
            crowd(Path(path, name), count)
        held = coco(Path(path, "small"))
        before = anonymous()
        source = coco(Path(path, "large"))
        count = sum(len(captions) for _, captions in source.texts())
        grown = anonymous() - before
        assert count == 24_000 and len(source) == 12_000 and len(held) == 2_000
        assert grown < 4 << 20, f"{grown:,} bytes"
