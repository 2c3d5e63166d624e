"""SugarCrepe's files: real questions on real photos, and files of another form."""

from __future__ import annotations

import json

import pytest

from lift.config import Part
from lift.data.image import decode
from lift.data.source import open_source
from lift.errors import DataError
from lift.terms import Foil


def questions(path, **options):
    return open_source(Part("data/formats", "sugarcrepe", {"path": str(path), **options}))


@pytest.fixture
def folder(tmp_path, picture):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").write_bytes(picture())
    entry = {"filename": "x.png", "caption": "a dog", "negative_caption": "a cat"}
    (tmp_path / "replace_obj.json").write_text(json.dumps({"7": entry}))
    return tmp_path


def test_every_real_question_is_there_once(shared_data):
    root = shared_data / "coco-sugarcrepe-mini"
    source = questions(root)
    raw = []
    for file in sorted((root / "sugarcrepe").glob("*.json")):
        for entry in json.loads(file.read_text()).values():
            words = (entry["caption"].strip(), entry["negative_caption"].strip())
            raw.append((entry["filename"], file.stem, *words))
    samples = [source.read(index) for index in range(len(source))]
    ours = [(s.key, f.kind, f.caption, f.foil) for s in samples for f in s.foils]
    assert sorted(ours) == sorted(raw) and len(raw) == 57
    for sample in samples:
        assert sample.image == (root / "images" / sample.key).read_bytes()
        asked = list(dict.fromkeys(f.caption for f in sample.foils))
        assert [c.text for c in sample.captions[: len(asked)]] == asked
        assert {c.role for c in sample.captions[: len(asked)]} == {"raw"}
        others = sample.captions[len(asked) :]
        assert {c.role for c in others} <= {"caption"} and len(sample.captions) >= 5
        assert len({c.text for c in sample.captions}) == len(sample.captions)
    alone = questions(root, captions="")
    assert [c.text for _, told in alone.texts() for c in told] == [
        text for s in samples for text in dict.fromkeys(f.caption for f in s.foils)
    ]
    assert decode(samples[0].image).shape[0] == 3
    assert "coco-sugarcrepe-mini" in source.name


def test_one_file_of_ours(folder):
    sample = questions(folder).read(0)
    assert sample.key == "x.png" and sample.foils == (Foil("replace_obj", "a dog", "a cat"),)
    elsewhere = questions(folder, images=str(folder / "images"))
    assert elsewhere.read(0) == sample


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("{", "is not JSON"),
        ("[1]", "question 0 is no object"),
        ('{"0": {"filename": "x.png", "caption": "a"}}', "question '0' lacks one of"),
        (
            '{"0": {"filename": "x.png", "caption": " ", "negative_caption": "b"}}',
            "0 of bad.json has an empty caption",
        ),
    ],
)
def test_other_forms_are_refused(folder, content, sentence):
    (folder / "bad.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        questions(folder)


def test_nothing_there(folder, tmp_path):
    with pytest.raises(DataError, match=r"No KIND\.json is in"):
        questions(tmp_path / "nowhere")
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "sugarcrepe"))
    with pytest.raises(DataError, match=r"No folder of photos at .*elsewhere"):
        questions(folder, images=str(folder / "elsewhere"))


def test_names_stay_inside_the_folder_of_photos(folder):
    entry = {"filename": "../secret.png", "caption": "a", "negative_caption": "b"}
    (folder / "secret.png").write_bytes(b"secret")
    (folder / "add_obj.json").write_text(json.dumps({"0": entry}))
    source = questions(folder)
    keys = [key for key, _ in source.texts()]
    with pytest.raises(DataError, match="lies outside"):
        source.read(keys.index("../secret.png"))


def test_a_photo_that_is_missing_or_too_large(folder):
    with pytest.raises(DataError, match=r"Sample x\.png: .*up to 10 are read"):
        questions(folder, max_image_bytes=10).read(0)
    (folder / "images" / "x.png").unlink()
    with pytest.raises(DataError, match=r"Sample x\.png: .*can't be read"):
        questions(folder).read(0)
