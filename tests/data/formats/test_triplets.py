"""Own questions in tables: one question a row or a column, or every pair alone."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Caption


def asked(path, **options):
    return open_source(Part("data/formats", "triplets", {"path": str(path), **options}))


def write(folder, kind, rows):
    path = folder / f"asked.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        lines = [",".join(rows[0])]
        lines += [",".join('"' + _cell(v) + '"' for v in row.values()) for row in rows]
        path.write_text("\n".join(lines))
    return path


def _cell(value):
    spelled = value if isinstance(value, str) else json.dumps(value)
    return spelled.replace('"', '""')


@pytest.fixture
def folder(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture())
    return tmp_path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_row_is_one_question(folder, kind):
    rows = [
        {"image": "a.png", "caption": "a dog", "foil": ["a cat", "a cow"], "kind": "animal"},
        {"image": "a.png", "caption": "it runs", "foil": ["it sits"], "kind": "verb"},
    ]
    path = write(folder, kind, rows)
    source = asked(path, kind="kind")
    assert [tuple(foil) for foil in source.read(0).foils] == [
        ("animal", "a dog", "a cat", "row"),
        ("animal", "a dog", "a cow", "row"),
    ]
    assert source.read(1).captions == (Caption("it runs"),)
    assert [tuple(f) for f in source.read(1).foils] == [("verb", "it runs", "it sits", "row")]
    alone = asked(path, kind="kind", together=False)
    assert {foil.group for foil in alone.read(0).foils} == {""}


def test_columns_of_foils_are_kinds(folder):
    row = {"image": "a.png", "right": ["a dog", "one dog"], "swap": "dog a", "add": None}
    rows = [row | {"more": "it barks", "id": "x"}, row | {"add": "a red dog", "id": "y"}]
    rows[1]["more"] = "it bites"
    path = write(folder, "jsonl", rows)
    options = {"caption": "right", "foil": ("swap", "add"), "captions": "more", "key": "id"}
    source = asked(path, **options)
    assert [key for key, _ in source.texts()] == ["x", "y"]
    first, second = source.read(0), source.read(1)
    assert [tuple(foil) for foil in first.foils] == [
        ("swap", "a dog", "dog a", "swap"),
        ("swap", "one dog", "dog a", "swap"),
    ]
    assert {foil.kind: foil.foil for foil in second.foils} == {"swap": "dog a", "add": "a red dog"}
    assert first.captions[2:] == (Caption("it barks", "more"),)


def test_what_is_wrong_is_said(folder):
    row = {"image": "a.png", "caption": "a dog", "foil": None}
    many = {"image": "a.png", "caption": "a", "foil": [str(n) for n in range(1001)]}
    source = asked(write(folder, "jsonl", [row, many]))
    with pytest.raises(BrokenSample, match="has no foil in foil"):
        source.read(0)
    with pytest.raises(BrokenSample, match="asks 1,001 pairs of texts"):
        source.read(1)
    with pytest.raises(DataError, match=r"column of .*'wrong'"):
        asked(folder / "asked.jsonl", foil="wrong")
    with pytest.raises(ConfigError, match="foil needs the name of at least one column"):
        asked(folder / "asked.jsonl", foil=())
    with pytest.raises(ConfigError, match="memory_mb must be above 0"):
        asked(folder / "asked.jsonl", memory_mb=0)
