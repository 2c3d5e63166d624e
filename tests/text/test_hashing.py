"""The encoder for tests: its bits are the same everywhere, near texts are near."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lift.config import part
from lift.errors import ConfigError
from lift.text.encoder import build_encoder


def test_rows_are_sums_of_hashed_signs():
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=16, ngrams=2))
    total = np.zeros(16)
    for feature in ("\x00", "red", "dog", "red dog"):
        digest = hashlib.shake_256(f"0\x00{feature}".encode()).digest(2)
        total += np.unpackbits(np.frombuffer(digest, np.uint8)) * 2.0 - 1
    row = encoder.encode([" Red dog"]).rows[0]
    np.testing.assert_allclose(row, total / np.linalg.norm(total), rtol=1e-6)


def test_shared_words_make_near_rows():
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=256))
    a, b, c = encoder.encode(["a red dog runs", "a red dog sleeps", "five green boats"]).rows
    assert a @ b > 0.4 > a @ c


def test_cut_words_change_nothing_but_the_mark():
    encoder = build_encoder(part("text/encoders", "hashing", max_tokens=3))
    found = encoder.encode(["one two three", "one two three four", "one two"])
    assert found.tokens.tolist() == [3, 4, 2]
    assert found.truncated.tolist() == [False, True, False]
    np.testing.assert_array_equal(found.rows[0], found.rows[1])


def test_nonsense_options_are_refused():
    with pytest.raises(ConfigError, match="positive"):
        build_encoder(part("text/encoders", "hashing", dimensions=0))
