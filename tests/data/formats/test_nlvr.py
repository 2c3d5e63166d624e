"""NLVR: the corpus's own files with six orders, and tables; labels are fields."""

from __future__ import annotations

import json

import pytest

from lift.config import Part
from lift.data.source import left_out, open_source
from lift.errors import ConfigError, DataError


def sentences(path, **options):
    return open_source(Part("data/formats", "nlvr", {"path": str(path), **options}))


def example(**values):
    return {"sentence": "It is .", "identifier": "3-1", "directory": "0", "label": "true"} | values


@pytest.fixture
def folder(tmp_path, picture):
    (tmp_path / "images" / "0").mkdir(parents=True)
    for order in range(6):
        (tmp_path / "images" / "0" / f"dev-3-1-{order}.png").write_bytes(picture())
    return tmp_path


def write(folder, *examples):
    (folder / "dev.json").write_text("\n".join(map(json.dumps, examples)) + "\n")


def test_every_order_is_a_sample(folder):
    write(folder, example(), example(identifier="3-2", directory=0, label=False))
    source = sentences(folder)
    assert len(source) == 6 and left_out(source) == {"image missing": 6}
    sample = source.read(2)
    assert sample.key == "dev-3-1-2.png" and sample.captions[0][:2] == ("It is .", "sentence")
    wanted = {"identifier": "3-1", "directory": "0", "label": "true", "order": "2"}
    assert dict(sample.fields) == wanted
    assert len(sentences(folder / "dev.json", orders=1)) == 1


def test_the_real_table(shared_data):
    source = sentences(shared_data / "nlvr" / "dev.parquet", key="key")
    assert len(source) == 1978
    sample = source.read(5)
    assert sample.captions[0].role == "sentence" and sample.fields["label"] in ("true", "false")
    assert sample.key.startswith("dev-") and "sentence" in sample.fields


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (example(sentence=""), "has an empty caption"),
        (example(label=None), "line 1, has no label"),
        (example(directory="../.."), "line 1, has no directory"),
        (example(identifier="\0"), "line 1, has no identifier"),
        ([], "line 1, has no identifier"),
    ],
)
def test_other_forms_are_refused(folder, entry, sentence):
    write(folder, entry)
    with pytest.raises(DataError, match=sentence):
        sentences(folder)


def test_what_is_wrong_is_said(folder, tmp_path):
    (folder / "dev.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="line 1, is not JSON"):
        sentences(folder)
    (folder / "test.json").write_text("{}")
    with pytest.raises(DataError, match="several files to read"):
        sentences(folder)
    with pytest.raises(DataError, match=r"No SPLIT\.json is in"):
        sentences(folder / "images")
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "nlvr"))
    with pytest.raises(DataError, match="is not an ordinary file"):
        sentences(folder / "nowhere.json")
    with pytest.raises(ConfigError, match="orders must be from 1 to 6"):
        sentences(folder, orders=7)
    row = {"image": "images/0/dev-3-1-0.png", "sentence": "It is .", "label": None}
    (folder / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="says nothing in 'label'"):
        sentences(folder / "rows.jsonl").read(0)
