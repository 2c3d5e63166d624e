"""Key sets and indexes against Python's own set and dict."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import StorageError
from lift.text import keys as keys_module
from lift.text.encoder import caption_key
from lift.text.keys import KEY, KeyIndex, KeySet, keys_of


def random_keys(count: int, seed: int = 0) -> np.ndarray:
    """Return keys from a small alphabet of bytes, zeros at the ends among them, some equal."""
    values = np.random.default_rng(seed).integers(0, 2, (count, 16), np.uint8)
    values[:, 2:14] = 0
    return values.view(KEY)[:, 0]


def whole(keys: np.ndarray) -> list[bytes]:
    return [bytes(row) for row in np.ascontiguousarray(keys).view(np.uint8).reshape(-1, 16)]


def test_keys_are_those_of_captions():
    texts = ["a dog", "日本", "Café"]
    assert whole(keys_of(texts)) == [caption_key(text) for text in texts]
    assert len(keys_of([])) == 0


@pytest.fixture(params=["in memory", "on disk"])
def small(request, monkeypatch) -> None:
    """Let runs spill at once, so that a few keys try what a million would."""
    if request.param == "on disk":
        monkeypatch.setattr(keys_module, "_IN_MEMORY", 4)
        monkeypatch.setattr(keys_module, "_BLOCK", 5)


@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.usefixtures("small")
def test_set_marks_the_first_of_each(chunk):
    keys, truth, found = random_keys(60), set(), KeySet()
    for start in range(0, len(keys), chunk):
        part = keys[start : start + chunk]
        new = found.add(part)
        for key, is_new in zip(whole(part), new, strict=True):
            assert is_new == (key not in truth)
            truth.add(key)
    assert len(found) == len(truth) < len(keys)
    assert found.contains(keys).all()
    other = random_keys(200, seed=1)
    np.testing.assert_array_equal(found.contains(other), [k in truth for k in whole(other)])


@pytest.mark.usefixtures("small")
def test_set_keeps_few_runs():
    rng, found = np.random.default_rng(0), KeySet()
    for _ in range(200):
        found.add(rng.integers(0, 256, (10, 16), np.uint8).view(KEY)[:, 0])
    assert len(found) == 2_000
    assert len(found._runs) <= 12


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("make", [KeyIndex, lambda k: KeyIndex.on_disk(np.array_split(k, 7))])
def test_index_finds_rows(make):
    keys = np.unique(random_keys(60))
    keys = keys[np.random.default_rng(2).permutation(len(keys))]
    index = make(keys)
    truth = {key: row for row, key in enumerate(whole(keys))}
    asked = random_keys(200, seed=3)
    np.testing.assert_array_equal(index.find(asked), [truth.get(k, -1) for k in whole(asked)])
    assert index.repeated() == 0
    doubled = make(np.concatenate([keys, keys[:4]]))
    assert doubled.repeated() == 4
    np.testing.assert_array_equal(doubled.find(keys), np.arange(len(keys)))  # the first wins
    np.testing.assert_array_equal(index.first(9), np.argsort(keys)[:9])
    assert make(keys[:0]).find(keys[:3]).tolist() == [-1, -1, -1]


def test_both_indexes_agree_on_many_keys(tmp_path):
    keys = np.random.default_rng(0).integers(0, 256, (50_000, 16), np.uint8).view(KEY)[:, 0]
    on_disk = KeyIndex.on_disk(np.array_split(keys, 13), tmp_path)
    asked = np.random.default_rng(1).permutation(keys)[:5_000]
    np.testing.assert_array_equal(on_disk.find(asked), KeyIndex(keys).find(asked))
    assert not list(tmp_path.iterdir())  # its files have no name: nothing of them can stay


def test_a_full_disk_is_told(full_disk):
    keys = np.random.default_rng(0).integers(0, 256, (200_000, 16), np.uint8).view(KEY)[:, 0]
    with pytest.raises(StorageError, match="make room"):
        KeyIndex.on_disk(np.array_split(keys, 9), full_disk)
    with pytest.raises(StorageError, match="make room"):
        found = KeySet(full_disk)
        for some in np.array_split(keys, 9):
            found.add(some)


def test_index_takes_few_bytes_a_row():
    keys = np.random.default_rng(0).integers(0, 256, (10_000, 16), np.uint8).view(KEY)[:, 0]
    index = KeyIndex(keys)
    assert (index._keys.nbytes + index._rows.nbytes) / len(keys) <= 24
