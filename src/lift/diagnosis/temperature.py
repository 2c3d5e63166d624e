"""Whether the scale that the model learned makes chances out of cosines that come true."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from lift.diagnosis._figures import few, jackknife, placed
from lift.diagnosis._finding import Finding, Level, finding, skipped
from lift.diagnosis._measured import Measured
from lift.evals._metrics import TIE

NAME = "temperature"
ADVICE = (
    "Multiply cosines with the calibrating scale where chances are shown; to train, start nearer "
    "to it and let it be learned (ranking by cosine does not depend on it)."
)
CANDIDATES = 1_000
BINS = 15
KNOWS = 0.55
"""Pairs found less often than that say nothing about chances."""

_GRID = np.exp(np.linspace(0.0, math.log(2_000.0), 61))


@dataclass(frozen=True, kw_only=True)
class Config:
    """By which factor the scale may be off, and what it may add to the calibration error.

    A fault is off by `factor` and adds `fault`, or is off by `far`: where few captions are found,
    chances that are too small by any factor are off by little. Either of `factor` and `look` is
    looked at. Healthy small models: 14.3 where 12.6 calibrates, 18.0 where 20.9 does, and 0.00
    added; a model in a domain that it was not trained for, 14.3 where 7.6 does.
    """

    factor: float = 2.0
    far: float = 4.0
    look: float = 0.05
    fault: float = 0.1


class Temperature:
    """Expected calibration error of a softmax over captions, at the model's scale and the best one.

    For each image the chance of its likeliest caption among at most 1,000 distinct ones, beside
    how often that is the right one, in 15 bins of equal size (Naeini et al. 2015; Guo et al. 2017
    with bins of equal width). The best scale has the smallest cross-entropy: temperature scaling.
    With a true density ratio it does not depend on the number of candidates.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the calibration error at the model's own scale, beside the best one."""
        why = measured.unfit()
        if not why and measured.scale is None:
            why = "The model tells no scale of its cosines."
        pairs = measured.pairs
        if not why and placed(pairs.z_image, pairs.z_text).mean() < KNOWS:
            why = "Right captions rank near chance, where no scale can be right; see pairing."
        if why or measured.scale is None:
            return skipped(NAME, why, ADVICE)
        some = few(len(pairs), CANDIDATES)
        cosines = (pairs.z_image[some] @ pairs.z_text[some].T).astype(np.float64)
        losses = [_chances(cosines, scale).loss for scale in _GRID]
        best = float(_GRID[int(np.argmin(losses))])
        mine, ideal = (_chances(cosines, scale) for scale in (measured.scale, best))
        error = jackknife(
            lambda kept: calibration_error(mine.sure[kept], mine.right[kept]), len(some)
        )
        own, least = error.value, calibration_error(ideal.sure, ideal.right)
        added, factor = own - least, max(measured.scale / best, best / measured.scale)
        level: Level = "fine"
        if factor >= self.config.factor or added >= self.config.look:
            off = factor >= self.config.factor and added >= self.config.fault
            level = "fault" if off or factor >= self.config.far else "look"
        word = "too sure" if measured.scale > best else "not sure enough"
        means = (
            f"At the model's scale of {measured.scale:.1f} chances are off by {own:.1%}; "
            f"{best:.1f} fits best ({least:.1%})."
        )
        if level != "fine":
            means = (
                f"The scale of {measured.scale:.1f} makes the model {word}: chances are off by "
                f"{own:.1%}, with {best:.1f} by {least:.1%}."
            )
        return finding(
            NAME,
            level,
            error._replace(low=max(0.0, error.low), high=min(1.0, error.high)),
            "expected calibration error at the model's scale",
            means,
            ADVICE,
            share=True,
            details={
                "scale": measured.scale,
                "calibrating_scale": best,
                "error_at_calibrating_scale": least,
                "candidates": len(some),
            },
        )


class _Chances(NamedTuple):
    """Of each image how sure the likeliest caption is and how right; mean loss over images."""

    sure: Float64[np.ndarray, " n"]
    right: Float64[np.ndarray, " n"]
    loss: float


def _chances(cosines: Float64[np.ndarray, "n n"], scale: float) -> _Chances:
    """Return what a softmax with a scale says; item i is right for image i, ties share."""
    best = cosines.max(axis=1, keepdims=True)
    powers = np.exp(scale * (cosines - best))
    whole = powers.sum(axis=1)
    tied = cosines >= best - TIE
    right = np.diag(tied) / tied.sum(axis=1)
    loss = float((np.log(whole) - scale * (np.diag(cosines) - best[:, 0])).mean())
    return _Chances(1.0 / whole, right, loss)


def calibration_error(sure: Float64[np.ndarray, " n"], right: Float64[np.ndarray, " n"]) -> float:
    """Return the mean |sure - right| over bins of about equal size, by how sure."""
    order = np.argsort(sure, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    gaps = [abs(float((sure[b] - right[b]).mean())) * len(b) for b in bins]
    return sum(gaps) / len(order)


def build(config: Config) -> Temperature:
    """Return the question."""
    return Temperature(config)
