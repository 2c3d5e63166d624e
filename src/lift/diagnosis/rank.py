"""How many directions images use of those that captions use: whether the image side collapsed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import eigenvalues, few, jackknife
from lift.diagnosis._finding import Finding, OfPairs, finding, level_of
from lift.diagnosis._measured import Measured
from lift.text.geometry import effective_rank

NAME = "effective rank"
ADVICE = (
    "Try a contrastive objective in place of the cosine alone, a lower learning rate or a longer "
    "warm-up, and a wider head; a collapsed tower does not come back, so start it anew."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which share of the captions' effective rank images have to reach, and how many directions.

    Healthy small models: 71 directions, 0.75 of the captions' (Flickr8k), and 20 directions, 0.21
    (products, which are photographed alike); on the other's data 13 (0.14) and 20 (0.20). Rich
    text spaces have higher ranks than any image side, so a fault needs `few` directions as well.
    """

    look: float = 0.15
    fault: float = 0.12
    few: float = 5.0


class Rank(OfPairs):
    """exp of the entropy of the covariance's eigenvalues (Roy and Vetterli 2007), rows centred.

    Both sides are taken on the same pairs: ranks grow with their number.
    """

    name, advice = NAME, ADVICE
    config: Config

    def answer(self, measured: Measured) -> Finding:
        """Return the effective rank of the images beside that of their captions."""
        pairs = measured.pairs
        some = few(len(pairs))
        image, text = pairs.z_image[some], pairs.z_text[some]

        def of_images(kept: np.ndarray) -> float:
            return effective_rank(eigenvalues(image[kept]))

        found = jackknife(of_images, len(some))
        captions = effective_rank(eigenvalues(text))
        share = found.value / captions if captions else 1.0
        level = level_of(share, self.config.look, self.config.fault)
        if level == "fault" and found.value >= self.config.few:
            level = "look"
        means = f"Images use {share:.0%} of the {captions:.1f} dimensions that their captions use."
        if level == "look":
            means = (
                f"Images use {found.value:.1f} dimensions where their captions use {captions:.1f}: "
                "few things tell them apart."
            )
        if level == "fault":
            means = (
                f"The image side collapsed: it uses {found.value:.1f} dimensions where the "
                f"captions use {captions:.1f}."
            )
        return finding(
            NAME,
            level,
            found,
            "effective rank of the image vectors",
            means,
            ADVICE,
            details={"captions": captions, "share_of_captions": share},
        )


def build(config: Config) -> Rank:
    """Return the question."""
    return Rank(config)
