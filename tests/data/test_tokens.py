"""Captions as tokens: what a loader shows of them, without a cache and without memory."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
import torch

from lift.data.loader import Loader, LoaderConfig
from lift.data.rows import Rows
from lift.data.source import open_source
from lift.data.tokens import TokenRows, captions_of
from lift.data.transform import Transform
from lift.errors import ConfigError, DataError
from lift.terms import Caption
from lift.text import keys
from lift.text.tokenizer import Tokenizer

pytest.importorskip("tokenizers")
LOOK = Transform(resolution=16, canvas=None)


class Words:
    """A source of captions alone."""

    name, groups = "words", ()

    def __init__(self, captions):
        self._captions = captions

    def __len__(self):
        return len(self._captions)

    def read(self, index):
        raise AssertionError("no images here")

    def texts(self):
        for number, captions in enumerate(self._captions):
            yield str(number), tuple(Caption(*own) for own in captions)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.trained(captions_of(open_source("scenes:count=200")), 350)


def words_of(*texts):
    return Words([[(text, "raw", 1.0)] for text in texts])


def test_rows_are_the_tokens_of_the_captions(tokenizer):
    texts = ["a red circle", "a blue square over a red one", "a", "green"]
    rows = TokenRows(words_of(*texts), tokenizer, 20)
    assert isinstance(rows, Rows) and len(rows) == 4
    numbers = rows.find([*texts, "who knows"])
    assert sorted(numbers[:4].tolist()) == [0, 1, 2, 3] and numbers[4] == -1
    ids = tokenizer.encode(texts, 20).ids
    for shown in ([0, 1, 2, 3], [2], [3, 3, 0], []):
        stored = rows.take_stored(numbers[shown])
        wanted = [ids[at] for at in shown]
        assert stored.dtype == np.int32
        assert stored.shape == (len(shown), max(map(len, wanted), default=1))
        assert [row[row >= 0].tolist() for row in stored] == wanted
        decoded = rows.decode(torch.from_numpy(stored))
        assert decoded.dtype == torch.int64 and np.array_equal(decoded.numpy(), stored)
    assert rows.counters == {"captions": 4, "truncated captions": 0}
    assert rows.mean_tokens == np.mean([len(own) for own in ids])
    assert rows.longest == max(map(len, ids))
    for wrong in (-1, 4):
        with pytest.raises(DataError, match=f"captions 0 to 3, not of {wrong}"):
            rows.take_stored(np.array([0, wrong]))


def test_one_input_is_one_row(tokenizer):
    """Captions with the same tokens can't be told apart: they are no negatives of each other."""
    long = "a red circle " * 8
    texts = ["a red circle", "A RED circle", long + "x", "a dog", long + "y", "a red circle"]
    rows = TokenRows(words_of(*texts), tokenizer, 12)
    numbers = rows.find(texts).tolist()
    assert numbers[0] == numbers[1] == numbers[5] and numbers[2] == numbers[4]
    assert len({numbers[0], numbers[2], numbers[3]}) == 3
    assert rows.counters == {"captions": 5, "truncated captions": 2}
    assert (rows.take_stored(np.array(numbers))[2] >= 0).all() and rows.longest == 12


def test_padding_to_the_whole_context(tokenizer):
    rows = TokenRows(words_of("a", "a red circle"), tokenizer, 20, pad_to="context")
    assert rows.take_stored(np.array([0])).shape == (1, 20)
    assert rows.take_stored(np.array([], np.int64)).shape == (0, 20)


def test_a_large_vocabulary_is_kept_whole(tokenizer):
    class Large(Tokenizer):
        def __init__(self):
            self.size, self.special = 70_000, 0

        def encode(self, texts, context):
            found = tokenizer.encode(texts, context)
            found.ids[:] = [[token + 69_000 for token in own] for own in found.ids]
            return found

    rows = TokenRows(words_of("a red circle"), Large(), 20)
    assert rows.take_stored(np.array([0])).min() >= 69_000


def test_roles_and_nothing_at_all(tokenizer):
    source = Words([[("a", "raw", 1.0), ("b", "rewrite", 1.0)], [("c", "raw", 1.0)]])
    assert list(captions_of(source)) == ["a", "b", "c"]
    rows = TokenRows(source, tokenizer, 9, config=LoaderConfig(batch_size=2, roles=("rewrite",)))
    assert rows.find(["a", "b", "c"]).tolist() == [-1, 0, -1]
    with pytest.raises(DataError, match="words has no captions to make tokens of"):
        TokenRows(Words([]), tokenizer, 9)


@pytest.mark.parametrize("captions", ["one", "all"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_takes_them_for_rows(tokenizer, captions, workers):
    source = open_source("scenes:count=40")
    config = LoaderConfig(batch_size=8, captions=captions, workers=workers)
    rows = TokenRows(source, tokenizer, 30, config=config)
    loader = Loader(source, rows, LOOK, config, seed=3)
    texts = dict(source.texts())
    keys = list(texts)
    seen = 0
    for batch in loader.batches(0, 5):
        ids = rows.decode(batch.texts)
        assert len(ids) == len(batch.row) == len(batch.owner)
        assert ids.shape[1] == int((ids >= 0).sum(1).max())
        for place, row, own in zip(batch.owner, batch.row, ids, strict=True):
            possible = [c.text for c in texts[keys[int(batch.index[place])]]]
            wanted = tokenizer.encode(possible, 30).ids
            at = rows.find(possible).tolist().index(int(row))
            assert own[own >= 0].tolist() == wanted[at]
            seen += 1
    assert seen == (40 if captions == "one" else sum(len(c) for c in texts.values()))


def test_what_needs_vectors_is_refused(tokenizer):
    source = open_source("scenes:count=40")
    for options, words in (
        ({"captions": "mix"}, "captions=mix draws a point between stored vectors"),
        ({"linked": True}, r"loader\.linked takes captions from a cache"),
        ({"negatives": 2}, r"loader\.negatives takes captions from a cache"),
    ):
        with pytest.raises(ConfigError, match=words):
            TokenRows(source, tokenizer, 9, config=LoaderConfig(batch_size=8, **options))
    with pytest.raises(ConfigError, match="captions=mix draws"):
        TokenRows(source, tokenizer, 9).take(np.array([0]))


def test_a_pickled_copy_is_the_same(tokenizer):
    texts = ["a red circle", "A RED circle", "green", "a blue square"]
    rows = TokenRows(words_of(*texts), tokenizer, 12)
    again = pickle.loads(pickle.dumps(rows))
    numbers = again.find(texts)
    assert np.array_equal(numbers, rows.find(texts))
    assert np.array_equal(again.take_stored(numbers), rows.take_stored(numbers))
    assert again.counters == rows.counters and len(again) == len(rows)


def test_memory_does_not_grow_with_captions(tokenizer, monkeypatch):
    """Four times the captions, the same memory: what grows lies in files."""
    monkeypatch.setattr(keys, "_IN_MEMORY", 256)  # so that few captions are many

    class Many(Words):
        def __init__(self, count):
            self.count = count

        def texts(self):
            for number in range(self.count):
                yield str(number), (Caption(f"scene {number} with a red circle"),)

    def kept(count):
        tracemalloc.start()
        rows = TokenRows(Many(count), tokenizer, 16)
        now = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(rows) == count
        numbers = rows.find([f"scene {count - 1} with a red circle", "scene 1 with a red circle"])
        assert (numbers >= 0).all() and numbers[1] == 1
        return now

    kept(500)
    small, large = kept(3_000), kept(12_000)
    assert large < small + 50_000, (small, large)  # an index alone would be 200 kB more
