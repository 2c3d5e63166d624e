"""Whether all images look alike to the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import few, jackknife
from lift.diagnosis._finding import Finding, finding, level_of, skipped
from lift.diagnosis._measured import ALIKE, ENOUGH, Measured, mean_cosine
from lift.text.geometry import SAME

NAME = "images alike"
ADVICE = (
    "Check that weights were loaded (names that did not match leave a tower as it was made), that "
    "pixels are not all clipped, and that the loss fell; then start the training anew."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which share of the captions' spread the images have to have; spread is 1 - mean cosine.

    Healthy small models: 1.05 to 1.35; on the other's data 0.65 to 0.8. `ALIKE` says the fault, at
    which other lines have nothing to measure.
    """

    look: float = 0.1
    fault: float = ALIKE


class Alike:
    """Mean cosine of two different images, beside that of two captions; exact over all pairs."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the mean cosine of two images."""
        pairs = measured.pairs
        if measured.flat_texts or len(pairs) < ENOUGH:
            return skipped(NAME, measured.unfit(), ADVICE)
        spread = (1 - measured.image_cosine) / max(1 - measured.text_cosine, 1e-9)
        level = level_of(spread, self.config.look, self.config.fault)
        same = _same(pairs.z_image)
        means = (
            f"Images are told apart: two of them have a cosine of {measured.image_cosine:.2f}, two "
            f"captions {measured.text_cosine:.2f}."
        )
        if level != "fine":
            means = (
                f"To the model all images look alike: two of them have a cosine of "
                f"{measured.image_cosine:.4f}, where two captions have {measured.text_cosine:.2f}."
            )
        return finding(
            NAME,
            level,
            jackknife(lambda kept: mean_cosine(pairs.z_image[kept]), len(pairs)),
            "mean cosine of two images",
            means,
            ADVICE,
            details={
                "captions": measured.text_cosine,
                "spread_beside_captions": spread,
                "different_files_with_one_vector": same,
            },
        )


def _same(z: np.ndarray) -> float:
    """Return which share of different files has the vector of another one."""
    rows = z[few(len(z))].astype(np.float64)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1.0)
    return float((cosines.max(axis=1) >= 1.0 - SAME**2).mean())


def build(config: Config) -> Alike:
    """Return the question."""
    return Alike(config)
