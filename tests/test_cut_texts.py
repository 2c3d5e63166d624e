"""Which texts an encoder cuts: from its tokenizer, from a cache, or nobody knows."""

from __future__ import annotations

import numpy as np
import pytest

from lift import plugins
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.encoders import CachedTexts
from lift.evals._encode import cut_of
from made_model import made

LONG = "one two three four five"


class Silent:
    """An encoder that tells nothing of its texts."""

    name, saw = "silent", ()

    def encode_images(self, images):
        raise AssertionError("no image is asked for")

    encode_texts = encode_images


class Telling(Silent):
    def __init__(self):
        self.asked = []

    def cut(self, texts):
        self.asked += texts
        return np.array([len(text.split()) > 4 for text in texts])


@pytest.fixture
def cache(tmp_path):
    encoder = plugins.build(part("text/encoders", "hashing", max_tokens=4), "cpu")
    embed([LONG, "short", *(f"{LONG} {n}" for n in range(5))], encoder, tmp_path, progress=False)
    return EmbeddingCache.open(tmp_path)


def test_a_cache_knows_what_was_cut(cache):
    telling = Telling()
    found = CachedTexts(telling, cache).cut(["short", LONG, "new", f"{LONG} 3", f"new {LONG}"])
    assert found.tolist() == [False, True, False, True, True]
    assert telling.asked == ["new", f"new {LONG}"]  # of the others the cache knows
    np.testing.assert_array_equal(
        cache.truncated(np.arange(len(cache))), [True, False] + [True] * 5
    )


def test_nobody_knows(cache):
    encoder = CachedTexts(Silent(), cache)
    assert encoder.cut(["short", LONG]).tolist() == [False, True]
    assert encoder.cut(["short", "new"]) is None
    assert cut_of(Silent(), [LONG]) == cut_of(encoder, ["new"]) == ({}, ())


def test_a_note_counts_them(cache):
    counts, notes = cut_of(CachedTexts(Silent(), cache), ["short", LONG])
    assert counts == {"captions cut": 1}
    assert notes == ("1 of 2 captions are longer than the text encoder takes and were cut",)
    assert cut_of(Telling(), ["short"]) == ({}, ())


def test_a_model_tells_what_its_text_encoder_tells():
    model = made(encoder={"max_tokens": 4})
    assert model.cut(["short", LONG]).tolist() == [False, True]
