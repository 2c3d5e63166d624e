"""From data to a cache: roles, derived texts, parts of several processes, stored vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lift
from lift.cache.reader import EmbeddingCache
from lift.embedding import Texts, assigned
from lift.errors import ConfigError, DataError
from lift.terms import Caption
from lift.world import Worker, worker

HASHING = "hashing:dimensions=16,max_tokens=12"


class Given:
    """A source of texts that is written down here."""

    name = "given"
    groups = (2,)

    def __len__(self) -> int:
        return 2

    def read(self, index: int):
        raise AssertionError("embedding reads no images")

    def texts(self):
        yield "1.jpg", (Caption("A red dog sits by a door."), Caption("dog", "tag"))
        yield "2.jpg", (Caption("A green boat. It is old and empty.", "long"),)


@pytest.fixture
def captions(tmp_path: Path) -> str:
    path = tmp_path / "captions.txt"
    path.write_text("".join(f"a photo of {i} birds over house {i % 9}\n" for i in range(200)))
    return str(path)


def test_texts_carry_what_the_data_says():
    found = list(Texts([Given()], language="en"))
    assert [(t.key, t.role, t.source, t.language) for t in found] == [
        ("1.jpg", "raw", "given", "en"),
        ("1.jpg", "tag", "given", "en"),
        ("2.jpg", "long", "given", "en"),
    ]
    assert Texts([Given()]).total() == 3
    assert list(Texts([Given()]).pairs())[1] == ("1.jpg", "dog")


def test_roles_are_chosen_and_unknown_ones_named():
    assert [t.text for t in Texts([Given()], roles=["tag"])] == ["dog"]
    with pytest.raises(DataError, match=r"No caption has a role of phrase; .* long, raw, tag"):
        list(Texts([Given()], roles=["phrase"]))


def test_derived_texts_are_the_same_in_every_reading():
    texts = Texts([Given()], kinds=["sub-caption", "phrase", "negative"])
    once, twice = list(texts), list(texts)
    assert once == twice and texts.total() is None
    assert {t.role for t in once} == {"raw", "tag", "long", "sub-caption", "phrase", "negative"}
    assert texts.counts["phrase"] == sum(t.role == "phrase" for t in once)
    with pytest.raises(ConfigError, match="sub-caption"):
        list(Texts([Given()], kinds=["sub-captions"]))


def test_parts_are_assigned(tmp_path, captions):
    alone, third = Worker(), Worker(rank=2, size=4, local=0)
    assert assigned("", alone, tmp_path) == ([0], 1)
    assert assigned("2/3", alone, tmp_path) == ([1], 3)
    assert assigned("", third, tmp_path) == ([2], 4)
    assert assigned("2/3", third, tmp_path) == ([6], 12)
    for words in ("0/3", "4/3", "1", "a/b", "1/0", "-1/3"):
        with pytest.raises(ConfigError, match="part"):
            assigned(words, alone, tmp_path)
    lift.embed([captions], out=tmp_path / "c", encoder=HASHING, part="1/6", progress=False)
    assert assigned("", alone, tmp_path / "c") == ([0, 1, 2, 3, 4, 5], 6)
    assert assigned("", third, tmp_path / "c") == ([2], 6)
    assert assigned("", Worker(rank=1, size=4), tmp_path / "c") == ([1, 5], 6)
    with pytest.raises(ConfigError, match=r"6 part\(s\), and there are 7 processes"):
        assigned("", Worker(rank=1, size=7), tmp_path / "c")


def test_without_a_part_all_that_are_missing_are_made(tmp_path, captions):
    out = tmp_path / "c"
    lift.embed([captions], out=out, encoder=HASHING, part="2/3", progress=False)
    report = lift.embed([captions], out=out, encoder=HASHING, progress=False)
    assert report.rows == report.distinct == 200 and 0 < report.stored < 200
    assert "1, 2, 3 of 3" in report.table()
    assert len(EmbeddingCache.open(out, verify=True)) == 200


def test_torchrun_divides_the_work(tmp_path, captions):
    """Real processes, started as on a machine with two GPUs."""
    out = tmp_path / "c"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "lift", "embed", "--data", captions, "--out", str(out), "--encoder", HASHING),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 of 2" in done.stdout and "2 of 2" in done.stdout
    lift.embed([captions], out=tmp_path / "one", encoder=HASHING, progress=False)
    both, one = EmbeddingCache.open(out, verify=True), EmbeddingCache.open(tmp_path / "one")
    texts = Path(captions).read_text().splitlines()
    np.testing.assert_array_equal(both.take(both.require(texts)), one.take(one.require(texts)))


def test_variables_that_name_no_process_are_refused(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert worker() == Worker()
    for rank, size in (("2", "2"), ("-1", "2"), ("x", "2"), ("", "2"), ("0", "0")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(ConfigError, match=f"RANK='{rank}', WORLD_SIZE='{size}'"):
            worker()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert worker() == Worker(1, 2, 0)


def test_stored_vectors_bring_their_own_texts(tmp_path, captions):
    texts = Path(captions).read_text().splitlines()
    encoder = lift.text.encoder.build_encoder(lift.data.source.parse_part("text/encoders", HASHING))
    np.save(tmp_path / "captions.npy", encoder.encode(texts).rows)
    spec = f'vectors:path={tmp_path / "captions.npy"},of="{HASHING}"'
    report = lift.embed(out=tmp_path / "c", encoder=spec, codec="float32", progress=False)
    assert report.rows == 200 and report.links == 0
    cache = EmbeddingCache.open(tmp_path / "c")
    assert cache.space == encoder.space and cache.part == encoder.part
    np.testing.assert_array_equal(cache.take(cache.require(texts)), encoder.encode(texts).rows)
    # The live encoder may go on with it, because its rows are those of the probes.
    more = lift.embed([captions], out=tmp_path / "c", encoder=HASHING, progress=False)
    assert more.stored == 200 and more.embedded == 0


def test_stored_vectors_are_joined_by_key(tmp_path):
    (tmp_path / "captions.jsonl").write_text(
        "".join(json.dumps({"id": f"{i}.jpg", "caption": f"bird {i}"}) + "\n" for i in range(40))
    )
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(tmp_path / "v.npy", rows)
    (tmp_path / "v.txt").write_text("".join(f"{i}\n" for i in range(40)))
    report = lift.embed(
        [f"texts:path={tmp_path / 'captions.jsonl'},key=id"],
        out=tmp_path / "c",
        encoder=f"vectors:path={tmp_path / 'v.npy'},join=key,model=mine,max_tokens=77",
        codec="float32",
        progress=False,
    )
    assert report.rows == report.links == 40
    cache = EmbeddingCache.open(tmp_path / "c")
    found = cache.take(cache.require([f"bird {i}" for i in range(40)]))
    np.testing.assert_array_equal(found, rows)


def test_no_data_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="There are no captions: say with --data"):
        lift.embed(out=tmp_path / "c", encoder=HASHING)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("codec", ["int8", "int4", "prefix:dimensions=4,force=true"])
def test_codecs_are_given_in_words(tmp_path, captions, codec):
    report = lift.embed([captions], out=tmp_path / "c", encoder=HASHING, codec=codec)
    assert report.fidelity.rows == 200 and "keep their nearest" in report.table()
    again = lift.embed([captions], out=tmp_path / "c", encoder=HASHING)  # what the cache has
    assert again.embedded == 0
    assert lift.audit(tmp_path / "c", data=[captions]).ok


def test_memory_does_not_grow_with_the_captions(tmp_path):
    """Measured at a million in benchmarks/cache.py; here in small, for every change."""
    program = (
        "import sys, lift\n"
        "lift.embed([sys.argv[1]], out=sys.argv[2], encoder='hashing:dimensions=8,ngrams=1',\n"
        "           codec='int8', rows_per_shard=4096, progress=False)\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.split('RssAnon:')[1].split()[0])\n"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells anonymous memory")
    found = []
    for count in (10_000, 100_000):
        path = tmp_path / f"{count}.txt"
        path.write_text("".join(f"bird {i} house {i * 7}\n" for i in range(count)))
        command = [sys.executable, "-c", program, str(path), str(tmp_path / f"c{count}")]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout) / 1024)
    assert found[1] < 1.1 * found[0], found


def test_strict_stops_at_the_first_caption_that_can_not_be_used(tmp_path):
    (tmp_path / "p.csv").write_text("image,caption\n" + "a.png,good\n" * 3 + "a.png,\n")
    (tmp_path / "a.png").write_bytes(b"any")
    data = f"table:path={tmp_path}/p.csv"
    report = lift.embed([data], out=tmp_path / "c", encoder="hashing", progress=False)
    assert [n for why, n in report.left_out.items() if "empty caption" in why] == [1]
    with pytest.raises(DataError, match="Sample 3 has an empty caption"):
        lift.embed([data], out=tmp_path / "d", encoder="hashing", strict=True, progress=False)
