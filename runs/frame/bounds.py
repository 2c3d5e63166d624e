"""Answers to hypotheses that name a bound: a figure below or above it, a gain larger than it."""

from __future__ import annotations

from frame.page import Answer, percent, points
from lift.bootstrap import Spread


def below(value: Spread | None, bound: float, name: str) -> Answer:
    """Return whether a figure is below a bound."""
    if value is None:
        return Answer(None, f"{name}: no records yet")
    held = True if value.high < bound else False if value.low >= bound else None
    return Answer(held, f"{name}: {percent(value)}")


def above(value: Spread | None, bound: float, name: str) -> Answer:
    """Return whether a figure is above a bound."""
    answer = below(value, bound, name)
    return answer if answer.held is None else Answer(not answer.held, answer.told)


def gains(value: Spread | None, name: str, by: float = 0.0) -> Answer:
    """Return whether a difference is larger than `by`."""
    if value is None:
        return Answer(None, f"{name}: no records yet")
    held = True if value.low > by else False if value.high <= by else None
    return Answer(held, f"{name}: {points(value)}")
