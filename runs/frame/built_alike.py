"""Whether a text space puts together what says the same or what is built alike.

`lift.diagnosis.inverse` measures it on sentences about daily life. A text tower that was trained on
scenes alone hardly knows those words, so the same is measured beside on sentences in the scenes'
own: 12 contents in 6 builds, of which three are builds of short captions and three of long ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from frame.runs import packed
from lift.diagnosis.inverse import CONTENTS, FRAMES, effect, sentences
from lift.terms import Encoder, Outcomes

WORDS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "higher than", "over"),
    "below": ("below", "lower than", "under"),
}
"""How the generator says where a thing stands."""
OTHERWISE = {"left": "right", "right": "left", "above": "below", "below": "above"}


class Content(NamedTuple):
    """Two things, where the first stands, and what they stand on."""

    first: str
    relation: str
    second: str
    ground: str


SCENE_CONTENTS = (
    Content("a red circle", "left", "a blue square", "plain white"),
    Content("a green star", "above", "a pink heart", "noisy grey"),
    Content("a brown ring", "below", "a cyan cross", "fading black"),
    Content("a yellow diamond", "right", "a purple triangle", "checkered beige"),
    Content("a pink square", "above", "a green ring", "plain navy"),
    Content("a blue heart", "left", "a yellow cross", "noisy mint"),
    Content("a purple circle", "below", "a brown star", "fading beige"),
    Content("a cyan triangle", "right", "a red diamond", "checkered white"),
    Content("a brown heart", "left", "a purple square", "fading mint"),
    Content("a yellow ring", "right", "a green circle", "checkered black"),
    Content("a red cross", "above", "a cyan star", "plain grey"),
    Content("a blue diamond", "below", "a pink triangle", "noisy navy"),
)
"""No two share a thing with its colour, or a background with its colour."""

SCENE_FRAMES = (
    "{a} {ab[0]} {b} on a {ground} background",
    "a picture of {b} {ba[1]} {a} on a {ground} background",
    "a drawing of {a} {ab[2]} {b} on a {ground} background",
    "The image shows {a} and {b}. {A} is {ab[0]} {b}. The background is {ground}.",
    "There is a scene with {b} and {a}. {B} is {ba[1]} {a}. All of it is on a {ground} background.",
    "The background is {ground}. This picture contains {a} and {b}. {B} is {ba[2]} {a}.",
)
"""One meaning in six builds of the captions; the fourth is that of the one template."""

GENERAL, OWN = "syntax: same content nearer", "syntax: same content nearer, words of scenes"
"""Shares of cases, figures of a record."""


def scene_sentences() -> list[str]:
    """Return every content in every build, content by content."""
    return [_said(content, frame) for content in SCENE_CONTENTS for frame in SCENE_FRAMES]


def syntax(found: Encoder) -> dict[str, dict[str, Any]]:
    """Return figures: how often the same content built otherwise is nearer than the reverse.

    Args:
        found: has a row for each of these sentences, or makes it.
    """
    figures = {}
    for name, texts in ((GENERAL, sentences()), (OWN, scene_sentences())):
        rows = np.asarray(found.encode_texts(texts))
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        wins, content, build = effect(rows)
        figures[name] = {
            "value": float(wins.mean()),
            "low": float(np.quantile(wins, 0.025)),
            "high": float(np.quantile(wins, 0.975)),
            "items": len(wins),
            "protocol": f"{len(CONTENTS)} contents in {len(FRAMES)} builds",
            "chance": 0.5,
            "same_content": float(content.mean()),
            "same_build": float(build.mean()),
            "outcomes": packed(Outcomes(wins.astype(np.float32))),
        }
    return figures


def _said(content: Content, frame: str) -> str:
    ab, ba = WORDS[content.relation], WORDS[OTHERWISE[content.relation]]
    first, second = content.first, content.second
    return frame.format(
        a=first,
        b=second,
        A=first[0].upper() + first[1:],
        B=second[0].upper() + second[1:],
        ab=ab,
        ba=ba,
        ground=content.ground,
    )
