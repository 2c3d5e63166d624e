"""Embedding: each caption once, resumable, appendable, and what it refuses."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.errors import (
    CacheError,
    ConfigError,
    DataError,
    NotFinite,
    SpaceMismatch,
    StorageError,
)
from lift.text.encoder import build_encoder, caption_key
from lift.text.encoders.hashing import Config, HashingEncoder


def files(folder: Path) -> dict[str, str]:
    """Return {name: hash} of every file in a cache."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_every_distinct_caption_once(tmp_path, encoder, captions):
    report = embed(captions, encoder, tmp_path / "c", codec="float32", rows_per_shard=16)
    assert (report.captions, report.distinct, report.stored, report.embedded) == (90, 60, 0, 60)
    assert report.truncated == sum("bridge" in text for text in captions[:60]) == 15
    assert report.rows == 60 and report.seconds > 0 and report.captions_per_second > 0
    assert "distinct        60" in report.table()
    cache = EmbeddingCache.open(tmp_path / "c", verify=True)
    assert cache.find(captions[:60]).tolist() == list(range(60))
    np.testing.assert_array_equal(cache.take(range(60)), encoder.encode(captions[:60]).rows)


def test_arrow_reads_it_without_lift(tmp_path, encoder, captions):
    embed(captions, encoder, tmp_path / "c", rows_per_shard=50)
    with pa.memory_map(str(tmp_path / "c" / "shard-00000.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
        assert table.schema.names == ["key", "row", "tokens", "truncated"]
        assert table.schema.field("key").type == pa.binary(16)
        assert table.schema.field("row").type == pa.list_(pa.float16(), 24)
        assert table.schema.field("tokens").type == pa.int32()
        assert table["key"][0].as_py() == caption_key(captions[0])
        assert table["tokens"][0].as_py() == 6 and not table["truncated"][0].as_py()
        assert table["tokens"][3].as_py() == 9 and table["truncated"][3].as_py()
        assert len(table) == 50


def test_repeats_are_byte_identical(tmp_path, encoder, captions):
    for name in ("a", "b"):
        embed(captions, encoder, tmp_path / name, rows_per_shard=16)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    before = files(tmp_path / "a")
    again = embed(captions, encoder, tmp_path / "a", rows_per_shard=16)
    assert (again.stored, again.embedded) == (60, 0)
    assert files(tmp_path / "a") == before


def test_captions_are_streamed(tmp_path, encoder):
    drawn = []

    def stream():
        for number in range(20_000):
            drawn.append(number)
            if number == 15_000:
                assert list((tmp_path / "c").glob("shard-*")), "nothing written along the way"
            yield f"number {number % 9_000}"

    report = embed(stream(), encoder, tmp_path / "c", rows_per_shard=1_000)
    assert (report.captions, report.distinct, len(drawn)) == (20_000, 9_000, 20_000)


def test_more_captions_are_appended(tmp_path, encoder, captions):
    embed(captions[:20], encoder, tmp_path / "c", rows_per_shard=16)
    before = files(tmp_path / "c")
    report = embed(captions, encoder, tmp_path / "c")
    assert (report.stored, report.embedded, report.rows) == (20, 40, 60)
    after = files(tmp_path / "c")
    assert {n: h for n, h in after.items() if n in before and n != "manifest.json"} == {
        n: h for n, h in before.items() if n != "manifest.json"
    }
    cache = EmbeddingCache.open(tmp_path / "c", verify=True)
    assert [s.rows for s in cache.manifest.shards] == [16, 4, 16, 16, 8]
    assert cache.manifest.counters == {
        "rows": 60,
        "tokens": int(encoder.encode(captions[:60]).tokens.sum()),
        "truncated": 15,
        "links": 0,
        "captions": 90,
        "distinct": 60,
    }
    assert cache.find(captions[:60]).tolist() == list(range(60))


def test_fewer_captions_take_nothing_away(tmp_path, encoder, captions):
    embed(captions, encoder, tmp_path / "c")
    before = files(tmp_path / "c")
    report = embed(captions[:5], encoder, tmp_path / "c")
    assert (report.stored, report.embedded, report.rows) == (5, 0, 60)
    assert files(tmp_path / "c") == before


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_stopped_run_goes_on(tmp_path, encoder, captions, written):
    embed(captions, encoder, tmp_path / "whole", rows_per_shard=16)

    def broken():
        yield from captions[: 16 * written + 5]
        raise KeyboardInterrupt

    # Chunks are larger than this set, so let each caption come through by itself.
    folder = tmp_path / "c"
    shutil.copytree(tmp_path / "whole", folder)
    (folder / "manifest.json").unlink()
    for number in range(written, 4):
        (folder / f"shard-{number:05d}.arrow").unlink()
    (folder / ".partial-shard-00009.arrow").write_bytes(b"half")
    with pytest.raises(KeyboardInterrupt):
        embed(broken(), encoder, folder)
    with pytest.raises(CacheError, match=f"not finished: {min(16 * written, 60)} rows are there"):
        EmbeddingCache.open(folder)
    report = embed(captions, encoder, folder)
    assert report.stored == min(16 * written, 60)
    assert files(folder) == files(tmp_path / "whole")


def test_later_runs_obey_the_plan(tmp_path, captions):
    used = []

    class Watched(HashingEncoder):
        def encode(self, texts, *, precision="float32", token_budget=None):
            used.append((torch.get_num_threads(), precision, token_budget))
            return super().encode(texts)

    folder = tmp_path / "c"
    embed(captions[:9], Watched(Config()), folder, precision="bfloat16", token_budget=77)
    torch.set_num_threads(2)
    try:
        embed(captions, Watched(Config()), folder, precision="auto")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(used) == {(1, "bfloat16", 77)}


def test_auto_precision_is_measured_once_and_stored(tmp_path, encoder, captions):
    report = embed(captions, encoder, tmp_path / "c", precision="auto")
    stored = json.loads((tmp_path / "c" / "plan.json").read_text())["precision"]
    assert report.precision == stored in ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"codec": "float32"}, "created with codec float16, not float32"),
        ({"precision": "bfloat16"}, "created with precision float32, not bfloat16"),
        ({"rows_per_shard": 7}, "created with rows_per_shard 16384, not 7"),
        ({"token_budget": 7}, "created with token_budget 2048, not 7"),
    ],
)
def test_other_choices_in_the_same_folder_are_refused(tmp_path, encoder, captions, changed, words):
    embed(captions, encoder, tmp_path / "c")
    before = files(tmp_path / "c")
    with pytest.raises(CacheError, match=words):
        embed(captions, encoder, tmp_path / "c", **changed)
    assert files(tmp_path / "c") == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_space_in_the_same_folder_is_refused(tmp_path, encoder, captions, finished):
    folder = tmp_path / "c"
    embed(captions, encoder, folder)
    if not finished:
        (folder / "manifest.json").unlink()
    other = build_encoder(part("text/encoders", "hashing", dimensions=24, max_tokens=7))
    with pytest.raises(SpaceMismatch, match="max_tokens: 6 against 7") as caught:
        embed(captions, other, folder)
    assert encoder.space.fingerprint in str(caught.value)
    assert other.space.fingerprint in str(caught.value)


def test_a_folder_with_something_else_is_refused(tmp_path, encoder, captions):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CacheError, match=r"holds something else \(notes\.txt\)"):
        embed(captions, encoder, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(StorageError, match=r"notes\.txt"):
        embed(captions, encoder, tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([], "empty"),
        (["a dog", "  \n", "a cat"], r"Caption 2 \(after 'a dog'\) is empty"),
        ([""], "Caption 1 is empty"),
        (["a dog", None], r"Caption 2 \(after 'a dog'\) is not text but None"),
        (["a dog", float("nan")], "not text but nan"),
        (["\ud83d"], "not valid Unicode"),
    ],
)
def test_bad_captions_stop_before_a_folder_is_made(tmp_path, encoder, bad, words):
    with pytest.raises(DataError, match=words):
        embed(iter(bad), encoder, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_an_empty_caption_far_in_is_named_and_the_rest_resumes(tmp_path, encoder, captions):
    folder = tmp_path / "c"
    many = [f"caption number {n}" for n in range(9_000)]
    with pytest.raises(DataError, match=r"Caption 9001 \(after 'caption number 8999'\) is empty"):
        embed([*many, " "], encoder, folder, rows_per_shard=1_000)
    report = embed(many, encoder, folder)
    assert report.stored == 8_000 and report.embedded == 1_000


def test_wrong_numbers_and_codecs_are_refused(tmp_path, encoder, captions):
    with pytest.raises(ConfigError, match="rows_per_shard must be positive"):
        embed(captions, encoder, tmp_path / "c", rows_per_shard=0)
    with pytest.raises(ConfigError, match="Did you mean 'float16'"):
        embed(captions, encoder, tmp_path / "c", codec="float17")
    assert not (tmp_path / "c").exists()


def test_rows_that_are_not_finite_are_never_stored(tmp_path, captions):
    class Broken(HashingEncoder):
        def encode(self, texts, **options):
            found = super().encode(texts)
            rows = found.rows.copy()
            rows[[t == "a red cat by a wall" for t in texts], 3] = np.nan
            return dataclasses.replace(found, rows=rows)

    with pytest.raises(NotFinite, match=r"1 caption.*'a red cat by a wall'"):
        embed(captions, Broken(Config()), tmp_path / "c")
    assert not list((tmp_path / "c").glob("shard-*.arrow"))


def test_a_second_writer_is_refused(tmp_path, encoder, captions):
    folder = tmp_path / "c"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="Another process"):
            embed(captions, encoder, folder)
    assert embed(captions, encoder, folder).rows == 60


@pytest.mark.parametrize("harm", ["gap", "short", "foreign", "no plan", "changed plan"])
def test_damage_is_found_before_anything_is_added(tmp_path, encoder, captions, harm):
    folder = tmp_path / "c"
    embed(captions, encoder, folder, rows_per_shard=16)
    first = folder / "shard-00000.arrow"
    if harm == "gap":
        first.unlink()
    elif harm == "short":
        first.write_bytes(first.read_bytes()[:-8])
    elif harm == "foreign":
        other = build_encoder(part("text/encoders", "hashing", dimensions=24, seed=1))
        embed(captions, other, tmp_path / "d", rows_per_shard=16)
        (folder / "manifest.json").unlink()
        shutil.copy(tmp_path / "d" / first.name, first)
    elif harm == "no plan":
        (folder / "plan.json").unlink()
    else:
        text = (folder / "plan.json").read_text()
        (folder / "plan.json").write_text(text.replace('"max_tokens": 6', '"max_tokens": 9'))
    before = files(folder)
    with pytest.raises(CacheError, match=r"remove the folder|embed again"):
        embed([*captions, "one more"], encoder, folder)
    assert files(folder) == before


DISK_FULL = """
import sys
from lift.cache.writer import embed
from lift.config import part
from lift.errors import StorageError
from lift.text.encoder import build_encoder
encoder = build_encoder(part("text/encoders", "hashing", dimensions=512))
try:
    embed((f"caption {n}" for n in range(3000)), encoder, sys.argv[1], rows_per_shard=300)
except StorageError as error:
    sys.stderr.write(str(error))
    sys.exit(2)
"""


def run_disk_full(folder: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(folder)], capture_output=True, text=True, **options
    )


def check_full_then_resumed(folder: Path, done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 2, done.stderr
    assert "Can't write" in done.stderr and "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    names = {p.name for p in folder.iterdir()}
    assert "manifest.json" not in names and not any(n.startswith(".partial") for n in names)


def test_a_full_disk_is_one_sentence_and_resumes(full_disk, tmp_path):
    folder = full_disk / "c"
    check_full_then_resumed(folder, run_disk_full(folder))
    kept = len(list(folder.glob("shard-*.arrow")))
    assert 1 <= kept < 10
    subprocess.run(["mount", "-o", "remount,size=8m", str(full_disk)], check=True)
    assert run_disk_full(folder).returncode == 0
    assert run_disk_full(tmp_path / "whole").returncode == 0
    assert files(folder) == files(tmp_path / "whole")


def test_a_file_that_may_not_grow_is_one_sentence(tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    folder = tmp_path / "c"
    check_full_then_resumed(folder, run_disk_full(folder, preexec_fn=limit))
    assert run_disk_full(folder).returncode == 0
    assert len(EmbeddingCache.open(folder, verify=True)) == 3_000


def test_new_versions_are_recorded_and_told_once(tmp_path, encoder, captions, monkeypatch):
    folder = tmp_path / "c"
    first = embed(captions[:10], encoder, folder, progress=False)
    assert first.notes == () and "note" not in first.table()
    (then,) = EmbeddingCache.open(folder).manifest.versions
    now = {**then, "torch": "99.0", "new-package": "1"}
    monkeypatch.setattr("lift.cache.part.versions", lambda _: now)
    assert embed(captions[:10], encoder, folder, progress=False).notes == ()  # no rows, no note
    second = embed(captions[:20], encoder, folder, progress=False)
    (note,) = second.notes
    assert f"torch 99.0 (was {then['torch']})" in note and "new-package" not in note
    assert note in second.table()
    assert EmbeddingCache.open(folder).manifest.versions == (then, now)
    third = embed(captions, encoder, folder, progress=False)
    assert third.embedded and third.notes == ()
    assert EmbeddingCache.open(folder).manifest.versions == (then, now)


def test_versions_of_a_cache_that_was_stopped(tmp_path, encoder, captions, monkeypatch):
    folder = tmp_path / "c"
    embed(captions[:10], encoder, folder, progress=False)
    (folder / "manifest.json").unlink()
    plan = json.loads((folder / "plan.json").read_text())
    monkeypatch.setattr("lift.cache.part.versions", lambda _: {"torch": "99.0"})
    assert "torch 99.0" in embed(captions, encoder, folder, progress=False).notes[0]
    assert EmbeddingCache.open(folder).manifest.versions == (plan["versions"], {"torch": "99.0"})
