"""TextSpace: one fingerprint for one space, and a mismatch that says everything."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from lift.errors import CacheError, ConfigError, SpaceMismatch
from lift.text.space import TextSpace

SPACE = TextSpace(
    encoder="sentence-transformers",
    model="somebody/modèle",
    revision="sha256:00",
    prompt="",
    pooling="mean",
    max_tokens=256,
    normalised=True,
    dimensions=384,
)


def test_fingerprint_is_the_hash_of_canonical_json():
    values = {**dataclasses.asdict(SPACE), "format": "lift.text.space/1"}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert SPACE.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_fingerprint_never_changes():
    # Stored with every cache and bundle: another value here makes all of them unreadable.
    expected = "288853013add9e7ddc5f9796b4f4b66fb33ef5efc98baf59aeb0fbedacea6c18"
    assert SPACE.fingerprint == expected


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TextSpace)])
def test_every_field_moves_the_fingerprint(name):
    value = getattr(SPACE, name)
    if isinstance(value, bool):
        other = not value
    else:
        other = value + 1 if isinstance(value, int) else value + "x"
    moved = dataclasses.replace(SPACE, **{name: other})
    assert moved.fingerprint != SPACE.fingerprint
    assert SPACE.differences(moved) == {name: (value, other)}


def test_json_round_trip():
    assert TextSpace.from_json(SPACE.to_json()) == SPACE


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (lambda v: v.update(max_tokens=128), CacheError, "changed after it was written"),
        (lambda v: v.update(format="lift.text.space/9"), CacheError, "not of the format"),
        (lambda v: v.update(maxtokens=1), ConfigError, "max_tokens"),
        (lambda v: v.pop("pooling"), ConfigError, "lacks the option"),
        (lambda v: v.update(dimensions="384"), ConfigError, "must be int"),
    ],
)
def test_json_that_was_tampered_with_is_refused(edit, error, words):
    values = json.loads(SPACE.to_json())
    edit(values)
    with pytest.raises(error, match=words):
        TextSpace.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_what_is_no_space_is_refused(text):
    with pytest.raises(CacheError):
        TextSpace.from_json(text)


def test_mismatch_names_both_fingerprints_and_the_fields():
    other = dataclasses.replace(SPACE, prompt="query: ", max_tokens=128)
    SPACE.require_same(dataclasses.replace(SPACE))
    with pytest.raises(SpaceMismatch) as caught:
        SPACE.require_same(other, ours="the cache", theirs="the recipe")
    message = str(caught.value)
    for part in (
        SPACE.fingerprint,
        other.fingerprint,
        "the cache",
        "the recipe",
        "prompt: '' against 'query: '",
        "max_tokens: 256 against 128",
    ):
        assert part in message
    assert "pooling" not in message
