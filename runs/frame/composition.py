"""The mean of the kinds of composition that no text tells.

Where a foil adds something ("add_object", "add_attribute") it is the longer text, and a guess that
sees no image answers all of these questions (study 5, "blind"). What an arm has there is how it
takes longer texts. So the pages compare arms by the other kinds, all alike, and show every kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from frame.runs import packed, unpacked
from lift.terms import Outcomes

ALL_KINDS = "composition: accuracy/mean of kinds"
COMPOSED = "composition: accuracy/mean of kinds, nothing added"
ADDED = "composition: accuracy/mean of kinds, something added"
WORDS = "composition as the mean of the kinds in which nothing is added (chance 50%)"


def with_composed(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's figures and, where it was asked about composition, the two means."""
    whole = figures.get(ALL_KINDS)
    if whole is None or "outcomes" not in whole:
        return dict(figures)
    kinds = {
        name: figure
        for name, figure in figures.items()
        if name.startswith("composition: ") and "mean of kinds" not in name and "(" not in name
    }
    added = {name: figure for name, figure in kinds.items() if "/add_" in name}
    if not added:
        return {**figures, COMPOSED: whole}
    rest = {name: figure for name, figure in kinds.items() if name not in added}
    both = {COMPOSED: _mean(rest, whole), ADDED: _mean(added, whole)}
    return {**figures, **both}


def _mean(kinds: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean of kinds, each counting alike, questions of one image drawn together."""
    told = [unpacked(figure["outcomes"]) for figure in kinds.values()]
    every = unpacked(whole["outcomes"])
    values = np.concatenate([one.values for one in told])
    weights = np.concatenate([np.full(len(one.values), 1 / len(one.values)) for one in told])
    clusters = np.concatenate([_images(len(one.values), every) for one in told])
    return {
        "value": float(values @ weights / len(told)),
        "items": len(np.unique(clusters)),
        "protocol": whole["protocol"],
        "data": whole["data"],
        "digest": whole["digest"],
        "chance": 0.5,
        "outcomes": packed(Outcomes(values, weights.astype(np.float32), clusters)),
    }


def _images(count: int, every: Outcomes) -> Int64[np.ndarray, " count"]:
    """Return the image of each of a kind's questions.

    A kind has one question an image, and its questions weigh one by their number; so the images
    are those with an item of that weight.

    Raises:
        ValueError: they are not as many.
    """
    if every.clusters is None or every.weights is None:
        raise ValueError("A mean of kinds has weights, and questions of one image.")
    images = np.unique(every.clusters[np.isclose(every.weights, 1 / count, rtol=1e-4)])
    if len(images) != count:
        raise ValueError(f"{count} questions of a kind are of {len(images)} images.")
    return images.astype(np.int64)
