"""Whether bfloat16 stands for float32: by the worst row."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lift.config import part
from lift.text.encoder import EncodedTexts, build_encoder
from lift.text.encoders.hashing import Config, HashingEncoder
from lift.text.precision import bfloat16_is_safe, min_cosine


def test_worst_row_decides():
    a = np.array([[1, 0], [3, 4], [0, 0]], np.float32)
    assert min_cosine(a, a) == 1.0
    assert min_cosine(a, 2 * a) == pytest.approx(1.0)
    b = np.array([[1, 0], [4, 3], [0, 0]], np.float32)
    assert min_cosine(a, b) == pytest.approx(24 / 25)
    assert min_cosine(a[:0], a[:0]) == 1.0


def test_rows_that_are_broken_on_one_side_count_as_far():
    a = np.array([[1, 0], [3, 4]], np.float32)
    for broken in (0.0, np.nan, np.inf):
        b = a.copy()
        b[1] = broken
        assert min_cosine(a, b) == 0.0


def test_an_exact_encoder_is_safe():
    assert bfloat16_is_safe(build_encoder(part("text/encoders", "hashing"), "cpu")) == (True, 1.0)


def test_a_rounding_encoder_is_judged_by_probes_and_texts(tiny_model):
    encoder = build_encoder(
        part("text/encoders", "sentence_transformer", model=str(tiny_model)), "cpu"
    )
    safe, worst = bfloat16_is_safe(encoder, ["a dog"])
    rows = [
        encoder.encode([*encoder.probes, "a dog"], precision=p).rows
        for p in ("float32", "bfloat16")
    ]
    assert worst == min_cosine(*rows)
    assert 0.99 < worst < 1 and safe == (worst >= 0.9999)


class Coarse(HashingEncoder):
    """Hashing, whose bfloat16 is rounded to tenths for the last text."""

    def encode(self, texts, *, precision="float32", token_budget=None) -> EncodedTexts:
        found = super().encode(texts)
        if precision == "float32":
            return found
        rows = found.rows.copy()
        rows[-1] = rows[-1].round(1)
        return dataclasses.replace(found, rows=rows)


def test_one_text_that_moves_too_far_is_not_safe():
    safe, worst = bfloat16_is_safe(Coarse(Config()), ["two dogs on a red sofa"])
    assert not safe and worst < 0.9999
