"""Whether right pairs lie nearer to each other than wrong ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import few, mean
from lift.diagnosis._finding import Finding, Level, OfPairs, finding
from lift.diagnosis._measured import Measured

NAME = "alignment"
ADVICE = (
    "Read the other lines first, which name causes; then train longer, or on pairs like these. If "
    "right pairs are the far ones, look for a sign lost on the way (weights converted, a loss)."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Below how many deviations apart right and wrong pairs are looked at, and are a fault.

    Healthy small models: 1.3 (Flickr8k, 400 images) and 2.0 (products); models on the other's
    data: 0.1 to 0.4. Shuffled pairs scatter around 0 by 0.05 for 400 of them, and have a line of
    their own, so only what lies clearly on the wrong side is this line's fault.
    """

    look: float = 0.8
    fault: float = -0.3


class Alignment(OfPairs):
    """E |z_image - z_text|^2 over right pairs (Wang and Isola 2020, section 4.1.1, alpha = 2).

    It is read beside the same over wrong pairs: how many standard deviations of the latter lie
    between the means decides the level.
    """

    name, advice = NAME, ADVICE
    config: Config

    def answer(self, measured: Measured) -> Finding:
        """Return the mean squared distance of right pairs."""
        pairs = measured.pairs
        right = 2.0 - 2.0 * (pairs.z_image * pairs.z_text).sum(axis=1, dtype=np.float64)
        some = few(len(pairs))
        distances = 2.0 - 2.0 * (pairs.z_image[some] @ pairs.z_text[some].T).astype(np.float64)
        wrong = distances[~np.eye(len(some), dtype=bool)]
        apart = float((wrong.mean() - right.mean()) / max(float(wrong.std()), 1e-9))
        near = f"{abs(apart):.1f} standard deviations"
        level: Level = "fine"
        if apart < self.config.look:
            level = "fault" if apart < self.config.fault else "look"
        means = f"Right pairs lie {near} nearer than wrong ones."
        if level == "look":
            means = f"Right pairs lie hardly nearer than wrong ones ({near} apart)."
        if level == "fault":
            means = f"Right pairs lie {near} further than wrong ones."
        return finding(
            NAME,
            level,
            mean(right),
            "mean squared distance of right pairs",
            means,
            ADVICE,
            details={"wrong_pairs": float(wrong.mean()), "deviations_apart": apart},
        )


def build(config: Config) -> Alignment:
    """Return the question."""
    return Alignment(config)
