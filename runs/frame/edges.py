"""How an edge of one arm over another changes, and whether an arm comes near another."""

from __future__ import annotations

from frame.found import RESAMPLES, Found
from frame.page import Answer, decided, points
from lift.bootstrap import Spread, paired
from lift.terms import Outcomes

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
    """Return whether the edge within `pair` is larger than that within `before`."""
    spread = change(found, of, pair, before, figure)
    if spread is None:
        return Answer(None, f"{named(figure)}: no records yet")
    held = True if spread.low > 0 else False if spread.high <= 0 else None
    return decided(held, f"{named(figure)}: {points(spread)}", spread)


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
