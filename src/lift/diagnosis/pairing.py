"""Whether captions belong to their images: mispaired data scores at chance, its sides healthy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lift.diagnosis._figures import mean, placed
from lift.diagnosis._finding import Finding, Level, OfPairs, finding
from lift.diagnosis._measured import ENOUGH, Measured

NAME = "pairing"
ADVICE = (
    "Look at ten pairs (`lift data inspect`); a list that was sorted, filtered or shuffled on one "
    "side only is the usual cause. If the pairs are right, the model was trained for other data."
)
SHIFTS = (1, -1, 2, -2, 3, -3)
FITS = 0.65


@dataclass(frozen=True, kw_only=True)
class Config:
    """Below which chance to find the own caption nearer than another one pairs are looked at.

    Healthy small models: 0.80 (Flickr8k) and 0.97 (products); models on the other's data, 0.53 and
    0.62. Chance is 0.5: pairs are at fault where the interval holds it and ends below `chance`.
    """

    look: float = 0.65
    chance: float = 0.55


class Pairing(OfPairs):
    """Chance that an image's own caption is nearer than another's, and the same for a caption.

    Ties count half. At chance, with images and captions that both spread, the pairs are wrong: a
    model that is bad at its task is still better than guessing. Where the captions of the images
    one, two or three places on would fit, that is told. Of wrong pairs half fall into the far half
    of captions: twice the share that is there bounds how many pairs may be wrong.
    """

    name, advice = NAME, ADVICE
    config: Config

    def answer(self, measured: Measured) -> Finding:
        """Return the chance that the own caption is nearer."""
        pairs = measured.pairs
        to_text = placed(pairs.z_image, pairs.z_text)
        to_image = placed(pairs.z_text, pairs.z_image)
        found = mean((to_text + to_image) / 2)
        found = found._replace(low=max(0.0, found.low), high=min(1.0, found.high))
        level: Level = "fine" if found.value >= self.config.look else "look"
        means = (
            f"An image's own caption is nearer than another's in {found.value:.1%} of cases "
            "(chance 50%)."
        )
        shift = None
        if found.low <= 0.5 <= found.high < self.config.chance:
            level = "fault"
            means = (
                "Right captions rank as if drawn by lot, while images and captions each spread: "
                "the pairs do not belong together."
            )
            shift = _shift(measured)
            if shift is not None:
                means = means[:-1] + f", and captions fit the images {shift:+d} places on."
        return finding(
            NAME,
            level,
            found,
            "chance that the own caption is nearer than another",
            means,
            ADVICE,
            share=True,
            details={
                "image_to_caption": float(to_text.mean()),
                "caption_to_image": float(to_image.mean()),
                "shift": shift,
                "mispaired_at_most": min(1.0, 2.0 * float((to_text < 0.5).mean())),
            },
        )


def _shift(measured: Measured) -> int | None:
    """Return by how many places the captions are off, where one of `SHIFTS` makes them fit."""
    pairs = measured.pairs
    number = np.array(measured.numbers)[pairs.image]
    place = {int(n): at for at, n in enumerate(number)}
    for shift in SHIFTS:
        both = [(at, place[n + shift]) for n, at in place.items() if n + shift in place]
        if len(both) < ENOUGH:
            continue
        text, image = np.array(both).T
        if placed(pairs.z_image[image], pairs.z_text[text]).mean() >= FITS:
            return shift
    return None


def build(config: Config) -> Pairing:
    """Return the question."""
    return Pairing(config)
