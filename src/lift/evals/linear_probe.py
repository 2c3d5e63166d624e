"""Name the class of an image by a linear classifier that is fitted to frozen vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lift.errors import ConfigError
from lift.evals import _logistic as logistic
from lift.evals._encode import blocks
from lift.evals._labelled import (
    Labelled,
    Of,
    numbered,
    parts_of,
    places_among,
    require_several,
    seen_as,
)
from lift.evals._probe import Probe, require_same_width
from lift.terms import Encoder, EvalResult, Source

HELD_OUT = 5
"""One of so many parts of the training images chooses the decay."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the linear probe.

    Attributes:
        train: where to learn, as the data is named (`train=[table:path=x.parquet,...]` in words).
            None divides the images that are judged into `parts`, each of which is judged by a
            classifier of the others.
        label: the field of a sample, or the role of its caption, that says its class.
        of: "tower" takes what the tower gives, scaled to unit length; "vector" the vectors in
            text space.
        decays: weights of the squared norm to choose from, beside the mean cross-entropy of
            numbers of variance 1 (scikit-learn's C is 1 / (images x decay)). One is not chosen.
        parts: see `train`.
        examples: images kept with their answers.
    """

    train: str | None = None
    label: str = "class_name"
    of: Of = "tower"
    decays: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    parts: int = 5
    examples: int = 8


class LinearProbe(Probe):
    """Top-1, top-5 and mean per-class accuracy of multinomial logistic regression.

    Each number of a vector gets mean 0 and variance 1 over the training images. The decay is
    chosen by the cross-entropy of a fifth of those, which their bytes decide; then all of them
    teach. The fit is L-BFGS in float64 to a vanishing gradient, so that only the problem decides
    the answer.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        given = ", ".join(f"{decay:g}" for decay in config.decays)
        words = f"decay {given}"
        if len(config.decays) > 1:
            words = f"decay of {given} chosen on 1/{HELD_OUT}"
        alone = f"each of {config.parts} parts by the others"
        super().__init__(config.label, config.of, config.train, words, alone)

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every labelled image of `source`.

        All vectors are held, those of the training images in float64.

        Raises:
            ConfigError: training images that nobody opened.
            DataError: a missing label field, a class that nothing teaches, or no readable image.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        self.require_train()
        seen, note = seen_as(encoder, self.of)
        judged = Labelled(seen, source, self.label)
        z = judged.all()
        if self.train is None:
            taught, classes, truth, odds, chosen = None, *self._of_each_other(judged, z)
        else:
            taught = Labelled(seen, self.train, self.label)
            z_train = taught.all()
            require_same_width(z_train, z, taught.name)
            classes, own = numbered(taught.labels)
            truth = places_among(judged.labels, classes, judged.name, taught.name)
            odds, decay = self._odds(z_train, own, taught.content, classes, z)
            chosen = [decay]
        return self.voted(
            "linear_probe",
            judged,
            taught,
            odds,
            truth,
            classes,
            examples=self.config.examples,
            note=note,
            more=self._about(chosen),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )

    def _of_each_other(
        self, judged: Labelled, z: np.ndarray
    ) -> tuple[list[str], np.ndarray, np.ndarray, list[float]]:
        """Return classes, truth, probabilities and decays; each part is judged by the others."""
        classes, truth = numbered(judged.labels)
        part = parts_of(truth, judged.content, self.config.parts)
        require_several(truth, part, classes, judged.name)
        odds, chosen = np.zeros((len(z), len(classes))), list[float]()
        for number in np.unique(part):
            asked, others = np.flatnonzero(part == number), np.flatnonzero(part != number)
            content = [judged.content[n] for n in others]
            odds[asked], decay = self._odds(z[others], truth[others], content, classes, z[asked])
            chosen.append(decay)
        return classes, truth, odds, chosen

    def _odds(
        self,
        z_train: np.ndarray,
        own: np.ndarray,
        content: Sequence[bytes],
        classes: Sequence[str],
        z: np.ndarray,
    ) -> tuple[np.ndarray, float]:
        """Return the probability of each class for each of `z`, and the decay chosen."""
        part = parts_of(own, content, HELD_OUT)
        held_out = part == 0
        # A class that would be held out whole stays with those that teach.
        taught = np.isin(own, own[~held_out])
        decay = logistic.choose(
            z_train, own, held_out & taught, len(classes), list(self.config.decays)
        )
        scaling = logistic.Scaling.of(z_train)
        weights = logistic.fit(scaling(z_train), own, len(classes), decay)
        found = [
            logistic.odds(logistic.logits(weights, scaling(z[b])))
            for b in blocks(len(z), max(len(classes), z.shape[1]))
        ]
        return np.concatenate(found), decay

    def _about(self, chosen: Sequence[float]) -> tuple[str, ...]:
        """Return a note where the decays to choose from may have ended too early."""
        given = self.config.decays
        ends = {min(given): "smallest", max(given): "largest"} if len(given) > 1 else {}
        return tuple(
            f"the chosen decay {end:g} is the {which} given: one beyond it may be better"
            for end, which in ends.items()
            if end in chosen
        )


def build(config: Config) -> LinearProbe:
    """Return the evaluation.

    Raises:
        ConfigError: a number that makes no sense.
    """
    if not config.decays or min(config.decays) <= 0:
        raise ConfigError(f"linear_probe.decays must be above 0, not {list(config.decays)}.")
    if config.parts < 2:
        raise ConfigError(f"linear_probe.parts must be at least 2, not {config.parts}.")
    if config.examples < 0:
        raise ConfigError(f"linear_probe.examples must be 0 or more, not {config.examples}.")
    return LinearProbe(config)
