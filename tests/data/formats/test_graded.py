"""Graded pairs: items of several rows, images and texts, and judgements that are no pairs."""

from __future__ import annotations

import json
import pickle
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.formats import _judgements, _text_rows
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError

KINDS = ("csv", "tsv", "jsonl", "parquet")


def graded(folder, judged="judged.jsonl", items="items.jsonl", **options) -> Any:
    options = {"path": str(folder / judged), "items": str(folder / items), **options}
    return open_source(Part("data/formats", "graded", options))


def write(path, rows, **more):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, **more)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [list(rows[0]), *[list(row.values()) for row in rows]]
        path.write_text("".join(mark.join(map(str, line)) + "\n" for line in lines))


def judged(*triples):
    return [{"query": q, "item": i, "grade": g} for q, i, g in triples]


@pytest.fixture
def shop(tmp_path, picture):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    items = [{"item": f"i{n}", "image": f"{n}.png", "title": f"shoe {n}"} for n in range(4)]
    write(tmp_path / "items.jsonl", items)
    write(
        tmp_path / "judged.jsonl",
        judged(("red shoe", "i1", 4), ("boot", "i0", 1), ("shoe", "i1", 2), ("boot", "i3", 0)),
    )
    return tmp_path


def told(source) -> dict[str, list[tuple[str, str, float]]]:
    return {key: [tuple(c[:3]) for c in captions] for key, captions in source.texts()}


@pytest.mark.parametrize("kind", KINDS)
def test_queries_are_captions_with_their_grades(shop, picture, kind):
    for name in ("items", "judged"):
        rows = [json.loads(line) for line in (shop / f"{name}.jsonl").read_text().splitlines()]
        write(shop / f"{name}.{kind}", rows)
    source = graded(shop, f"judged.{kind}", f"items.{kind}", text="title:raw")
    assert told(source) == {
        "i0": [("shoe 0", "raw", 1.0), ("boot", "query", 0.25)],
        "i1": [("shoe 1", "raw", 1.0), ("red shoe", "query", 1.0), ("shoe", "query", 0.5)],
        "i2": [("shoe 2", "raw", 1.0)],
        "i3": [("shoe 3", "raw", 1.0)],
    }
    assert source.counters == {"judgement that is no positive": 1}
    for number in range(4):
        assert source.read(number).image == picture(number)
        assert [tuple(c[:3]) for c in source.read(number).captions] == told(source)[f"i{number}"]
    assert (source.window_samples is None) == (kind != "parquet")
    copy = pickle.loads(pickle.dumps(source))
    assert told(copy) == told(source) and copy.read(3).image == picture(3)


def test_items_without_a_query_are_no_samples(shop):
    source = graded(shop)
    assert list(told(source)) == ["i0", "i1"] and source.groups == (2,)
    assert source.counters["item without a judgement or text"] == 2
    assert "'i2'" in source.examples["item without a judgement or text"]
    assert source.read(1).fields == {"title": "shoe 1"}
    with pytest.raises(BrokenSample, match="'i2' is an item without a judgement"):
        graded(shop, strict=True)


def test_weights(shop):
    assert [c[2] for c in told(graded(shop, scale=False))["i1"]] == [4.0, 2.0]
    source = graded(shop, min_grade=2)
    assert list(told(source)) == ["i1"] and source.counters["judgement that is no positive"] == 2
    assert [c[2] for c in told(graded(shop, grade=None))["i1"]] == [1.0, 1.0]
    assert "i3" in told(graded(shop, grade=None))
    with pytest.raises(DataError, match=r"column of .*judged.jsonl: 'grad'. Did you mean 'grade'"):
        graded(shop, grade="grad")


def test_items_of_several_rows_images_and_texts(shop, picture):
    items = [
        {"item": "a", "image": ["0.png", "1.png"], "title": ["one", "two"], "more": "x"},
        {"item": "b", "image": "2.png", "title": None},
        {"item": "a", "image": ["1.png", "3.png"], "title": "three"},
        {"item": "c", "image": None, "title": "no picture"},
        {"item": "a", "image": "4.png", "title": "one"},
        {"item": None, "image": "5.png", "title": "no name"},
    ]
    write(shop / "items.jsonl", items)
    write(shop / "judged.jsonl", judged(("q", "a", 3), ("r", "b", 1), ("s", "c", 1)))
    source = graded(shop, text="title")
    captions = [("one", "title", 1), ("two", "title", 1), ("three", "title", 1), ("q", "query", 1)]
    assert told(source) == {
        "a": captions,
        "a/2": captions,
        "b": [("r", "query", 1 / 3)],
        "a/3": captions,
        "a/4": captions,
    }
    pictures = [source.read(n).image for n in range(5)]
    assert pictures == [picture(n) for n in (0, 1, 2, 3, 4)]
    assert source.counters == {
        "without a key": 1,
        "image of an item given twice": 1,
        "item without an image": 1,
    }
    assert "'c'" in source.examples["item without an image"]


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_with_bytes_by_row_group(shop, picture, struct):
    def cell(number):
        return {"bytes": picture(number), "path": None} if struct else picture(number)

    items = [{"item": n, "image": [cell(n), cell(n), cell(n + 1)]} for n in range(5)]
    write(shop / "items.parquet", items, row_group_size=2)
    write(shop / "judged.csv", judged(*[(f"q {n}", n, n) for n in range(1, 5)]))
    source = graded(shop, "judged.csv", "items.parquet")
    assert source.groups == (2, 4, 2) and source.window_samples is not None
    assert list(told(source)) == [f"{n}{more}" for n in range(1, 5) for more in ("", "/2")]
    for number, key in enumerate(told(source)):
        sample = source.read(number)
        assert sample.key == key and sample.captions[0].text == f"q {key[0]}"
        assert sample.image == picture(int(key[0]) + ("/" in key))


def test_a_folder_of_images_is_a_table_of_items(tmp_path, picture):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.x.png", "a.JPG", "c.webp", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(picture(len(name)))
    write(tmp_path / "judged.tsv", judged(("q", "b.x", 1), ("r", "a", 1), ("s", "notes", 1)))
    source = graded(tmp_path, "judged.tsv", "photos")
    assert list(told(source)) == ["a", "b.x"]
    assert [source.read(n).image for n in range(2)] == [picture(5), picture(7)]
    assert source.counters == {
        "other file": 1,
        "judgement of an unknown item": 1,
        "item without a judgement or text": 1,
    }


BROKEN = [
    (("q", "i9", 1), "judgement of an unknown item"),
    (("q", None, 1), "judgement of an unknown item"),
    (("q", "i1", -1), "broken grade"),
    (("q", "i1", "nan"), "broken grade"),
    (("q", "i1", "inf"), "broken grade"),
    (("q", "i1", "good"), "broken grade"),
    (("q", "i1", None), "broken grade"),
    (("q", "i1", True), "broken grade"),
    (("  ", "i1", 1), "empty caption"),
    ((None, "i1", 1), "empty caption"),
    (("nul \0", "i1", 1), "caption with a NUL byte"),
    (("x" * 101, "i1", 1), "caption too long"),
]


@pytest.mark.parametrize("triple, kind", BROKEN, ids=str)
def test_broken_judgements_are_counted(shop, triple, kind):
    write(shop / "judged.jsonl", judged(("fine", "i0", 2), triple, ("fine", "i2", 1)))
    source = graded(shop, max_caption_chars=100)
    assert told(source) == {"i0": [("fine", "query", 1.0)], "i2": [("fine", "query", 0.5)]}
    assert source.counters[kind] == 1 and "judgement 1 of" in source.examples[kind]
    with pytest.raises(BrokenSample) as caught:
        graded(shop, max_caption_chars=100, strict=True)
    assert caught.value.kind == kind


def test_a_judgement_given_twice_counts_once(shop):
    write(shop / "judged.jsonl", judged(("q", "i0", 1), ("q", "i0", 4), ("q", "i1", 2)))
    source = graded(shop)
    assert told(source) == {"i0": [("q", "query", 0.5)], "i1": [("q", "query", 1.0)]}
    assert source.counters["judgement given twice"] == 1


def test_broken_texts_of_items_are_counted_and_the_item_stays(shop):
    items = [{"item": "i0", "image": "0.png", "title": t} for t in ("nul \0", "good", "  ")]
    write(shop / "items.jsonl", items)
    source = graded(shop, text="title")
    assert [c[0] for c in told(source)["i0"]] == ["good", "boot"]
    assert source.counters["caption with a NUL byte"] == source.counters["empty caption"] == 1


def test_keys_that_would_be_two_images(shop):
    items = [{"item": "i0/2", "image": "1.png"}, {"item": "i0", "image": ["0.png", "2.png"]}]
    write(shop / "items.jsonl", items)
    write(shop / "judged.jsonl", judged(("q", "i0", 1), ("r", "i0/2", 1)))
    source = graded(shop)
    assert list(told(source)) == ["i0/2", "i0"] and source.counters == {"duplicate key": 1}


def test_nothing_left_ends_with_the_reasons(shop):
    write(shop / "judged.jsonl", judged(("q", "i9", 1), ("r", "i8", 1)))
    with pytest.raises(DataError, match="holds no samples: 2 judgement of an unknown item"):
        graded(shop)
    with pytest.raises(ConfigError, match="min_grade"):
        graded(shop, min_grade=-1)


def test_images_stay_inside_and_in_bounds(shop):
    items = [{"item": "i0", "image": ["../x.png", "gone.png", "http://a/b.png", "0.png"]}]
    write(shop / "items.jsonl", items)
    kinds = []
    source = graded(shop, max_image_bytes=10)
    for number in range(4):
        with pytest.raises(BrokenSample, match="Sample i0") as caught:
            source.read(number)
        kinds.append(caught.value.kind)
    assert kinds == [
        "image path outside",
        "image missing",
        "image that is a URL",
        "image file too large",
    ]


def test_a_random_join_is_the_one_of_dictionaries(shop, monkeypatch):
    """Several pieces of every table, in an order that mixes the items."""
    monkeypatch.setattr(_judgements, "_PIECE", 64)
    monkeypatch.setattr(_text_rows, "CHUNK", 100)
    dice = random.Random(3)
    items = [
        {"item": f"i{dice.randrange(100)}", "image": f"{n}.png", "title": f"t{n % 7}"}
        for n in range(1_000)
    ]
    triples = dict.fromkeys(
        (f"q{dice.randrange(50)}", f"i{dice.randrange(120)}", 1 + n % 2) for n in range(9_000)
    )
    write(shop / "items.jsonl", items)
    write(shop / "judged.jsonl", judged(*triples))
    expected: dict[str, list] = {}
    known = {row["item"] for row in items}
    texts: dict[str, dict] = {}
    for row in items:
        texts.setdefault(row["item"], {})[row["title"], "title", 1.0] = None
    first: set[tuple[str, str]] = set()
    for query, item, grade in triples:
        if item in known and (query, item) not in first:
            first.add((query, item))
            texts[item][query, "query", grade / 2] = None
    seen: dict[str, int] = {}
    for row in items:
        seen[row["item"]] = number = seen.get(row["item"], 0) + 1
        key = row["item"] if number == 1 else f"{row['item']}/{number}"
        expected[key] = list(texts[row["item"]])
    assert told(graded(shop, text="title")) == expected


def test_judgements_without_an_item_are_counted_beside_items_without_a_name(shop):
    items = [{"item": None, "image": "0.png"}, {"item": "i1", "image": "1.png"}]
    write(shop / "items.jsonl", items)
    write(shop / "judged.jsonl", judged(("shoe", "i1", 1), ("boot", None, 1)))
    source = graded(shop)
    assert told(source) == {"i1": [("shoe", "query", 1.0)]}
    assert source.counters == {"judgement of an unknown item": 1, "without a key": 1}
