"""Vectors kept on disk: never encoded twice, and whole after any stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lift.errors import DataError, StorageError
from lift.kept_vectors import KeptVectors, RowLog
from lift.ranks import Ranks
from lift.world import Worker


class Counting:
    """Random directions by content; counts what it is asked."""

    name, saw, identity = "counting", (), "one"

    def __init__(self):
        self.images, self.texts = [], []

    def encode_images(self, images):
        self.images += images
        return self._rows([i if isinstance(i, bytes) else bytes(i) for i in images])

    def encode_texts(self, texts):
        self.texts += texts
        return self._rows([text.encode() for text in texts])

    def features(self, images):
        return 2 * self._rows(images)

    @staticmethod
    def _rows(contents):
        rows = [np.random.default_rng(list(c) or [0]).standard_normal(7) for c in contents]
        return np.asarray(rows, np.float32).reshape(-1, 7)


IMAGES = [b"a", b"b", b"a", b"c"]


def test_nothing_is_encoded_twice(tmp_path):
    plain, inner = Counting(), Counting()
    kept = KeptVectors(inner, tmp_path)
    first = kept.encode_images(IMAGES)
    assert np.array_equal(first, plain.encode_images(IMAGES))
    assert inner.images == [b"a", b"b", b"c"] and (kept.found, kept.encoded) == (1, 3)
    assert np.array_equal(kept.encode_images(IMAGES[::-1]), first[::-1])
    assert len(inner.images) == 3
    other = Counting()
    later = KeptVectors(other, tmp_path)
    assert np.array_equal(later.encode_images([b"new", *IMAGES])[1:], first)
    assert other.images == [b"new"]
    assert np.array_equal(later.encode_texts(["x", "y", "x"]), plain.encode_texts(["x", "y", "x"]))
    assert np.array_equal(later.features([b"a"]), plain.features([b"a"]))
    assert len(KeptVectors(Counting(), tmp_path).encode_texts([])) == 0


def test_a_tower_is_asked_once_for_both(tmp_path):
    class Towered(Counting):
        def features(self, images):
            self.images += images
            return 2 * self._rows(images)

        def encode_features(self, h):
            return h / 2

    inner = Towered()
    kept = KeptVectors(inner, tmp_path)
    assert np.array_equal(kept.encode_images(IMAGES), Counting._rows(IMAGES))
    assert np.array_equal(kept.features(IMAGES), 2 * Counting._rows(IMAGES))
    assert inner.images == [b"a", b"b", b"c"]
    assert not list(tmp_path.glob("*/images.rows")) and list(tmp_path.glob("*/features.rows"))


def test_another_encoder_has_its_own(tmp_path):
    KeptVectors(Counting(), tmp_path).encode_images(IMAGES)
    inner = Counting()
    inner.identity = "two"
    KeptVectors(inner, tmp_path).encode_images(IMAGES)
    assert len(inner.images) == 3


def test_arrays_are_known_and_paths_are_not(tmp_path):
    inner = Counting()
    kept = KeptVectors(inner, tmp_path)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(kept.encode_images([pixels]), kept.encode_images([pixels.copy()]))
    assert len(inner.images) == 1
    kept.encode_images([memoryview(b"p")])
    kept.encode_images([memoryview(b"p")])
    assert len(inner.images) == 3


@pytest.mark.parametrize("cut", [1, 20, 47, 48, 49])
def test_a_torn_end_is_encoded_again(tmp_path, cut):
    first = KeptVectors(Counting(), tmp_path).encode_images(IMAGES)
    (file,) = tmp_path.glob("*/images.rows")
    assert file.stat().st_size == 3 * 48
    with file.open("r+b") as f:
        f.truncate(3 * 48 - cut)
    inner = Counting()
    kept = KeptVectors(inner, tmp_path)
    assert np.array_equal(kept.encode_images(IMAGES), first)
    assert len(inner.images) == 1 + (cut > 48)
    assert len(RowLog(file)) == 3


def test_a_damaged_record_and_what_follows_is_encoded_again(tmp_path):
    first = KeptVectors(Counting(), tmp_path).encode_images(IMAGES)
    (file,) = tmp_path.glob("*/images.rows")
    content = bytearray(file.read_bytes())
    content[48 + 30] ^= 1
    file.write_bytes(content)
    inner = Counting()
    assert np.array_equal(KeptVectors(inner, tmp_path).encode_images(IMAGES), first)
    assert len(inner.images) == 2


def test_who_does_not_write_remembers(tmp_path):
    inner = Counting()
    kept = KeptVectors(inner, tmp_path, Ranks(Worker(rank=1)))
    first = kept.encode_images(IMAGES)
    assert np.array_equal(kept.encode_images(IMAGES), first) and len(inner.images) == 3
    assert not list(tmp_path.iterdir())


def test_a_key_that_stands_there_twice_moves_no_other_row(tmp_path):
    """As two writers left it, who did not know of each other."""
    first = KeptVectors(Counting(), tmp_path).encode_images(IMAGES)
    (file,) = tmp_path.glob("*/images.rows")
    content = file.read_bytes()
    file.write_bytes(content + content[:48])
    kept = KeptVectors(Counting(), tmp_path)
    kept.encode_images([b"x", b"y"])
    wanted = Counting().encode_images([b"x", b"y"])
    assert np.array_equal(kept.encode_images([b"x", b"y", *IMAGES]), [*wanted, *first])
    later = KeptVectors(inner := Counting(), tmp_path)
    assert np.array_equal(later.encode_images([b"x", b"y", *IMAGES]), [*wanted, *first])
    assert not inner.images


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path):
    (tmp_path / "x.json").write_text('{"format": "lift.vectors/1", "width": 3}')
    (tmp_path / "x.rows").symlink_to("/dev/full")
    log = RowLog(tmp_path / "x.rows")
    with pytest.raises(StorageError, match=r"Can't write .*No space left"):
        log.append([b"k" * 16], np.zeros((1, 3), np.float32))
    assert log.find([b"k" * 16]) == [-1]


def test_vectors_that_nobody_may_write_are_one_sentence(tmp_path):
    (tmp_path / "vectors").write_text("a file")
    with pytest.raises(StorageError, match="Can't write"):
        KeptVectors(Counting(), tmp_path / "vectors").encode_images(IMAGES)


def test_a_fault_that_passes_is_not_kept(tmp_path):
    class Faulty(Counting):
        def encode_texts(self, texts):
            return np.full((len(texts), 7), np.nan, np.float32)

    assert np.isnan(KeptVectors(Faulty(), tmp_path).encode_texts(["a", "b"])).all()
    found = KeptVectors(Counting(), tmp_path).encode_texts(["a", "b"])
    assert np.array_equal(found, Counting().encode_texts(["a", "b"]))


def test_rows_that_another_rank_does_not_see_are_made_again(tmp_path):
    KeptVectors(Counting(), tmp_path).encode_images(IMAGES)
    (file,) = tmp_path.glob("*/images.rows")
    log = RowLog(file)
    log.forget(1)
    keys = [row["key"].tobytes() for row in np.memmap(file, log._kind, "r")]
    assert log.find(keys) == [0, -1, -1] and log.stored == 3
    log.append(keys[2:], np.full((1, 7), 5, np.float32))
    assert log.find(keys) == [0, -1, 3] and log.take([3])[0, 0] == 5
    assert RowLog(file).take([3])[0, 0] == 5


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "x", "width": 7}', '{"width": "7"}'])
def test_another_format_is_refused(tmp_path, content):
    KeptVectors(Counting(), tmp_path).encode_images(IMAGES)
    (about,) = tmp_path.glob("*/images.json")
    about.write_text(content)
    with pytest.raises(DataError, match="remove its folder"):
        KeptVectors(Counting(), tmp_path).encode_images(IMAGES)


def test_other_widths_are_refused(tmp_path):
    log = RowLog(tmp_path / "x.rows")
    log.append([b"k" * 16], np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match="rows of 3 numbers, not of 4"):
        log.append([b"l" * 16], np.zeros((1, 4), np.float32))


PROGRAM = """
import sys, os, signal
sys.path.insert(0, os.path.dirname({here!r}))
from test_kept_vectors import Counting
from lift.kept_vectors import KeptVectors
from pathlib import Path
kept = KeptVectors(Counting(), Path({folder!r}))
for n in range(6):
    kept.encode_images([b"%d %d" % (n, k) for k in range(4)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_that_was_encoded(tmp_path):
    words = PROGRAM.format(here=__file__, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", words], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    inner = Counting()
    kept = KeptVectors(inner, tmp_path)
    kept.encode_images([b"%d %d" % (n, k) for n in range(6) for k in range(4)])
    assert not inner.images and kept.found == 24
