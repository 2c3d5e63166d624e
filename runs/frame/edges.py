"""How an edge of one arm over another changes, and whether an arm comes near another."""

from __future__ import annotations

import math

import numpy as np

from frame.found import RESAMPLES, Found
from frame.page import Answer, decided, points
from lift.bootstrap import Spread, paired
from lift.terms import Outcomes
from lift.training.paired import difference

Pair = tuple[str, str]
"""An arm, and the one that it is compared with."""


def change(found: Found, of: str, pair: Pair, before: Pair, figure: str) -> Spread | None:
    """Return how much larger the edge within `pair` is than that within `before`.

    All four arms are paired by items and seeds.

    Args:
        found: the records.
        of: the set.
        pair, before: (ours, theirs) each.
        figure: of which one has more.
    """
    seeds = found.seeds(of, *pair, *before)
    if not seeds:
        return None
    four = [found.outcomes(of, arm, figure, seeds) for arm in (*pair, *before)]
    if not all(four):
        return None
    edges = [
        [_less(a, b) for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in (four[:2], four[2:])
    ]
    return paired(*edges, resamples=RESAMPLES)


def grows(found: Found, of: str, pair: Pair, before: Pair, figure: str) -> Answer:
    """Return whether the edge within `pair` is larger than that within `before`, in both scales."""
    spread, times = change(found, of, pair, before, figure), odds(found, of, pair, before, figure)
    if spread is None or times is None:
        return Answer(None, f"{named(figure)}: no records yet")
    held = True if spread.low > 0 and times[1] > 1 else None
    held = False if spread.high <= 0 and times[2] <= 1 else held
    told = f"{points(spread)}, in odds times {times[0]:.2f} [{times[1]:.2f}, {times[2]:.2f}]"
    return decided(held, f"{named(figure)}: {told}", spread)


def odds(
    found: Found, of: str, pair: Pair, before: Pair, figure: str
) -> tuple[float, float, float] | None:
    """Return how many times the ratio of odds within `pair` is that within `before`.

    Points can't tell whether an edge grows where one arm has little to have an edge of: both
    scales have to agree. From each seed's figure, with Student's t over seeds alone.

    Args:
        found, of, pair, before, figure: as of `change`.

    Returns:
        The ratio with the ends of its 95% interval, None without two seeds of all arms.
    """
    seeds = found.seeds(of, *pair, *before)
    if len(seeds) < 2:
        return None
    logs = []
    for arm in (*pair, *before):
        own = [found.outcomes(of, arm, figure, [seed]) for seed in seeds]
        if not all(own):
            return None
        logs.append([_log_odds(one[0]) for one in own])
    edges = [
        [a - b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in (logs[:2], logs[2:])
    ]
    told = difference(seeds, *edges)
    if told.low is None or told.high is None:  # no seed differs from another
        return (math.exp(told.mean),) * 3
    return math.exp(told.mean), math.exp(told.low), math.exp(told.high)


def _log_odds(outcomes: Outcomes) -> float:
    """Return the logarithm of a share's odds; half an item keeps none and all finite."""
    share = float(np.average(outcomes.values, weights=outcomes.weights))
    half = 0.5 / len(outcomes.values)
    share = min(max(share, half), 1 - half)
    return math.log(share / (1 - share))


def ahead(found: Found, of: str, arm: str, other: str, figure: str) -> Answer:
    """Return whether `arm` has more of a figure than `other`."""
    spread = found.difference(of, arm, other, figure)
    if spread is None:
        return Answer(None, f"{named(figure)}: no records yet")
    held = True if spread.low > 0 else False if spread.high <= 0 else None
    return decided(held, f"{named(figure)}: {arm} less {other} {points(spread)}", spread)


def near(found: Found, of: str, arm: str, best: str, figure: str, within: float = 0.03) -> Answer:
    """Return whether `arm` is behind `best` by less than `within`."""
    spread = found.difference(of, best, arm, figure)
    if spread is None:
        return Answer(None, f"{named(figure)}, {arm}: no records yet")
    held = True if spread.high < within else False if spread.low > within else None
    told = f"{named(figure)}: {arm} less {best} {points(turned(spread))}"
    return decided(held, told, spread)


def turned(spread: Spread) -> Spread:
    """Return a difference the other way round."""
    return Spread(-spread.mean, -spread.high, -spread.low, spread.items, spread.seeds)


def named(figure: str) -> str:
    """Return what was judged: "short" of "short: text_to_image/R@10"."""
    judged, _, metric = figure.partition(": ")
    return f"{judged}, image to text" if metric.startswith("image_to") else judged


def _less(ours: Outcomes, theirs: Outcomes) -> Outcomes:
    return Outcomes(ours.values - theirs.values, ours.weights, ours.clusters)
