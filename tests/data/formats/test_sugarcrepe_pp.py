"""SugarCrepe++'s files: two captions and a foil are one question, other captions lie beside."""

from __future__ import annotations

import json

import pytest

from lift.config import Part
from lift.data.source import left_out, open_source
from lift.errors import DataError
from lift.terms import Caption, Foil


def questions(path, **options):
    return open_source(Part("data/formats", "sugarcrepe_pp", {"path": str(path), **options}))


def entry(**values):
    return {
        "id": 0,
        "filename": "x.png",
        "caption": "a dog",
        "caption2": "one dog",
        "negative_caption": "a cat",
    } | values


@pytest.fixture
def folder(tmp_path, picture):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "x.png").write_bytes(picture())
    (tmp_path / "data").mkdir()
    asked = [entry(), entry(caption=" a dog ", caption2="a dog", negative_caption="no dog")]
    (tmp_path / "data" / "replace_obj.json").write_text(json.dumps(asked))
    return tmp_path


@pytest.mark.parametrize("below", ["", "data"])
def test_both_captions_are_asked_at_once(folder, below):
    sample = questions(folder / below).read(0)
    kind, first, second = "replace_obj", "replace_obj/0", "replace_obj/1"
    assert sample.key == "x.png" and sample.foils == (
        Foil(kind, "a dog", "a cat", first),
        Foil(kind, "one dog", "a cat", first),
        Foil(kind, "a dog", "no dog", second),
        Foil(kind, "a dog", "no dog", second),
    )
    assert sample.captions == (Caption("a dog"), Caption("one dog"))
    assert questions(folder / below).name.startswith("sugarcrepe_pp (")


def test_captions_of_coco_stand_behind(folder):
    photos = [{"id": 7, "file_name": "x.png"}, {"id": 8, "file_name": "y.png"}]
    told = [
        {"image_id": 7, "caption": "a dog"},
        {"image_id": 7, "caption": "it barks"},
        {"image_id": 8, "caption": "another photo"},
        {"image_id": 7, "caption": " "},
        {"image_id": 7},
    ]
    (folder / "annotations").mkdir()
    beside = folder / "annotations" / "captions_val2017.json"
    beside.write_text(json.dumps({"annotations": told, "images": photos}))
    source = questions(folder)
    wanted = (Caption("a dog"), Caption("one dog"), Caption("it barks", "caption"))
    assert source.read(0).captions == wanted
    assert sum(left_out(source).values()) == 2  # the empty one, and the one that is none
    assert len(questions(folder, captions="").read(0).captions) == 2
    elsewhere = folder / "own.json"
    elsewhere.write_text(json.dumps([{"file_name": "x.png", "captions": ["it sits"]}]))
    given = questions(folder, captions=str(elsewhere))
    assert given.read(0).captions[-1] == Caption("it sits", "caption")
    with pytest.raises(DataError, match="is no file of captions"):
        questions(folder, captions=str(folder / "nowhere.json"))
    beside.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        questions(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1]", "question 0 is no object|question '0' is no object"),
        ("3", "lists no questions"),
        (json.dumps([entry(filename=3)]), "question '0' lacks its filename"),
        (json.dumps([entry(caption2=None)]), "lacks one of caption, caption2"),
        (json.dumps({"9": entry(caption2=" ")}), "9 of swap_att.json has an empty caption"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_other_forms_are_refused(folder, content, sentence):
    (folder / "data" / "swap_att.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        questions(folder)


def test_nothing_there(folder, tmp_path):
    with pytest.raises(DataError, match=r"No KIND\.json is in"):
        questions(tmp_path / "val2017")
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "sugarcrepe_pp"))
