"""Captions without images, in every kind of file, and what is refused."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import part
from lift.data.source import open_source
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Source

TEXTS = ["a dog", "two, with a comma", '"quoted"', "Café 犬", "a dog"]
ROOM = "data/formats"


def files(folder):
    lines = "".join(f"{text}\n" for text in TEXTS)
    rows = [{"id": i // 2, "caption": text} for i, text in enumerate(TEXTS)]
    jsonl = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "a.txt").write_text(lines, encoding="utf-8")
    (folder / "a.txt.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "a.jsonl").write_text(jsonl)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(jsonl.encode()))
    table = pa.table({"id": [row["id"] for row in rows], "caption": TEXTS})
    pq.write_table(table, folder / "a.parquet")
    pa.csv.write_csv(table, folder / "a.csv")
    np.save(folder / "a.npy", np.array(TEXTS))


@pytest.mark.parametrize(
    "name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.csv", "a.npy"]
)
def test_every_kind_of_file(tmp_path, name):
    files(tmp_path)
    source = open_source(f"texts:path={tmp_path / name},role=long")
    assert isinstance(source, Source) and len(source) == 5 and source.groups == (5,)
    found = list(source.texts())
    assert found == [("", (Caption(text, "long"),)) for text in TEXTS] == list(source.texts())
    with pytest.raises(DataError, match="holds texts without images"):
        source.read(0)


def test_keys_link_texts_to_images(tmp_path):
    files(tmp_path)
    for name in ("a.jsonl.gz", "a.parquet", "a.csv"):
        source = open_source(f"texts:path={tmp_path / name},key=id")
        assert [key for key, _ in source.texts()] == ["0", "0", "1", "1", "2"]
    with pytest.raises(ConfigError, match=r"column of .*a\.csv"):
        list(open_source(f"texts:path={tmp_path / 'a.csv'},key=nope").texts())


@pytest.mark.parametrize("option", ["key", "column"])
def test_a_column_of_lines_is_refused(tmp_path, option):
    files(tmp_path)
    for name in ("a.txt", "a.txt.gz", "a.npy"):
        with pytest.raises(ConfigError, match=r"has no columns.*'caption'"):
            open_source(f"texts:path={tmp_path / name},{option}=caption")


def test_suffixes_tell_the_format(tmp_path):
    files(tmp_path)
    for name in ("a.txt", "a.txt.gz", "a.jsonl.gz"):
        assert len(open_source(str(tmp_path / name))) == 5


def test_empty_texts_are_counted(tmp_path):
    (tmp_path / "b.txt").write_text("a\n\n  \nb\n")
    source = open_source(str(tmp_path / "b.txt"))
    assert [captions[0].text for _, captions in source.texts()] == ["a", "b"]
    assert source.counters == {"empty caption": 2}


def test_damage_is_one_sentence(tmp_path):
    files(tmp_path)
    whole = (tmp_path / "a.txt.gz").read_bytes()
    (tmp_path / "a.txt.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"a\.txt\.gz can't be read"):
        open_source(part(ROOM, "texts", path=str(tmp_path / "a.txt.gz")))
    (tmp_path / "c.jsonl").write_text('{"id": null, "caption": "a"}\n')
    with pytest.raises(DataError, match="a text without a value in 'id'"):
        list(open_source(f"texts:path={tmp_path / 'c.jsonl'},key=id").texts())
    (tmp_path / "d.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no samples"):
        open_source(str(tmp_path / "d.txt"))


def test_texts_with_a_nul_byte_are_counted(tmp_path):
    (tmp_path / "b.txt").write_text("a\nb\0c\nd\n")
    source = open_source(str(tmp_path / "b.txt"))
    assert [captions[0].text for _, captions in source.texts()] == ["a", "d"]
    assert source.counters == {"empty caption": 0, "caption with a NUL byte": 1}


@pytest.mark.parametrize(
    "row", ['{"caption": "\\ud800", "id": "a"}', '{"caption": "x", "id": "\\udfff"}']
)
def test_half_pairs_are_refused(tmp_path, row):
    (tmp_path / "b.jsonl").write_text(row)
    with pytest.raises(DataError, match=r"b\.jsonl, line 1: .*is not valid Unicode"):
        list(open_source(f"texts:path={tmp_path / 'b.jsonl'},key=id").texts())
    np.save(tmp_path / "b.npy", np.array(["a", "\ud800"]))
    with pytest.raises(DataError, match="not valid Unicode"):
        list(open_source(f"texts:path={tmp_path / 'b.npy'}").texts())
