"""Whether images reach the tower as it expects them: channels, statistics of pixels."""

from __future__ import annotations

from dataclasses import dataclass

from lift.diagnosis._figures import mean
from lift.diagnosis._finding import Finding, Level, finding, skipped
from lift.diagnosis._measured import Measured

NAME = "pixels"
ADVICE = (
    "Give the encoder pixels as it was trained with them (RGB, its mean and deviation); images "
    "read with OpenCV come as BGR."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """How much better another way may do: its gain in the chance that the own caption is nearer.

    The interval of the gain, over the same images, has to lie above 0, too, and the other way has
    to fit by itself. On healthy small models every other way loses: red and blue exchanged 0.06
    (products) and 0.16 (Flickr8k), other statistics 0.01 to 0.06.
    """

    look: float = 0.01
    fault: float = 0.04
    fits: float = 0.6


class Pixels:
    """Images encoded anew with their pixels prepared otherwise, judged on the same captions.

    Tried are red and blue exchanged and, where an encoder can be put behind other statistics
    (`with_pixels`), those of common towers. 192 images at most. A fault here
    makes what is told of the image vectors its consequence.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return what the best other way gains."""
        why = measured.unfit(texts_only=True)
        if why:
            return skipped(NAME, why, ADVICE)
        trials = measured.trials
        if len(trials) < 2:
            return skipped(NAME, "The images can't be encoded anew from pixels here.", ADVICE)
        own = trials[0].places
        gains = {trial.name: mean(trial.places - own) for trial in trials[1:]}
        best = max(gains, key=lambda name: gains[name].value)
        gain = gains[best]
        level: Level = "fine"
        fits = own.mean() + gain.value >= self.config.fits
        if fits and gain.low > 0 and gain.value >= self.config.look:
            level = "fault" if gain.value >= self.config.fault else "look"
        means = f"No other way to prepare pixels finds captions better ({len(gains)} were tried)."
        if level != "fine":
            means = (
                f"Images are matched better with {best}: the own caption is nearer in "
                f"{own.mean() + gain.value:.1%} of cases, as it is in {own.mean():.1%}."
            )
        return finding(
            NAME,
            level,
            gain,
            f"what is gained by {best}",
            means,
            ADVICE,
            share=True,
            details={
                "as it is": float(own.mean()),
                "gains": {name: one.value for name, one in gains.items()},
            },
        )


def build(config: Config) -> Pixels:
    """Return the question."""
    return Pixels(config)
