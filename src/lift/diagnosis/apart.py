"""What the text space can't tell apart: captions and what edits make of them, by kind of edit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._finding import Finding, Level, skipped
from lift.diagnosis._measured import Measured
from lift.text.edits import Kind, choose_texts, sensitivity
from lift.text.geometry import unit_rows
from lift.text.pairs import made_pairs

NAME = "told apart"
ADVICE = (
    "Judge the text encoder with `lift card` beside others: what its rows don't tell apart no "
    "image tower can learn, and negatives of that kind teach nothing."
)
EDITS = 900
ENOUGH = 10
"""Edits of a kind below which it has no part in the level."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """How far an edit has to move a caption, as a share of the way to an unrelated one.

    The kind that is moved least decides. MiniLM on Flickr8k: 0.15 for swapped parts, 0.30 for
    reordered words, 0.34 for a word replaced (0.18 to 0.35 on products); a bag of words moves by 0
    if words are reordered.
    The interval is that of the edits, over photos.
    """

    look: float = 0.1
    fault: float = 0.05


class Apart:
    """Mean distance of a caption and its edit, over that of unrelated captions, by kind.

    Edits are made of the captions by rule (`lift.text.negatives`, English): parts swapped, one
    word replaced, words reordered. |p - n| bounds the margin by which any image can prefer p.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the relative distance of the kind that moves a caption least."""
        if measured.flat_texts:
            return skipped(NAME, measured.unfit(texts_only=True), ADVICE)
        groups: dict[str, list[str]] = {}
        for text, image in zip(measured.caption.tolist(), measured.owner.tolist(), strict=True):
            groups.setdefault(measured.keys[image], []).append(measured.texts[text])
        pairs = made_pairs((), groups)
        if not pairs.edits:
            return skipped(NAME, "No rule could edit these captions (they know English).", ADVICE)
        chosen = choose_texts(pairs, EDITS)
        rows = measured.rows_of(chosen.texts)
        if isinstance(rows, str):
            return skipped(NAME, rows, "Open the model with its text encoder.")
        found = sensitivity(chosen, unit_rows(np.asarray(rows), list(chosen.texts)))
        kinds = [kind for kind in found.kinds if kind.bound.count >= ENOUGH]
        if not kinds or found.unrelated is None:
            why = f"{len(pairs.edits)} edits could be made of these captions, too few to tell."
            return skipped(NAME, why, ADVICE)
        far = max(found.unrelated.mean.value, 1e-9)
        worst = min(kinds, key=lambda kind: kind.bound.mean.value)
        moved = worst.bound.mean
        value = moved.value / far
        level: Level = "fine"
        if value < self.config.look:
            level = "fault" if value < self.config.fault else "look"
        return Finding(
            name=NAME,
            level=level,
            means=_means(level, worst, value),
            advice=ADVICE,
            value=value,
            low=moved.low / far,
            high=moved.high / far,
            items=moved.items,
            unit=f"mean distance of an edit ({_NAMES.get(worst.name, worst.name)}) over that of "
            "unrelated captions",
            share=True,
            details={
                "kinds": {kind.name: _told(kind, far) for kind in kinds},
                "unrelated_captions": far,
                "paraphrases": None if found.paraphrases is None else found.paraphrases.mean.value,
            },
        )


_NAMES = {
    "swap": "parts swapped",
    "replace": "a word replaced",
    "reorder": "words reordered",
}


def _means(level: Level, worst: Kind, value: float) -> str:
    """Return the sentence on the kind that moves least."""
    name = _NAMES.get(worst.name, worst.name)
    blind = f"; {worst.blind} of {worst.bound.count} have the very row" if worst.blind else ""
    if level == "fine":
        return (
            f"The edits that move a caption least ({name}) move it {value:.0%} of the way{blind}."
        )
    return (
        f"The text space hardly tells a caption from its edit with {name}: {value:.1%} of the way "
        f"to an unrelated one{blind}."
    )


def _told(kind: Kind, far: float) -> dict[str, float | int | None]:
    return {
        "edits": kind.bound.count,
        "mean": kind.bound.mean.value,
        "of_the_way": kind.bound.mean.value / far,
        "same_row": kind.blind,
        "nearer_than_a_paraphrase": None if kind.nearer is None else kind.nearer.value,
    }


def build(config: Config) -> Apart:
    """Return the question."""
    return Apart(config)
