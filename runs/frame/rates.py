"""Learning rates: trials on pairs that are not reported, and what they chose; those of study 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frame.frozen import first_study
from frame.study import Job, Place, path_of, read

RATES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Tried for each arm: times the recipe's rate."""
TRIED = {"scenes": (100, 101), "products": (100,), "emoji": (100,)}
"""Seeds of trials: on scenes half the samples leave some arms near chance."""
CHOOSING = ("choosing: text_to_image/R@10", "choosing: image_to_text/R@10")


def trials(of: str, arm: str) -> list[Job]:
    """Return the runs among which an arm's rate is chosen."""
    return [Job(of, arm, seed, f"rate{rate}") for seed in TRIED[of] for rate in RATES]


def found_by(tried: Sequence[Job], figures: Sequence[str], results: Path) -> dict[float, float]:
    """Return what was found with each rate: the mean of the figures over all trials of it."""
    found: dict[float, list[float]] = {}
    for job in tried:
        told = read(path_of(job, results))["figures"]
        rate = float(job.trial.removeprefix("rate"))
        found.setdefault(rate, []).extend(told[figure]["value"] for figure in figures)
    return {rate: sum(values) / len(values) for rate, values in found.items()}


def best(tried: Sequence[Job], figures: Sequence[str], results: Path) -> float:
    """Return the rate that found most, the first of equal ones."""
    found = found_by(tried, figures, results)
    return max(found, key=found.__getitem__)


def tried(of: str, arm: str, results: Path) -> dict[float, float]:
    """Return R@10 with each rate, the mean of both directions and all seeds of trials."""
    return found_by(trials(of, arm), CHOOSING, results)


def rate_of(of: str, arm: str, results: Path) -> float:
    """Return the rate that was best in the trials, times the recipe's."""
    return best(trials(of, arm), CHOOSING, results)


def ready(job: Job, place: Place) -> bool:
    """Return whether the arm's trials were made."""
    known = (path_of(trial, place.results).exists() for trial in trials(job.set, job.arm))
    return bool(job.trial) or all(known)


def chosen(of: str, arm: str, place: Place) -> float:
    """Return the rate of an arm of study 1 on a set, times the recipe's."""
    return rate_of(of, arm, first_study(place.results))


def known(of: str, arm: str, place: Place) -> bool:
    """Return whether all trials of an arm of study 1 were made."""
    folder = first_study(place.results)
    return all(path_of(job, folder).exists() for job in trials(of, arm))
