"""Whether images and captions lie in different parts of the space, and whether a shift is why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import few, jackknife
from lift.diagnosis._finding import Finding, OfPairs, finding, level_of
from lift.diagnosis._measured import Measured

NAME = "modality gap"
ADVICE = (
    "Try the cosine objective or a mix with it, which pulls right pairs together; for one list of "
    "images and captions shift the scores or merge two lists (`lift eval --on mixed`)."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which share of the distance of right pairs a constant shift may explain.

    Healthy small models: 0.05 (Flickr8k) and 0.21 (products); a model in a domain it was not
    trained for: 0.36. OpenAI's CLIP has a gap of 0.82 (Liang et al. 2022) at cosines of right
    pairs near 0.27, a share of 0.46: to be looked at. Unit rows that are pushed away from captions
    that are spread evenly can't pass 0.5 by much.
    """

    look: float = 0.3
    fault: float = 0.5


class Gap(OfPairs):
    """Distance between the mean image and the mean caption (Liang et al. 2022, section 2).

    Of the mean squared distance of right pairs, |mean difference|^2 is the part that one constant
    shift would remove: E|a - b|^2 = |E a - E b|^2 + the rest. That share decides the level.
    """

    name, advice = NAME, ADVICE
    config: Config

    def answer(self, measured: Measured) -> Finding:
        """Return the distance of the means and the share that a shift explains."""
        pairs = measured.pairs
        apart = pairs.z_image.astype(np.float64) - pairs.z_text

        def gap(kept: np.ndarray) -> float:
            return float(np.linalg.norm(apart[kept].mean(axis=0)))

        found = jackknife(gap, len(apart))
        share = found.value**2 / max(float((apart**2).sum(axis=1).mean()), 1e-12)
        level = level_of(share, self.config.look, self.config.fault)
        beats = _beats(pairs.z_image, pairs.z_text)
        means = (
            f"A constant shift explains {share:.0%} of the distance of right pairs; by raw cosine "
            f"the right image beats another photo's caption for {beats:.0%} of captions."
        )
        if level != "fine":
            means = f"Images lie in a part of the space of their own. {means[:-1]}"
            means = means.replace(". A", ": a") + "."
        return finding(
            NAME,
            level,
            found,
            "distance of the mean image from the mean caption",
            means,
            ADVICE,
            details={"explained_by_a_shift": share, "image_beats_other_caption": beats},
        )


def _beats(z_image: np.ndarray, z_text: np.ndarray) -> float:
    """Return how often a caption's cosine with its image is above that with another caption."""
    some = few(len(z_image))
    right = (z_image[some] * z_text[some]).sum(axis=1)[:, None]
    cosines = z_text[some] @ z_text[some].T
    count = len(some)
    wins = float((right > cosines).sum() - (right[:, 0] > np.diag(cosines)).sum())
    return wins / (count * (count - 1))


def build(config: Config) -> Gap:
    """Return the question."""
    return Gap(config)
