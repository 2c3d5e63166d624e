"""Which parts of a prompt an image bears out."""

from __future__ import annotations

import numpy as np
import pytest

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.scoring import faithfulness
from lift.scoring.faithful import parts_of
from made_model import made

PROMPT = "A red bus parked next to a small dog. Two men are sitting on a wooden bench."


@pytest.fixture(scope="module")
def model() -> Bundle:
    return made(dimensions=256)


def seen(model: Bundle, text: str) -> np.ndarray:
    """Return the vector of an image that shows exactly what a text says."""
    return model.encode_texts(text)[0]


IMAGE = np.zeros((32, 32, 3), np.uint8)


def test_a_prompt_comes_apart_at_its_phrases_and_what_links_them() -> None:
    parts = parts_of(PROMPT)
    told = [(part.kind, PROMPT[part.start : part.end]) for part in parts]
    assert told[:4] == [
        ("sentence", "A red bus parked next to a small dog."),
        ("phrase", "A red bus"),
        ("link", "next to"),
        ("phrase", "a small dog"),
    ]
    assert ("phrase", "Two men") in told and ("link", "sitting") in told
    assert ("phrase", "a wooden bench") in told
    for part in parts:
        assert part.sentence in PROMPT and len(part.edits) <= 16
        assert part.sentence not in part.edits
    by_text = {PROMPT[part.start : part.end]: part.edits for part in parts}
    assert "A red bus parked next to a large dog." in by_text["a small dog"]
    assert all("small dog" in text for text in by_text["A red bus"])


def test_what_the_image_does_not_show_has_the_least_margin(model: Bundle) -> None:
    for shown, wrong in (
        ("large", "a small dog"),
        ("brown", "A red bus"),
        ("metal", "a wooden bench"),
    ):
        old = {"large": "small", "brown": "red", "metal": "wooden"}[shown]
        z = seen(model, PROMPT.replace(old, shown))
        found = faithfulness(model, IMAGE, PROMPT, z=z)
        assert found.least is not None and found.least.text == wrong
        assert [part.text for part in found.doubtful] == [wrong]
        assert found.least.edits[0].text in PROMPT.replace(old, shown)
        assert f"{old} -> {shown}" in found.least.edits[0].change
        right = faithfulness(model, IMAGE, PROMPT, z=seen(model, PROMPT))
        assert right.overall is not None and found.overall is not None
        assert right.overall == 1 > found.overall and not right.doubtful


def test_a_part_is_compared_within_its_sentence(model: Bundle) -> None:
    z = seen(model, PROMPT)
    found = faithfulness(model, IMAGE, PROMPT, z=z)
    part = next(part for part in found.parts if part.text == "a small dog")
    texts = [part.text, "A red bus parked next to a small dog.", part.edits[0].text]
    alone, sentence, best = model.encode_texts(texts) @ z
    assert part.cosine == pytest.approx(float(alone), abs=1e-5)
    assert part.sentence == pytest.approx(float(sentence), abs=1e-5)
    assert part.margin == pytest.approx(float(sentence - best), abs=1e-5)
    assert part.chance == 1 / (1 + len(part.edits)) and part.beaten == 1
    assert [e.cosine for e in part.edits] == sorted((e.cosine for e in part.edits), reverse=True)
    assert found.cosine == pytest.approx(1, abs=1e-5)


def test_other_prompts_lend_their_phrases(model: Bundle) -> None:
    prompt = "a large zonk above a frobnicator"
    bare = {prompt[p.start : p.end]: p.edits for p in parts_of(prompt)}
    assert not bare["a frobnicator"]
    others = ["Two green quuxes and a zonk.", "A wombat"]
    lent = {prompt[p.start : p.end]: p.edits for p in parts_of(prompt, others=others)}
    assert set(lent["a frobnicator"]) == {
        "a large zonk above two green quuxes",
        "a large zonk above a wombat",
    }  # not "a zonk", which the prompt has
    z = seen(model, "a large zonk above a wombat")
    found = faithfulness(model, IMAGE, prompt, others=others, z=z)
    assert found.least is not None and found.least.text == "a frobnicator"


def test_the_image_is_asked_where_nobody_gives_its_vector(model: Bundle) -> None:
    found = faithfulness(model, IMAGE, "a red bus")
    assert found.cosine == pytest.approx(
        float(model.similarity(IMAGE, "a red bus")[0, 0]), abs=1e-5
    )


def test_other_languages_are_one_part_without_edits(model: Bundle) -> None:
    found = faithfulness(model, IMAGE, "赤いバス。")
    assert [part.text.rstrip("。") for part in found.parts] == ["赤いバス"]
    assert found.overall is None and found.least is None and not found.doubtful
    assert found.parts[0].margin is None and found.parts[0].chance == 1


@pytest.mark.parametrize(("prompt", "edits"), [(" ", 4), ("x" * 20_001, 4), ("a dog", 0)])
def test_senseless_prompts_are_refused(model: Bundle, prompt: str, edits: int) -> None:
    with pytest.raises(ConfigError, match="A prompt has"):
        faithfulness(model, IMAGE, prompt, edits=edits)
