"""A selection as a source: its samples, its groups, its draws, and data that changed since."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lift.config import Part, to_dict
from lift.curation.selection import select
from lift.data.formats import _kept, selected
from lift.data.formats._kept import Kept
from lift.data.formats.selected import METADATA, Digest, Record, Selected
from lift.data.loader import require_rows
from lift.data.source import open_source
from lift.errors import ConfigError, DataError

SCENES = "scenes:count=50,resolution=32,short=1,long=0"


def write(path: Path, record: Record, rows: dict[str, Any], row_group: int = 1000) -> Path:
    said = json.dumps(to_dict(record)).encode()
    table = pa.table(rows).replace_schema_metadata({METADATA: said})
    pq.write_table(table, path, row_group_size=row_group)
    return path


def weighted(path: Path, weights: list[float], row_group: int = 7) -> Kept:
    record = Record(data="", name="x", samples=len(weights), digest="", weight="w")
    rows = {
        "number": np.arange(len(weights)),
        "key": [str(n) for n in range(len(weights))],
        "weight": np.array(weights, np.float32),
    }
    return Kept(write(path, record, rows, row_group), record)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return words for 2,300 pairs in groups of 1,000, 1,000 and 300."""
    out, path = io.BytesIO(), tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    Image.new("RGB", (5, 5), (9, 1, 1)).save(out, "PNG")
    rows = {
        "image": [out.getvalue()] * 2300,
        "caption": [f"thing {'x' * (n * 7 % 30)} {n}" for n in range(2300)],
        "id": [f"k{n}" for n in range(2300)],
    }
    pq.write_table(pa.table(rows), path, row_group_size=1000)
    return f"table:path={path},key=id"


@pytest.fixture
def kept(tmp_path: Path, pairs: str) -> Callable[..., Selected]:
    def make(words: str = pairs, **options: Any) -> Selected:
        path = tmp_path / "kept.parquet"
        select((words, open_source(words)), out=path, progress=False, **options)
        source = open_source(f"selected:{path}")
        assert isinstance(source, Selected)
        return source

    return make


def test_kept_samples_in_the_order_of_the_source(kept, pairs):
    source, inner = kept(where="chars > 24 and number < 2100"), open_source(pairs)
    wanted = [
        (key, captions)
        for number, (key, captions) in enumerate(inner.texts())
        if len(captions[0].text) > 24 and number < 2100
    ]
    assert list(source.texts()) == wanted and 100 < len(wanted) < 2100
    assert [source.read(n).key for n in (0, 5, len(source) - 1)] == [
        wanted[0][0],
        wanted[5][0],
        wanted[-1][0],
    ]
    assert source.name == inner.name and source.clusters == () and source.slots == 0
    assert source.counters == {"not selected": 2300 - len(wanted)}
    assert "chars > 24" in source.examples["not selected"]


def test_groups_are_those_of_the_source_without_empty_ones(kept):
    source = kept(where="number < 10 or number >= 2000")
    assert source.groups == (10, 300)
    assert kept(SCENES).window_samples is None


def test_groups_and_windows_follow_the_inner_source(kept, monkeypatch):
    source = kept(where="number in (1, 1000, 1001, 2299)")
    assert source.groups == (1, 2, 1)
    told: list[list[int]] = []
    monkeypatch.setattr(source._inner, "ahead", told.append, raising=False)
    monkeypatch.setattr(source._inner, "window_samples", 1150, raising=False)
    monkeypatch.setattr(source._inner, "promise", lambda: "soon", raising=False)
    source.ahead([2, 0])
    assert told == [[2, 0]] and source.promise() == "soon"
    assert source.window_samples == 2  # as many groups as before, which hold fewer samples
    only = kept(where="number > 1999")
    monkeypatch.setattr(only._inner, "ahead", told.append, raising=False)
    only.ahead([0])
    assert told[-1] == [2]


def test_clusters_are_runs_and_texts_have_their_order(kept, stored, monkeypatch):
    monkeypatch.setattr(selected, "_BLOCK", 10)
    words = SCENES
    source = kept(words, where="chars > 15", cache=stored(words), clusters=5)
    assert sum(source.clusters) == len(source) and len(source.clusters) == 5
    assert source.groups == (len(source),)
    told = list(source.texts())
    assert told == [(s.key, s.captions) for s in map(source.read, range(len(source)))]
    table = pq.read_table(source._config.path)
    runs = np.flatnonzero(np.diff(table.column("cluster").to_numpy())) + 1
    assert np.cumsum(source.clusters)[:-1].tolist() == runs.tolist()
    again = pickle.loads(pickle.dumps(source))
    assert list(again.texts()) == told and again.clusters == source.clusters


def test_runs_are_the_same_whatever_the_row_groups(tmp_path):
    cluster = np.repeat([0, 2, 3, 9], [5, 1, 12, 3])
    number = np.concatenate([np.arange(size) * 4 + c for c, size in enumerate([5, 1, 12, 3])])
    rows = {"number": number, "key": list(map(str, number)), "cluster": cluster.astype(np.int32)}
    record = Record(data="", name="x", samples=99, digest="", clusters=10)
    for size in (1, 2, 5, 6, 7, 100):
        found = Kept(write(tmp_path / "k.parquet", record, rows, size), record)
        assert found.clusters == (5, 1, 12, 3) and found.numbers.tolist() == number.tolist()


# --- weights ------------------------------------------------------------------------------------

weights = st.lists(
    st.one_of(
        st.integers(1, 4).map(float),
        st.floats(2**-10, 4, width=32),
        st.sampled_from([0.5, 0.25, 1.5, 1 / 3, 1e-6]),
    ),
    min_size=1,
    max_size=40,
).filter(lambda chosen: sum(map(np.float32, chosen)) >= 1.001)


@settings(max_examples=150, deadline=None)
@given(weights, st.integers(0, 2**31), st.integers(0, 50))
def test_every_sample_is_shown_floor_or_ceil_of_its_weight(
    tmp_path_factory, chosen: list[float], seed: int, epoch: int
) -> None:
    found = weighted(tmp_path_factory.mktemp("w") / "k.parquet", chosen)
    exact = np.array(chosen, np.float32).astype(np.float64)
    assert found.slots in (int(exact.sum()), int(exact.sum() + 1e-6))
    drawn = found.drawn(np.arange(found.slots), seed, epoch)
    assert (np.diff(drawn) >= 0).all()
    counts = np.bincount(drawn, minlength=len(exact))
    assert len(counts) == len(exact)
    assert (np.floor(exact) <= counts).all() and (counts <= np.ceil(exact)).all()
    few = found.drawn(np.array([found.slots - 1, 0]), seed, epoch)
    assert few.tolist() == [drawn[-1], drawn[0]]


def test_samples_are_shown_as_often_as_they_weigh(tmp_path):
    chosen = [0.5, 1.5, 0.25, 2.0, 0.75, 1.0]  # fractions add up to a whole number
    found = weighted(tmp_path / "k.parquet", chosen)
    counts = sum(
        np.bincount(found.drawn(np.arange(6), 0, epoch), minlength=6) for epoch in range(4000)
    )
    np.testing.assert_allclose(counts / 4000, chosen, atol=0.03)


def test_the_last_samples_are_shown_too_where_the_sum_is_not_whole(tmp_path):
    chosen = [1.5] * 9 + [0.1] * 9  # 14.4: nine samples lie in the last part of one
    found = weighted(tmp_path / "k.parquet", chosen)
    shown = {n for e in range(300) for n in found.drawn(np.arange(found.slots), 0, e).tolist()}
    assert shown == set(range(18)) and found.too_small == 0


def test_epochs_and_seeds_draw_otherwise(tmp_path):
    found = weighted(tmp_path / "k.parquet", [0.5] * 100)
    draws = {found.drawn(np.arange(50), seed, e).tobytes() for seed in (0, 1) for e in range(20)}
    assert len(draws) == 2


def test_slots_follow_the_groups(kept):
    source = kept(weight="1 + (number >= 1000) * 0.5")
    assert source.slots == 1000 + 1500 + 450 and source.groups == (1000, 1000, 300)
    assert source.slot_groups == (1000, 1500, 450)
    ends = np.cumsum(source.slot_groups)
    for epoch in range(5):
        drawn = source.drawn(np.arange(source.slots), 0, epoch)
        group = np.searchsorted(np.cumsum(source.groups), drawn, side="right")
        own = np.searchsorted(ends, np.arange(source.slots), side="right")
        assert (group != own).sum() <= 2
    again = pickle.loads(pickle.dumps(source))
    assert (again.drawn(np.arange(99), 1, 1) == source.drawn(np.arange(99), 1, 1)).all()


def test_weights_that_show_nothing_are_told(tmp_path):
    with pytest.raises(DataError, match=r"add up to 0\.5.*multiply"):
        weighted(tmp_path / "k.parquet", [0.25, 0.25])
    assert weighted(tmp_path / "k.parquet", [1, 2, 0.25, 0.25]).too_small == 2
    for wrong in (float("nan"), float("inf"), 0.0, -1.0):
        with pytest.raises(DataError, match="no number above 0"):
            weighted(tmp_path / "k.parquet", [1, wrong])


# --- what changed since, and what is no manifest ------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[list[str]], str]:
    def make(captions: list[str], first: int = 0) -> str:
        for number in range(len(captions)):
            out = io.BytesIO()
            Image.new("RGB", (5, 5), (number, 1, 1)).save(out, "PNG")
            (tmp_path / f"{number}.png").write_bytes(out.getvalue())
        lines = [
            json.dumps({"image": f"{n}.png", "caption": caption, "id": f"k{first + n}"})
            for n, caption in enumerate(captions)
        ]
        (tmp_path / "r.jsonl").write_text("\n".join(lines))
        return f"table:path={tmp_path}/r.jsonl,key=id"

    return make


def test_data_that_changed_is_refused(rows, kept, tmp_path):
    words = rows(["one", "two", "three"])
    kept(words, where="chars == 3")
    spec = f"selected:{tmp_path}/kept.parquet"
    rows(["one", "two", "four"])
    with pytest.raises(DataError, match="its keys or captions are others"):
        open_source(spec)
    assert len(list(open_source(f"{spec},check=false").texts())) == 2
    rows(["one", "two", "three"], first=1)
    unchecked = open_source(f"{spec},check=false")
    for broken in (lambda: unchecked.read(0), lambda: list(unchecked.texts())):
        with pytest.raises(DataError, match="sample 0 is 'k1' now"):
            broken()
    rows(["one", "two"])
    with pytest.raises(DataError, match="it had 3 samples and has 2"):
        open_source(f"{spec},check=false")


def test_data_that_lies_elsewhere_is_given_anew(rows, kept, tmp_path):
    words = rows(["one", "two", "three"])
    source = kept(words, where="chars == 3")
    (tmp_path / "moved").mkdir()
    for path in (*tmp_path.glob("*.png"), tmp_path / "r.jsonl"):
        path.rename(tmp_path / "moved" / path.name)
    spec = f"selected:path={tmp_path}/kept.parquet"
    with pytest.raises(DataError, match=r"can't be opened: .*data="):
        open_source(spec)
    again = open_source(f'{spec},data="table:path={tmp_path}/moved/r.jsonl,key=id"')
    assert [key for key, _ in again.texts()] == ["k0", "k1"] and len(source) == 2


def test_a_manifest_that_is_replaced_while_in_use_is_told(kept):
    source = kept(where="number < 9")
    packed = pickle.dumps(source)
    kept(where="number < 8")
    with pytest.raises(DataError, match="was replaced while it was in use"):
        pickle.loads(packed)


def test_a_selection_of_a_selection(kept, tmp_path):
    kept(where="number < 900 and number > 100")
    words, out = f"selected:path={tmp_path}/kept.parquet", tmp_path / "more.parquet"
    select((words, open_source(words)), out=out, where="number >= 700", progress=False)
    source = open_source(f"selected:{out}")
    assert source.read(0).key == "k801" and len(source) == 99


def test_a_part_opens_the_source_too(tmp_path):
    part = Part("data/formats", "scenes", {"count": 5, "resolution": 32})
    select((part, open_source(part)), out=tmp_path / "k.parquet", where="number > 2")
    assert len(open_source(f"selected:{tmp_path}/k.parquet")) == 2


def test_the_digest_is_that_of_the_loader(stored):
    source, digest = open_source("scenes:count=30,resolution=32"), Digest()
    for key, captions in source.texts():
        digest.add(key, captions)
    told = require_rows(source, stored("scenes:count=30,resolution=32"))
    assert digest.hexdigest() == told.digest


RECORD = Record(data="", name="x", samples=2300, digest="")
GOOD = {"number": [1, 5], "key": ["a", "b"]}


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        ({"number": [5, 1], "key": ["a", "b"]}, {}, "out of order"),
        ({"number": [1, 1], "key": ["a", "b"]}, {}, "twice"),
        ({"number": [1, 2300], "key": ["a", "b"]}, {}, "beyond the 2,300"),
        ({"number": [-1, 2], "key": ["a", "b"]}, {}, "beyond"),
        ({"number": [1, None], "key": ["a", "b"]}, {}, "lacks values of number, key"),
        ({"number": [1, 2]}, {}, "lacks values|can't be read"),
        ({"number": ["1", "2"], "key": ["a", "b"]}, {}, "number of another type"),
        ({"number": pa.array([], pa.int64()), "key": pa.array([], pa.string())}, {}, "no sample"),
        (GOOD, {"format": 2}, "format 2.*upgrade"),
        (GOOD, {"format": "x"}, "can't be read as a manifest"),
        (GOOD, {"digest": 3}, "can't be read as a manifest"),
        (GOOD, {"unheard": 3}, "can't be read as a manifest"),
        (GOOD, {"data": ""}, "give it with data="),
        (GOOD, {"data": {"room": "evals", "name": "zeroshot"}}, "no data"),
        (GOOD, {"clusters": 2}, "lacks values"),
        (GOOD, {"weight": "w"}, "lacks values"),
        (GOOD, {"samples": 7}, "it had 7 samples"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, pairs, rows, changes, sentence):
    path = tmp_path / "k.parquet"
    said = {**to_dict(RECORD), "data": pairs, **changes}
    table = pa.table(rows).replace_schema_metadata({METADATA: json.dumps(said).encode()})
    pq.write_table(table, path)
    with pytest.raises(DataError, match=sentence):
        open_source(f"selected:path={path},check=false")


def test_what_is_no_manifest_is_told(tmp_path):
    with pytest.raises(DataError, match="There is no manifest"):
        open_source(f"selected:{tmp_path}/none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match="can't be read as a manifest"):
        open_source(f"selected:{tmp_path}/text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is no manifest"):
        open_source(f"selected:{tmp_path}/other.parquet")
    with pytest.raises(ConfigError, match="needs the path"):
        open_source("selected")
    path = tmp_path / "self.parquet"
    record = Record(data=f"selected:{path}", name="x", samples=2, digest="")
    write(path, record, GOOD)
    with pytest.raises(DataError, match="a selection of itself"):
        open_source(f"selected:{path}")


def test_weights_of_many_samples_keep_their_promise(tmp_path):
    rng = np.random.default_rng(0)
    chosen = rng.uniform(0, 2, 200_000).astype(np.float32) + np.float32(1e-3)
    found = weighted(tmp_path / "k.parquet", chosen.tolist(), row_group=50_000)
    counts = np.bincount(found.drawn(np.arange(found.slots), 5, 1), minlength=len(chosen))
    assert (np.floor(chosen) <= counts).all() and (counts <= np.ceil(chosen)).all()
    assert _kept._ONE * found.slots - int(found._sums[-1]) < len(chosen)
