"""From words to pairs, and the sentence for words that name none."""

from __future__ import annotations

import json

import pytest

from lift.config import Part
from lift.data.source import Captions, guess, open_source, parse_part
from lift.errors import ConfigError, DataError

ROOM = "data/formats"


@pytest.mark.parametrize(
    "words, name, options",
    [
        ("scenes", "scenes", {}),
        ("scenes:count=500,seed=3", "scenes", {"count": 500, "seed": 3}),
        ("table:a/b.csv", "table", {"path": "a/b.csv"}),
        ("table:path=x.csv,caption=a+b", "table", {"path": "x.csv", "caption": ["a", "b"]}),
        ("table:c++.csv,key=sku", "table", {"path": "c++.csv", "key": "sku"}),
        ("table:path=a+b.csv", "table", {"path": "a+b.csv"}),
        ('table:x.csv,caption=["a","b,c"]', "table", {"path": "x.csv", "caption": ["a", "b,c"]}),
        ("table:x.csv,quote=false", "table", {"path": "x.csv", "quote": False}),
        ("webdataset:/a=b/x-{0..3}.tar", "webdataset", {"path": "/a=b/x-{0..3}.tar"}),
        ("webdataset:x-{a,b}.tar", "webdataset", {"path": "x-{a,b}.tar"}),
        ("webdataset:path=x-[01].tar", "webdataset", {"path": "x-[01].tar"}),
    ],
)
def test_shorthand(words, name, options):
    assert parse_part(ROOM, words) == Part(ROOM, name, options)
    assert guess(words) == Part(ROOM, name, options)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("scens", "Unknown data format 'scens'. Did you mean 'scenes'"),
        ("scenes:cuont=5", "'cuont'. Did you mean 'count'"),
        ("scenes:count=many", "must be int, not 'many'"),
        ("scenes:5", "'5' in 'scenes:5' is not an option"),
        ("table:x.csv,y", "'y' in .* is not an option"),
        ("table:x.csv,caption=1", "caption must be"),
    ],
)
def test_wrong_shorthand(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_part(ROOM, words)


@pytest.mark.parametrize(
    "words, layout",
    [
        ("train-*.tar", "webdataset"),
        ("a/x-{0000..0003}.tar", "webdataset"),
        ("pairs.csv", "table"),
        ("pairs.tsv", "table"),
        ("pairs.jsonl", "table"),
        ("/far/away/part-*.parquet", "table"),
    ],
)
def test_suffixes_tell_the_layout(words, layout):
    assert guess(words) == Part(ROOM, layout, {"path": words})


@pytest.mark.parametrize("words", ["photos", "x.tar.gz", "x.json", "", "a/b/"])
def test_words_that_tell_nothing(words):
    with pytest.raises(ConfigError, match=r"end the path in one of \.tar, .*or write FORMAT:path="):
        guess(words)


@pytest.mark.parametrize("words", ["tabel:path=x.csv", "tabel:x.csv", "tabel:x"])
def test_unknown_formats_get_the_nearest_name(words):
    with pytest.raises(ConfigError, match=r"Unknown data format 'tabel'. Did you mean 'table'"):
        guess(words)


def test_a_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b.jsonl").write_text(json.dumps({"image": "x", "caption": "y"}))
    assert guess("a:b.jsonl").options == {"path": "a:b.jsonl"}
    source = open_source("a:b.jsonl")
    assert len(source) == 1 and source.name == f"{tmp_path.name}/a:b.jsonl"


def test_open_takes_parts_and_words():
    by_words = open_source("scenes:count=3")
    by_part = open_source(Part(ROOM, "scenes", {"count": 3}))
    assert list(by_words.texts()) == list(by_part.texts())
    with pytest.raises(DataError, match="holds no samples"):
        open_source("scenes:count=0")


def test_captions_of_several_sources_in_order():
    sources = [open_source("scenes:count=3"), open_source("scenes:count=2,start=9")]
    texts = Captions(sources)
    expected = [c.text for s in sources for _, captions in s.texts() for c in captions]
    assert list(texts) == expected == list(texts) and len(texts) == len(expected)
