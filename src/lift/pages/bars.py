"""What pages draw and compare: a figure as a bar, and the columns of those that are compared."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from lift.pages.charts import SERIES
from lift.terms import Metric


@dataclass(frozen=True)
class Bar:
    """A figure on a scale; all places are percent of its width (see the macro `bar`).

    Attributes:
        at: the figure, a dot.
        low, high: ends of its band; None where it has none.
        chance: a dotted mark: what guessing scores, where it stood before, no difference.
        dots: what the figure is a mean of, as small rings.
    """

    at: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    dots: tuple[float, ...] = ()


@dataclass(frozen=True)
class Column:
    """One of several that are compared: its letter, colour number (0: none is left) and name."""

    letter: str
    colour: int
    heading: str


def percent(value: float) -> float:
    """Return the place of a share on a scale from 0 to 1."""
    return round(100 * value, 2)


def bar_of(metric: Metric, chance: float | None = None) -> Bar:
    """Return the bar of a share and its interval.

    Args:
        metric: the share.
        chance: the share to mark, if any.
    """
    mark = None if chance is None else percent(chance)
    return Bar(percent(metric.value), percent(metric.low), percent(metric.high), mark)


def columns_of(names: Sequence[str], *, alone: str = "A") -> list[Column]:
    """Return what all that are compared are called on a page.

    Args:
        names: theirs.
        alone: the letter of one that is compared with nothing.
    """
    letters = string.ascii_uppercase if len(names) > 1 else (alone,)
    return [
        Column(letters[i % len(letters)], i + 1 if i < len(SERIES) else 0, name)
        for i, name in enumerate(names)
    ]


def not_drawn(count: int, what: str) -> str:
    """Return what a caption adds where there are more than there are colours for; "" else."""
    left = count - len(SERIES)
    return f" The last {left} of the {what} are not drawn." if left > 0 else ""
