"""Photos described at length, in five layouts, and photos described in many languages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from lift.config import Part
from lift.data import kinds
from lift.data.guess import guess
from lift.data.source import left_out, open_source
from lift.errors import BrokenSample, ConfigError, DataError

MINIATURES = Path(__file__).parents[2] / "miniatures"


@pytest.fixture
def miniature(tmp_path):
    def make(name):
        found = importlib.util.spec_from_file_location(name, MINIATURES / f"{name}.py")
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        folder = tmp_path / name
        folder.mkdir()
        module.write(folder)
        return folder

    return make


def long_texts(path, **options):
    return open_source(Part("data/formats", "long_texts", {"path": str(path), **options}))


def told(source):
    return {key: [(c.role, c.text) for c in captions] for key, captions in source.texts()}


# --- long texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "start", "count"),
    [
        ("urban1k", "1.jpg", "This image shows a wall in the city. The wall is painted red", 8),
        ("docci", "test_00002.jpg", "An outdoor shot of a blue wall.", 8),
        ("dci", "sa_0.jpg", "A red wall. It has 0 bricks in a row.", 8),
        ("sharegpt4v", "coco/train2017/000000000001.jpg", "In the heart of the image", 8),
        ("iiw", "aar_test_00003.jpg", "A medium shot of a white surface.", 8),
    ],
)
def test_every_layout_is_told_and_read(name, key, start, count, miniature):
    folder = miniature(name)
    found = guess(str(folder))
    assert found.part == Part("data/formats", "long_texts", {"path": str(folder), "layout": name})
    source = long_texts(folder)
    captions = told(source)
    assert len(captions) == len(source) == count
    role, text = captions[key][0]
    assert role == "long" and text.startswith(start)
    assert source.name.startswith(name) and not left_out(source)
    assert source.read(0).image[:2] == b"\xff\xd8"
    assert told(open_source(found.part)) == captions


def test_dci_has_a_short_caption_too(miniature):
    captions = told(long_texts(miniature("dci")))["sa_1.jpg"]
    assert captions[1] == ("short", "A green wall.")
    assert captions[0][1].startswith("A green wall. It has 1 bricks")


def test_splits_of_docci(miniature):
    folder = miniature("docci")
    test = long_texts(folder, split="test")
    assert len(test) == 6 and all(key.startswith("test") for key in told(test))
    assert test.read(0).fields == {"example_id": "test_00002", "split": "test"}
    assert left_out(test) == {kinds.OTHER_SPLIT: 2, kinds.OTHER_SPLIT_OR_NONE: 2}


def test_the_first_of_a_list(miniature):
    source = long_texts(miniature("sharegpt4v"), first=3)
    assert list(told(source)) == [f"coco/train2017/{n:012d}.jpg" for n in range(3)]
    with pytest.raises(ConfigError, match="first must be 1 or more"):
        long_texts(".", first=0)


def test_what_is_missing_is_counted(miniature):
    folder = miniature("urban1k")
    (folder / "image" / "2.jpg").unlink()
    (folder / "caption" / "3.txt").write_text("  ")
    (folder / "caption" / "4.txt").write_bytes(b"\xff\xfe\xfd")
    (folder / "caption" / "5.txt").unlink()
    (folder / "caption" / "notes.md").write_text("x")
    source = long_texts(folder)
    assert set(told(source)) == {"1.jpg", "6.jpg", "7.jpg", "8.jpg"}
    assert left_out(source) == {
        kinds.CAPTION_WITHOUT_IMAGE: 1,
        kinds.CAPTION_EMPTY: 1,
        kinds.CAPTION_NO_UTF8: 1,
        kinds.IMAGE_WITHOUT_CAPTION: 3,
        kinds.FILE_OTHER: 1,
    }
    with pytest.raises(BrokenSample):
        long_texts(folder, strict=True)


def test_a_caption_of_several_lines_is_one(miniature):
    folder = miniature("urban1k")
    (folder / "caption" / "1.txt").write_text("A wall.\n\nIt is\r\nred.\n")
    assert told(long_texts(folder))["1.jpg"] == [("long", "A wall. It is red.")]


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("dci", "annotations/sa_2.json", "[" * 100_000),
        ("dci", "annotations/sa_2.json", '{"image": 3, "short_caption": "a", "extra_caption": ""}'),
        ("dci", "annotations/sa_2.json", '"x"'),
        ("docci", "docci_descriptions.jsonlines", '{"image_file": ["x"], "description": 3}\n'),
        ("docci", "docci_descriptions.jsonlines", '[1]\n{"image_file": "test_00002.jpg"}\n'),
        ("iiw", "data.jsonl", '{"IIW": "a", "image/key": null}\n{"IIW": null}\n' + "[" * 100_000),
        ("iiw", "data.jsonl", '{"IIW": "x", "image/key": "../../../etc/passwd"}\n'),
        ("sharegpt4v", "share-captioner_coco_lcs_sam_1246k_1107.json", '[{"image": "x"}, 3, []]'),
    ],
)
def test_rows_of_another_form_are_left_out(name, file, content, miniature):
    folder = miniature(name)
    (folder / file).write_text(content)
    try:
        source = long_texts(folder, layout=name)
    except DataError as error:
        assert "holds no samples" in str(error) or "No folder of photos" in str(error)
    else:
        assert left_out(source) and len(source) == 7
    guess_or_none(folder)


def guess_or_none(folder):
    try:
        return guess(str(folder))
    except (ConfigError, DataError):
        return None


def test_what_is_no_such_folder_is_said(tmp_path, miniature):
    with pytest.raises(DataError, match="is none of urban1k, docci, dci, sharegpt4v, iiw"):
        long_texts(tmp_path)
    with pytest.raises(DataError, match="does not hold what docci is made of"):
        long_texts(miniature("dci"), layout="docci")
    with pytest.raises(ConfigError, match="Did you mean 'docci'"):
        long_texts(tmp_path, layout="doci")
    with pytest.raises(DataError, match="No folder is at"):
        long_texts(tmp_path / "nowhere")


def test_descriptions_without_photos_are_texts(miniature):
    folder = miniature("iiw")
    for photo in (folder / "images").iterdir():
        photo.unlink()
    assert guess(str(folder)).part.name == "texts"


def test_captions_that_lead_out_are_not_read(tmp_path, miniature):
    folder = miniature("urban1k")
    (tmp_path / "secret.txt").write_text("Somebody's password is 1234.")
    (folder / "caption" / "1.txt").unlink()
    (folder / "caption" / "1.txt").symlink_to(tmp_path / "secret.txt")
    source = long_texts(folder)
    assert not any("password" in text for captions in told(source).values() for _, text in captions)
    assert sum(left_out(source).values()) == 2


# --- Crossmodal-3600 -----------------------------------------------------------------------------


def xm3600(path, **options):
    return open_source(Part("data/formats", "xm3600", {"path": str(path), **options}))


def test_captions_say_their_language(miniature):
    folder = miniature("xm3600")
    assert guess(str(folder)).part == Part("data/formats", "xm3600", {"path": str(folder)})
    source = xm3600(folder)
    first = source.read(0)
    assert first.key == f"{0:016x}" and source.name.startswith("xm3600")
    assert [(c.language, c.text) for c in first.captions] == [
        ("en", "red beside green"),
        ("en", "red left of green"),
        ("de", "rot neben grün"),
        ("fr", "rouge et vert"),
    ]
    assert dict(source.texts())[first.key] == first.captions
    german = xm3600(folder, languages=("de",))
    assert all({c.language for c in captions} == {"de"} for _, captions in german.texts())
    assert len(xm3600(folder, languages=("fr",))) == 3


def test_broken_rows_and_missing_photos_are_counted(miniature):
    folder = miniature("xm3600")
    lines = (folder / "captions.jsonl").read_text().split("\n")
    lines[1] = json.dumps({"image/key": "../x", "en": {"caption": ["a"]}})
    lines[2] = json.dumps({"image/key": f"{2:016x}", "en": {"caption": [3, " "]}, "de": 4})
    lines.append(lines[0])
    lines.append("[" * 100_000)
    (folder / "captions.jsonl").write_text("\n".join(lines))
    (folder / "images" / f"{5:016x}.jpg").unlink()
    source = xm3600(folder)
    assert len(source) == 24 - 3
    assert left_out(source) == {
        kinds.ROW_FORM: 1,
        kinds.CAPTION_NO_TEXT: 1,
        kinds.CAPTION_EMPTY: 1,
        kinds.IMAGE_WITHOUT_CAPTION: 1,
        kinds.KEY_TWICE: 1,
        kinds.ROW_NO_JSON: 1,
        kinds.IMAGE_MISSING: 1,
    }


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_table_says_the_language_of_each_row(suffix, tmp_path, picture):
    rows = [("0.png", "de", "ein Hund"), ("0.png", "en", "a dog"), ("1.png", "", "nobody said")]
    for name in {name for name, _, _ in rows}:
        (tmp_path / name).write_bytes(picture())
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("\n".join(["image,lang,caption", *(",".join(row) for row in rows)]))
    else:
        named = [dict(zip(("image", "lang", "caption"), row, strict=True)) for row in rows]
        path.write_text("\n".join(map(json.dumps, named)))
    options = {"path": str(path), "image": "image", "language": "lang"}
    source = open_source(Part("data/formats", "table", options))
    assert [source.read(n).captions[0].language for n in range(3)] == ["de", "en", ""]
    assert [c[0].language for _, c in source.texts()] == ["de", "en", ""]
    wrong = Part("data/formats", "table", {**options, "language": "lan"})
    with pytest.raises(DataError, match="lan"):
        open_source(wrong)
