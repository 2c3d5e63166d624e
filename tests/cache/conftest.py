"""Captions and a weightless encoder for caches that are made in milliseconds."""

from __future__ import annotations

import itertools

import pytest

from lift.config import part
from lift.text.encoder import TextEncoder, build_encoder


@pytest.fixture
def encoder() -> TextEncoder:
    return build_encoder(part("text/encoders", "hashing", dimensions=24, max_tokens=6))


@pytest.fixture
def captions() -> list[str]:
    """Return 60 distinct captions in 90: every other one comes twice, once with outer space."""
    colours, things = ("red", "green", "blue"), ("dog", "cat", "boat", "house", "tree")
    places = ("a wall", "the sea", "a road", "a very old grey bridge")
    words = itertools.product(colours, things, places)
    distinct = [f"a {colour} {thing} by {place}" for colour, thing, place in words]
    return [*distinct, *(f"  {text}\n" for text in distinct[::2])]
