"""Data sets that the library `datasets` wrote itself, mapped and as streams of files."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError, MissingPackage

pytest.importorskip("datasets", reason="the extra `datasets` is not installed")

ROWS = 10


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Return `datasets`, offline and with its cache in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("hf")
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_DATASETS_CACHE", str(home / "datasets"))
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        import datasets

        patch.setattr("datasets.config.HF_DATASETS_CACHE", home / "datasets")
        patch.setattr("datasets.config.HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield datasets


@pytest.fixture(scope="module")
def saved(library, picture, tmp_path_factory):
    """Return a folder with one set of rows, written in every way."""
    folder = tmp_path_factory.mktemp("sets")
    rows = {
        "image": [{"bytes": picture(n), "path": None} for n in range(ROWS)],
        "caption": [f"thing {n}" for n in range(ROWS)],
        "more": [[f"a {n}", f"b {n}"] for n in range(ROWS)],
        "id": [f"k{n}" for n in range(ROWS)],
        "count": list(range(ROWS)),
    }
    text = library.Value("string")
    features = library.Features(
        {
            "image": library.Image(),
            "caption": text,
            "more": library.List(text),
            "id": text,
            "count": library.Value("int32"),
        }
    )
    data = library.Dataset.from_dict(rows, features=features)
    data.save_to_disk(folder / "saved", num_shards=3)
    library.DatasetDict({"train": data, "val": data.select([4, 2])}).save_to_disk(folder / "dict")
    (folder / "parquet").mkdir()
    data.select(range(6)).to_parquet(folder / "parquet" / "part-2.parquet")
    data.select(range(6, ROWS)).to_parquet(folder / "parquet" / "part-10.parquet")
    return folder


def hub(path, **options) -> Any:
    return open_source(Part("data/formats", "huggingface", {"path": str(path), **options}))


def facts(source) -> list[tuple]:
    samples = [source.read(n) for n in range(len(source))]
    return [(s.key, s.image, s.captions, dict(s.fields)) for s in samples]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("where", ["saved", "dict", "parquet", "parquet/*.parquet"])
def test_every_way_gives_the_same_samples(saved, picture, where, streaming):
    source = hub(saved / where, caption=("caption:raw", "more"), key="id", streaming=streaming)
    order = list(range(ROWS))
    if "*" in where:
        order = order[6:] + order[:6]  # a glob sorts by letter, a folder by number
    assert [f[0] for f in facts(source)] == [f"k{n}" for n in order]
    for number, (_, image, captions, fields) in zip(order, facts(source), strict=True):
        assert image == picture(number) and fields == {"count": str(number)}
        assert [tuple(c[:3]) for c in captions] == [
            (f"thing {number}", "raw", 1.0),
            (f"a {number}", "more", 1.0),
            (f"b {number}", "more", 1.0),
        ]
    assert list(source.texts()) == [(key, captions) for key, _, captions, _ in facts(source)]
    assert source.counters == {} and sum(source.groups) == ROWS
    if streaming:
        assert len(source.groups) == {"saved": 3, "dict": 1}.get(where, 2)
        assert source.window_samples > 0
    else:
        assert source.groups == (ROWS,) and source.window_samples is None
    copy = pickle.loads(pickle.dumps(source))
    assert facts(copy) == facts(source)


def test_splits_and_numbers_for_keys(saved):
    source = hub(saved / "dict", split="val", fields=())
    assert [f[0] for f in facts(source)] == ["0", "1"] and facts(source)[0][3] == {}
    assert [c.text for _, (c,) in source.texts()] == ["thing 4", "thing 2"]
    with pytest.raises(DataError, match=r"split of .*'vol'. Did you mean 'val'"):
        hub(saved / "dict", split="vol")
    keys = [key for key, _ in hub(saved / "parquet", streaming=True).texts()]
    assert keys == [str(n) for n in range(ROWS)]


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_that_are_no_samples_are_counted(library, tmp_path, picture, streaming):
    image = [picture(0), None, picture(2), b"x" * 3_000, picture(4)]
    rows = {"image": image, "caption": ["a", "b", " ", "d", "e"], "id": ["x", "y", "z", "w", "x"]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    options = {"key": "id", "streaming": streaming, "max_image_bytes": 2_000}
    source = hub(tmp_path / "t.parquet", **options)
    assert [len(captions) for _, captions in source.texts()] == [1, 1, 0, 1]
    assert source.counters == {"duplicate key": 1, "empty caption": 1}
    kinds = []
    for number in (1, 2, 3):
        with pytest.raises(BrokenSample, match=f"Sample {'xyzw'[number]}") as caught:
            source.read(number)
        kinds.append(caught.value.kind)
    assert kinds == ["image missing", "empty caption", "image file too large"]
    with pytest.raises(BrokenSample, match="'x' more than once"):
        hub(tmp_path / "t.parquet", strict=True, **options)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_not_there(library, saved, tmp_path, streaming):
    with pytest.raises(DataError, match=r"'captoin'. Did you mean 'caption'"):
        hub(saved / "saved", caption="captoin", streaming=streaming)
    with pytest.raises(DataError, match="no column of plain values"):
        hub(saved / "saved", key="more", streaming=streaming)
    with pytest.raises(DataError, match="can't be read by the library datasets"):
        hub(tmp_path / "nothing", streaming=streaming)
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="can't be read by the library datasets"):
        hub(tmp_path / "t.parquet", streaming=streaming)
    with pytest.raises(DataError, match="No path"):
        hub("", streaming=streaming)


def test_code_beside_the_data_is_never_run(library, tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\n")
    with pytest.raises(DataError):
        hub(folder)
    assert not (tmp_path / "ran").exists()


def test_image_paths_stay_in_the_folder(library, tmp_path, picture):
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(1))
    names = ["a.png", str(tmp_path / "secret.png"), "https://example.org/a.png"]
    pq.write_table(pa.table({"image": names, "caption": list("abc")}), folder / "t.parquet")
    source = hub(folder)
    assert source.read(0).image == picture(1)
    for number, kind in ((1, "image path outside"), (2, "image that is a URL")):
        with pytest.raises(BrokenSample) as caught:
            source.read(number)
        assert caught.value.kind == kind


def test_a_stream_holds_few_files_at_a_time(library, tmp_path, monkeypatch):
    noise = os.urandom(1 << 18)
    for part in range(6):
        rows = {"image": [noise[n:] + bytes(n) for n in range(4)], "caption": ["a"] * 4}
        pq.write_table(pa.table(rows), tmp_path / f"{part}.parquet")  # a megabyte
    source = hub(tmp_path, streaming=True, memory_mb=4)
    assert source.groups == (4,) * 6 and 4 <= source.window_samples <= 8
    loads, load = [], source._recent._load
    monkeypatch.setattr(source._recent, "_load", lambda n: loads.append(n) or load(n))
    for first in range(0, 24, 8):
        for number in [*range(first, first + 8, 2), *range(first + 1, first + 8, 2)]:
            source.read(number)
    assert loads == list(range(6)) and source._recent._held <= 4 << 20


def test_options_are_checked(monkeypatch):
    with pytest.raises(ConfigError, match="at least one column"):
        hub("x", caption=())
    with pytest.raises(ConfigError, match="memory_mb"):
        hub("x", memory_mb=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"lift-align\[datasets\]"):
        hub("x")


@pytest.mark.parametrize("streaming", [False, True])
def test_classes_are_told_by_their_names(library, picture, tmp_path, streaming):
    label = library.ClassLabel(names=["cat", "dog"])
    rows = {
        "image": [{"bytes": picture(n), "path": None} for n in range(3)],
        "label": [1, 0, -1],
        "labels": [[0, 1], [1], [0]],
    }
    kinds = {"image": library.Image(), "label": label, "labels": library.List(label)}
    data = library.Dataset.from_dict(rows, features=library.Features(kinds))
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "parquet" / "a.parquet")
    for folder in ("saved", "parquet"):
        source = hub(tmp_path / folder, caption="label", streaming=streaming)
        told = [[c.text for c in captions] for _, captions in source.texts()]
        assert told == [["dog"], ["cat"], []] and source.counters == {"empty caption": 1}
        assert source.read(0).captions[0].text == "dog"
        source = hub(tmp_path / folder, caption="labels", streaming=streaming)
        assert [c.text for c in pickle.loads(pickle.dumps(source)).read(0).captions] == [
            "cat",
            "dog",
        ]
