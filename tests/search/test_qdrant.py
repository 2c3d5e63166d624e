"""Qdrant, for real, in its local mode: points stay, odd payloads, what killed writers leave."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from databases import MAKERS, Row, opened
from lift.config import Part
from lift.errors import ConfigError, ServerError
from lift.search.filters import Filter
from lift.search.stores._store import Entry

ROWS = [
    Row(n, f"text {n}", np.eye(8, dtype=np.float32)[n % 8], {"n": n, "tags": ["a", "b"]})
    for n in range(12)
]
Z = np.eye(8, dtype=np.float32)


def part(folder: str, **options) -> Part:
    return Part("search/stores", "qdrant", {"url": folder, "table": "texts", **options})


def entry(key: str, count: int) -> Entry:
    return Entry(key=key, rows=Z[:count], digests=("00",) * count, facts={"n": count})


@pytest.fixture
def folder(tmp_path):
    MAKERS["qdrant"](str(tmp_path / "db"), ROWS)
    return str(tmp_path / "db")


def points(folder: str) -> list:
    client = QdrantClient(path=folder)
    found = client.scroll("texts", limit=100, with_payload=True, with_vectors=True)[0]
    client.close()
    return found


def test_text_points_stay_as_they_are(folder):
    before = points(folder)
    store = opened(part(folder))
    store.prepare({"model": "m"}, 8)
    store.put([entry("a", 3), entry("b", 1)])
    store.delete(["a"])
    store.near_texts(Z[0], 5, Filter.parse("n>3"))
    store.close()
    assert points(folder) == before


def test_named_vectors_and_nested_facts(tmp_path):
    client = QdrantClient(path=str(tmp_path / "db"))
    params = q.VectorParams(size=8, distance=q.Distance.COSINE)
    client.create_collection("texts", vectors_config={"title": params, "body": params})
    ids = ["5c56c793-69f3-4fbf-87e6-c4bf54c28c26", 3]
    client.upsert(
        "texts",
        [
            q.PointStruct(
                id=one,
                vector={"title": Z[7].tolist(), "body": Z[n].tolist()},
                payload={
                    "page_content": f"words {n}",
                    "title": "x",
                    "metadata": {"a.b": n, "deep": {"x": 1}, 'qu"ote': 1},
                    'odd"': {"x": 2},
                },
            )
            for n, one in enumerate(ids)
        ],
    )
    client.close()
    with pytest.raises(ConfigError, match="title, body"):
        opened(part(str(tmp_path / "db")))
    store = opened(part(str(tmp_path / "db"), vector="body"))
    assert store.layout().text == "page_content"
    assert [near.item for near in store.near_texts(Z[0], 1)] == [ids[0]]
    assert [near.item for near in store.near_texts(Z[0], 9, Filter.parse("a.b=1"))] == ["3"]
    assert store.count_texts(Filter.parse("x=1")) == 0
    assert store.texts([ids[0], "3", "4"], rows=True)[ids[0]].facts == {
        **{"title": "x", "a.b": 0, 'qu"ote': 1}
    }
    store.close()


def test_what_a_killed_writer_left_counts_nowhere_and_goes(folder):
    store = opened(part(folder))
    store.prepare({"model": "m"}, 8)
    store.put([entry("a", 2)])
    with store._client.asked() as client:  # images without a record, as a kill leaves them
        stray = [
            q.PointStruct(
                id=n, vector=Z[n].tolist(), payload={**told, "asked": {}, "number": 0, "order": 0}
            )
            for n, told in enumerate(
                [
                    {"key": "a", "item": "a", "generation": "other"},
                    {"key": "c", "item": "c", "generation": "other"},
                ]
            )
        ]
        client.upsert("texts_lift_images", stray)
        assert client.count("texts_lift_images").count == 4
    assert {near.key for near in store.near_images(Z[0], 9)} == {"a"}
    assert len(store.near_images(Z[0], 9)) == 2 and store.images_of(["c"]) == {}
    store.prepare({"model": "m"}, 8)
    with store._client.asked() as client:
        assert client.count("texts_lift_images").count == 2
    store.close()


def test_lists_are_no_facts(folder):
    store = opened(part(folder))
    assert store.browse_texts(0, 1)[0].facts == {"n": 0}
    assert store.near_texts(Z[0], 9, Filter.parse("tags=a")) == []
    store.close()


# The client leaves the file of its lock open where another has it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_databases_that_do_not_answer_are_told(folder, monkeypatch):
    with pytest.raises(ConfigError, match="no collection 'none'"):
        opened(part(folder, table="none"))
    store = opened(part(folder))
    with pytest.raises(ServerError, match="already accessed"):
        opened(part(folder))
    store.close()
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1"):
        opened(part("http://127.0.0.1:1"))
    monkeypatch.setenv("QDRANT_API_KEY", "hunter2")
    for url in ("http://me:hunter2@127.0.0.1:1", "http://127.0.0.1:1?api_key=hunter2", "http://[x"):
        with pytest.raises(ConfigError) as told:
            opened(part(url))
        assert "hunter2" not in str(told.value)
    with pytest.raises(ConfigError, match="http or https"):
        opened(part("ftp://host"))


def test_a_folder_that_is_no_database_stays_as_it_is(tmp_path):
    for path in (tmp_path, tmp_path / "localhost:5432"):
        with pytest.raises(ConfigError, match="holds no local Qdrant"):
            opened(part(str(path)))
    assert not list(tmp_path.iterdir())


def test_what_is_too_much_for_one_request_is_written_in_several(folder, monkeypatch):
    monkeypatch.setattr("lift.search.stores._qdrant_images._AT_ONCE", 300)
    store = opened(part(folder))
    store.prepare({"model": "m"}, 8)
    store.put([entry(f"k{n}", 1 + n % 3) for n in range(9)])
    assert [len(store.images_of([f"k{n}"])[f"k{n}"]) for n in range(9)] == [1, 2, 3] * 3
    assert len(store.near_images(Z[0], 99)) == 18
    store.close()


def test_metrics_that_have_no_cosine_are_refused(tmp_path):
    client = QdrantClient(path=str(tmp_path / "db"))
    client.create_collection(
        "texts", vectors_config=q.VectorParams(size=8, distance=q.Distance.MANHATTAN)
    )
    client.close()
    with pytest.raises(ConfigError, match="Manhattan"):
        opened(part(str(tmp_path / "db")))
