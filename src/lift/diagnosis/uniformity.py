"""Whether the vectors of each side spread over the sphere, or crowd in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import GROUPS, Figure, few, from_groups
from lift.diagnosis._finding import Finding, finding, level_of, skipped
from lift.diagnosis._measured import ENOUGH, Measured

NAME = "uniformity"
ADVICE = (
    "Try another text encoder or its prompt, or train with a condition that centres and whitens "
    "the captions (it is folded back at the end); `lift card` compares text spaces."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Above what the captions' uniformity is looked at, and is a fault.

    With a mean cosine m of two captions and little spread around it, uniformity is about
    -4 (1 - m): -1.2 is m = 0.7, -0.4 is m = 0.9. MiniLM gives -3.5 on photo captions and -2.7 on
    titles of one shop; embedding models that are trained with a low temperature (E5) crowd around
    0.75 and still rank well, so that is no fault; raw hidden states of language models lie at 0.9.
    """

    look: float = -1.2
    fault: float = -0.4


class Uniformity:
    """log E exp(-2 |x - y|^2) over pairs of different rows (Wang and Isola 2020, section 4.1.2).

    0 is all rows at one point; -4 is the uniform distribution in many dimensions. The level is
    that of the captions: what makes images crowd has lines of its own (gap, rank, images alike).
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the uniformity of the captions, with that of the images beside it."""
        pairs = measured.pairs
        if len(pairs) < ENOUGH and not measured.flat_texts:
            return skipped(NAME, measured.unfit(), ADVICE)
        # Captions that are all one row still are distinct texts, of which there may be few pairs.
        z_text = measured.z_text if measured.flat_texts else pairs.z_text
        text = uniformity(z_text)
        image = None if len(pairs) < ENOUGH else uniformity(pairs.z_image)
        level = level_of(text.value, self.config.look, self.config.fault)
        beside = "" if image is None else f"; images {image.value:.2f}"
        if level == "fine":
            means = f"Captions spread well over the sphere (0 is one point, -4 uniform){beside}."
        else:
            means = (
                "Captions crowd in one cone of the text space, which leaves images little room to "
                f"be told apart{beside}."
            )
        return finding(
            NAME,
            level,
            text,
            "log of the mean of exp(-2 d^2) over two captions",
            means,
            ADVICE,
            details={
                "images": None if image is None else list(image[:3]),
                "mean_cosine_of_captions": measured.text_cosine,
                "mean_cosine_of_images": measured.image_cosine,
            },
        )


def uniformity(z: np.ndarray) -> Figure:
    """Return log E exp(-2 |x - y|^2) over pairs of at most 1,000 rows, at least two."""
    rows = z[few(len(z))].astype(np.float64)
    group = np.arange(len(rows)) % GROUPS
    within = np.zeros((GROUPS, GROUPS))
    for g in range(GROUPS):
        mine = rows[group == g]
        potential = np.exp(-2.0 * np.maximum(0.0, 2.0 - 2.0 * (mine @ rows.T)))
        within[g] = np.bincount(group, potential.sum(axis=0), minlength=GROUPS)
    size = np.bincount(group, minlength=GROUPS)
    diagonal = np.exp(-4.0 * (1.0 - (rows * rows).sum(axis=1).clip(max=1.0)))
    own = np.bincount(group, diagonal, minlength=GROUPS)

    def of(kept: np.ndarray) -> float:
        count = float(size[kept].sum())
        total = within[np.ix_(kept, kept)].sum() - own[kept].sum()
        return math.log(total / (count * (count - 1)))

    every = np.arange(GROUPS)
    left = [of(every[every != g]) for g in range(GROUPS)] if len(rows) > 2 * GROUPS else [0.0, 0.0]
    return from_groups(of(every), left, len(rows))


def build(config: Config) -> Uniformity:
    """Return the question."""
    return Uniformity(config)
