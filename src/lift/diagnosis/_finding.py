"""What a question answers: a figure, how bad it is, what it means and what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from lift.diagnosis._figures import Figure
from lift.diagnosis._measured import Measured

Level: TypeAlias = Literal["fault", "look", "fine", "skipped"]

LEVELS: tuple[Level, ...] = ("fault", "look", "fine", "skipped")
"""From bad to good. fault: mend it. look: unusual, and there are sound reasons for it. skipped:
nothing was measured, and the sentence says why."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question.

    Attributes:
        name: what was asked, in two or three words.
        level: one of `LEVELS`.
        value: the figure; None where nothing was measured.
        low, high: its 95% interval; None where it has none (a maximum, a property of all).
        items: how many items it is over.
        unit: what the value is, in a few words.
        share: whether it is a share in [0, 1], to be shown in per cent.
        means: one sentence on what it means.
        advice: one sentence on what to try.
        details: further figures (plain JSON values).
    """

    name: str
    level: Level
    means: str
    advice: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    items: int = 0
    unit: str = ""
    share: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Question(Protocol):
    """What a file of this room builds."""

    def ask(self, measured: Measured) -> Finding:
        """Return the answer for one model on one set of pairs."""
        ...


def finding(
    name: str,
    level: Level,
    figure: Figure,
    unit: str,
    means: str,
    advice: str,
    *,
    share: bool = False,
    details: Mapping[str, Any],
) -> Finding:
    """Return a finding with a figure and its interval, where that has ends."""
    low, high = (end if math.isfinite(end) else None for end in (figure.low, figure.high))
    return Finding(
        name=name,
        level=level,
        means=means,
        advice=advice,
        value=figure.value,
        low=low,
        high=high,
        items=figure.items,
        unit=unit,
        share=share,
        details=details,
    )


def skipped(name: str, why: str, advice: str) -> Finding:
    """Return the finding of a question that could not be asked."""
    return Finding(name=name, level="skipped", means=why, advice=advice)


class OfPairs:
    """A question about right pairs; it is skipped where there is nothing to ask about.

    Attributes:
        name, advice: of its findings.
    """

    name: str
    advice: str

    def __init__(self, config: Any) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the answer, or why there is none."""
        why = measured.unfit()
        return skipped(self.name, why, self.advice) if why else self.answer(measured)

    def answer(self, measured: Measured) -> Finding:
        """Return the answer for pairs that can be asked about."""
        raise NotImplementedError


def level_of(value: float, look: float, fault: float) -> Level:
    """Return the level of a value; it gets worse from `look` to `fault`, whichever is larger."""
    sign = 1.0 if fault >= look else -1.0
    if sign * value >= sign * fault:
        return "fault"
    return "look" if sign * value >= sign * look else "fine"
