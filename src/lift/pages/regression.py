"""What a run's start could do, against what is left of it, for the run's page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.errors import LiftError
from lift.pages.bars import Bar, bar_of
from lift.pages.record import number
from lift.pages.words import metric_words, plain, share
from lift.results import is_share
from lift.terms import Metric
from lift.training.guard import Change, GuardConfig, report


@dataclass(frozen=True)
class Kept:
    """One figure before and after; the mark of its bar is where it stood before."""

    what: str
    metric: str
    before: str
    after: str
    change: str
    verdict: str
    breach: bool
    bar: Bar | None


@dataclass(frozen=True)
class Regression:
    """The rows, and how far a figure may fall, in words; or why there are none."""

    rows: tuple[Kept, ...]
    allowed: str
    why: str = ""


def regression_of(folder: Path, run: Mapping[str, Any]) -> Regression | None:
    """Return what became of the figures that a run was held to; None where nothing was watched.

    Args:
        folder: the run's.
        run: what `run.json` says.
    """
    config = run.get("config")
    guard = config.get("guard") if isinstance(config, Mapping) else None
    told = number(guard.get("drop")) if isinstance(guard, Mapping) else None
    drop = GuardConfig().drop if told is None else told
    allowed = f"{100 * drop:g} points"
    try:
        rows = tuple(_kept(change) for change in report(folder, drop))
    except (LiftError, ValueError, OSError) as error:
        return Regression((), allowed, f"The figures before and after can't be read: {error}")
    return Regression(rows, allowed) if rows else None


def _kept(change: Change) -> Kept:
    about, _, metric = change.what.rpartition(", ")
    bar = is_share(metric)
    apart = change.after.value - change.before.value
    return Kept(
        what=about[:1].upper() + about[1:].replace("_", " ", 1),
        metric=metric_words(metric),
        before=_value(change.before, bar),
        after=f"{_value(change.after, bar)} ({_ends(change.after, bar)})",
        change=f"{100 * apart:+.1f} points" if bar else f"{apart:+.3g}",
        verdict="fell too far" if change.breach else "kept",
        breach=change.breach,
        bar=bar_of(change.after, change.before.value) if bar else None,
    )


def _value(metric: Metric, bar: bool) -> str:
    return share(metric.value) if bar else plain(metric.value)


def _ends(metric: Metric, bar: bool) -> str:
    if bar:
        return f"{share(metric.low)} to {share(metric.high)}"
    return f"{plain(metric.low)} to {plain(metric.high)}"
