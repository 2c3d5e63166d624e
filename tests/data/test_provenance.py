"""The record of what a model was trained on: written in one pass, read in pieces, told plainly."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.data import provenance
from lift.data.joined import Joined
from lift.data.provenance import Provenance, beside, origin_of, words_hashes, words_of, write
from lift.errors import DataError, StorageError
from lift.terms import Caption, Sample
from lift.text.encoder import caption_key


class Told:
    """A source of captions alone."""

    def __init__(self, name: str, count: int, captions: int = 2) -> None:
        self.name, self.groups, self._captions = name, (count,), captions

    def __len__(self) -> int:
        return self.groups[0]

    def read(self, index: int) -> Sample:
        raise DataError("it is a source of captions alone")

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        roles = ("raw", "rewrite")
        for i in range(len(self)):
            texts = tuple(
                Caption(f"{self.name} {i}, {j}", roles[j % 2]) for j in range(self._captions)
            )
            yield f"{i:05d}", texts


def shown_of(count: int, every: int = 1) -> np.ndarray:
    prints = np.zeros((count, 2), np.int64)
    prints[::every] = np.random.default_rng(0).integers(1, 2**62, (len(prints[::every]), 2))
    return prints


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_only_what_was_shown_is_there(tmp_path: Path) -> None:
    prints = shown_of(2_500, every=3)
    found = write(tmp_path / "t.parquet", Told("a", 2_500), prints, words=["a.tar"])
    table = rows(found.path)
    assert [int(row["key"]) for row in table] == list(range(0, 2_500, 3))
    assert [row["image"] for row in table] == prints[::3, 0].tolist()
    assert [row["look"] for row in table] == prints[::3, 1].tolist()
    key = caption_key("a 3, 1")[:8]
    assert table[1]["captions"][1] == int.from_bytes(key, "little", signed=True)
    assert table[1]["alike"] == words_hashes(["A:  3 0!", "a 3 1"]).tolist()
    assert found.summary == {
        "samples": 834,
        "captions": 1668,
        "of": 2500,
        "roles": [],
        "sources": [{"name": "a", "words": "a.tar", "licence": "", "samples": 834}],
    }
    assert len(found) == 834


def test_the_captions_of_the_roles_that_took_part(tmp_path: Path) -> None:
    found = write(tmp_path / "t.parquet", Told("a", 4, 5), shown_of(4), roles=["rewrite"])
    assert [len(row["captions"]) for row in rows(found.path)] == [2] * 4
    assert found.summary["captions"] == 8 and found.summary["roles"] == ["rewrite"]
    none = write(tmp_path / "n.parquet", Told("a", 4), shown_of(4), roles=["long"])
    assert [row["captions"] for row in rows(none.path)] == [[]] * 4


def test_joined_sources_stay_apart(tmp_path: Path) -> None:
    joined = Joined([Told("a", 1_500), Told("b", 900), Told("a", 10)], None)
    found = write(
        tmp_path / "t.parquet",
        joined,
        shown_of(2_410, every=2),
        words=["https://me:secret@host/a.tar?sig=1@2", "table:path=s3://k:s@b/x.csv,image=i", "c"],
        licences=["CC BY 4.0", "research only", "own"],
    )
    assert found.summary["sources"] == [
        {"name": "a", "words": "https://host/a.tar", "licence": "CC BY 4.0", "samples": 750},
        {
            "name": "b",
            "words": "table:path=s3://b/x.csv,image=i",
            "licence": "research only",
            "samples": 450,
        },
        {"name": "a (2)", "words": "c", "licence": "own", "samples": 5},
    ]
    names = [row["source"] for row in rows(found.path)]
    assert names == ["a"] * 750 + ["b"] * 450 + ["a (2)"] * 5
    one = write(tmp_path / "o.parquet", joined, shown_of(2_410), licences=["all mine"])
    assert {source["licence"] for source in one.summary["sources"]} == {"all mine"}


def test_equal_runs_give_equal_bytes_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints = shown_of(3_000)
    one = write(tmp_path / "1.parquet", Told("a", 3_000), prints).path.read_bytes()
    assert write(tmp_path / "2.parquet", Told("a", 3_000), prints).path.read_bytes() == one
    monkeypatch.setattr(provenance, "_GROUP", 1_000)
    several = write(tmp_path / "3.parquet", Told("a", 3_000), prints)
    assert pq.ParquetFile(several.path).num_row_groups > 1
    assert rows(several.path) == rows(tmp_path / "1.parquet")
    read = [batch for batch in several.batches(["look"])]
    assert np.array_equal(np.concatenate([b["look"].to_numpy() for b in read]), prints[:, 1])


def test_nothing_shown_is_a_file_without_rows(tmp_path: Path) -> None:
    found = write(tmp_path / "t.parquet", Told("a", 5), np.zeros((5, 2), np.int64))
    assert len(found) == 0 and rows(found.path) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_GROUP", 1_500)

    def peak(count: int) -> int:
        prints = shown_of(count)
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        write(tmp_path / f"{count}.parquet", Told("a", count), prints)
        assert pa.total_allocated_bytes() - before < 1 << 20
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few = peak(3_000)
    assert peak(9_000) < 1.2 * few


def test_words_without_case_and_punctuation() -> None:
    assert words_of("  A dog, RUNNING -- fast!  ") == "a dog running fast"
    assert words_of("Straße_Nr.5") == words_of("strasse nr 5")
    assert words_of("Café") == words_of("cafe\u0301 ") != words_of("cafe")
    assert words_of("कि") != words_of("का") and words_of("２") == "2"
    assert words_of("🐕!") == "🐕!" != words_of("🐈!") and words_of("...") == "..."


def test_keys_that_are_no_text_are_kept_readable(tmp_path: Path) -> None:
    class Odd(Told):
        def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
            yield "a\udcff", (Caption("x"),)

    found = write(tmp_path / "t.parquet", Odd("a", 1), shown_of(1))
    assert rows(found.path)[0]["key"] == "a\\udcff"


@pytest.mark.parametrize("count", [9, 11, 1_024 + 10])
def test_another_number_of_samples_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match="another number of samples than the 10 that were there"):
        write(tmp_path / "t.parquet", Told("a", count), shown_of(10))
    assert not list(tmp_path.iterdir())


def test_faults_of_the_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write(path, Told("a", 5_000), shown_of(5_000))
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-9], b"x" * 99):
        path.write_bytes(content)
        with pytest.raises(DataError, match="copy it again from where it was made"):
            Provenance(path)
    path.write_bytes(whole[:2_000] + bytes(30_000) + whole[32_000:])
    with pytest.raises(DataError, match="is damaged"):
        list(Provenance(path).batches(["image", "look", "captions"]))
    table = pq.read_table(pa.BufferReader(whole))
    for about, sentence in (
        (b'{"format": 2}', "has format 2, this version reads 1"),
        (b'{"format": 1, "samples": 4}', "does not hold what it says"),
        (b"[1]", "no readable record"),
        (None, "no readable record"),
    ):
        pq.write_table(table.replace_schema_metadata(about and {b"lift": about}), path)
        with pytest.raises(DataError, match=sentence):
            Provenance(path)
    wrong = table.set_column(3, "look", pa.array(["x"] * len(table)))
    pq.write_table(
        wrong.replace_schema_metadata({b"lift": b'{"format": 1, "samples": 5000}'}), path
    )
    with pytest.raises(DataError, match="does not hold what it says"):
        Provenance(path)


def test_a_full_disk_is_told(full_disk: Path) -> None:
    with pytest.raises(StorageError, match="Can't write"):
        write(full_disk / "t.parquet", Told("a", 40_000), shown_of(40_000))
    assert not list(full_disk.iterdir())


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    found = write(tmp_path / "run" / provenance.NAME, Told("a", 5), shown_of(5))
    assert origin_of(found) == {**found.summary, "kept": "model"}
    assert beside(model, {}) is None and beside(model, {"trained_on": origin_of(found)}) is None
    monkeypatch.setattr(provenance, "MOST_IN_A_MODEL", 4)
    assert not found.fits_a_model
    assert beside(model, {"trained_on": origin_of(found)}) == found.path
