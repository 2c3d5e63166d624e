"""How many captions several images share, and what that costs at most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import mean
from lift.diagnosis._finding import Finding, finding, level_of
from lift.diagnosis._measured import Measured

NAME = "duplicate captions"
ADVICE = (
    "Give images captions of their own, or count every image of a caption as right (`lift eval` "
    "does); of captions that are class names judge with `lift eval --on zeroshot`."
)
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Config:
    """What duplicates may cost of text-to-image recall@1.

    Flickr8k loses 0.000 and products 0.044, where some titles name a line of products.
    """

    look: float = 0.1
    fault: float = 0.25


class Duplicates:
    """Share of captions that are also another image's, after cleaning.

    A caption of m images can't tell them apart: where one image counts as right, recall@1 is at
    most the mean of 1/m over captions. What is missing to 1 decides the level. Copies of one
    image file are one image.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the share of captions that belong to several images."""
        both = np.stack([measured.caption, measured.content[measured.owner]])
        text = np.unique(both, axis=1)[0]
        images = np.bincount(text, minlength=len(measured.texts))
        of = images[measured.caption]
        cost = 1.0 - float((1.0 / of).mean())
        level = level_of(cost, self.config.look, self.config.fault)
        most = np.argsort(-images, kind="stable")[:SHOWN]
        shared = mean((of > 1).astype(np.float64), measured.caption)
        shared = shared._replace(low=max(0.0, shared.low), high=min(1.0, shared.high))
        means = f"Captions shared by several images cost recall@1 by caption {cost:.1%} at most."
        if level != "fine":
            first = measured.texts[int(most[0])][:60]
            means = (
                f"Captions that several images share (first {first!r}, of {images[most[0]]}) cost "
                f"recall@1 by caption up to {cost:.1%}, whatever the model."
            )
        return finding(
            NAME,
            level,
            shared,
            "share of captions that another image has, too",
            means,
            ADVICE,
            share=True,
            details={
                "recall_lost_at_most": cost,
                "captions": len(measured.caption),
                "distinct": len(measured.texts),
                "most_shared": [
                    {"caption": measured.texts[int(n)][:120], "images": int(images[n])}
                    for n in most
                    if images[n] > 1
                ],
            },
        )


def build(config: Config) -> Duplicates:
    """Return the question."""
    return Duplicates(config)
