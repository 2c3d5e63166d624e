"""The questions about scenes, read back: captions are true of their scenes, foils are false."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from frame.scene_claims import CLAIMS, Claim, claims, counted, facts

from lift.data.source import open_source

SCENES = 500


@pytest.fixture(scope="module")
def scenes():
    source = open_source(f"scenes:count={SCENES},start=2000000,seed=1,resolution=48,long=0")
    return [source.read(number) for number in range(SCENES)]


def test_every_caption_is_true_and_every_foil_false(scenes) -> None:
    kinds = Counter()
    for sample in scenes:
        true = facts(sample.fields["scene"])
        for caption in sample.captions:
            assert claims(caption.text) <= true, caption.text
        for foil in sample.foils:
            assert claims(foil.caption) <= true, foil.caption
            assert not claims(foil.foil) <= true, foil.foil
            kinds[foil.kind] += 1
    assert min(kinds.values()) > SCENES / 2
    assert len(kinds) == 7


def test_nothing_that_a_caption_says_is_passed_over(scenes) -> None:
    """Texts that say as much claim as much: a swap changes who has what, not how much is said."""
    for sample in scenes:
        for foil in sample.foils:
            more = {"add_object": 3, "add_attribute": 1}.get(foil.kind, 0)
            assert len(claims(foil.foil)) == len(claims(foil.caption)) + more


def test_a_caption_is_read_word_by_word() -> None:
    found = claims("a picture of two small striped red circles to the left of a heart "
                   "on a noisy navy background")  # fmt: skip
    assert found == {
        *(Claim("circle", "present"), Claim("heart", "present")),
        *(Claim("circle", "number", "2"), Claim("heart", "number", "1")),
        *(Claim("circle", "size", "small"), Claim("circle", "texture", "striped")),
        *(Claim("circle", "colour", "red"), Claim("circle", "column", "0")),
        *(Claim("heart", "column", "1"), Claim("scene", "background", "noisy")),
        Claim("scene", "ground", "navy"),
    }
    row = counted([found])[0]
    assert {CLAIMS[at] for at in np.flatnonzero(row)} == found


@pytest.mark.parametrize("text", ["a dog", "a red circle near a square", "a red circle, happily"])
def test_other_sentences_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="of a scene"):
        claims(text)
