"""One arm against another: the same questions, paired item by item, never across protocols."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lift.bootstrap import paired, pooled, same_items
from lift.errors import ConfigError, DataError
from lift.results import is_share, lower_is_better
from lift.terms import EvalResult, Metric

Key = tuple[str, int, str, str]
"""What figures compare within: evaluation, version, protocol, data."""


@dataclass(frozen=True)
class Difference:
    """How much more an arm has than another in one figure.

    Attributes:
        evaluation, version, protocol, data: what both were asked.
        metric, primary: the figure, and whether it is the one to look at first.
        ours, theirs: its value, the mean over seeds.
        mean: ours less theirs.
        low, high: 95% interval of that, by a paired bootstrap over items and seeds; None for a
            figure that is no mean of items (a median rank).
        items: independent items; 0 where nothing was drawn.
        seeds: runs of each arm.
    """

    evaluation: str
    version: int
    protocol: str
    data: str
    metric: str
    primary: bool
    ours: float
    theirs: float
    mean: float
    low: float | None
    high: float | None
    items: int
    seeds: int

    @property
    def verdict(self) -> str:
        """What the interval says: "better", "worse", "no difference shown", or why nothing."""
        if self.low is None or self.high is None:
            return "no interval"
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "better" if (self.low > 0) is not lower_is_better(self.metric) else "worse"


def key_of(result: EvalResult) -> Key:
    """Return what a result may be compared within."""
    return (result.evaluation, result.version, result.protocol, result.data)


def compared(
    ours: Sequence[Sequence[EvalResult]], theirs: Sequence[Sequence[EvalResult]]
) -> tuple[list[Difference], list[str]]:
    """Return the differences of all figures that compare, and a sentence for each that does not.

    Args:
        ours, theirs: results of each seed of an arm.

    Raises:
        ConfigError: nothing compares, or an arm has not as many seeds as the other.
        DataError: the two were judged on other samples.
    """
    if not ours or len(ours) != len(theirs):
        raise ConfigError(
            f"{len(ours)} models against {len(theirs)}: give as many on both sides, seed by seed."
        )
    mine, other = [_by_key(one) for one in ours], [_by_key(one) for one in theirs]
    both = [key for key in mine[0] if all(key in found for found in (*mine, *other))]
    if not both:
        raise ConfigError(_nothing(mine[0], other[0]))
    differences = [
        found
        for key in both
        for found in _differences([one[key] for one in mine], [one[key] for one in other])
    ]
    alone = [_alone(key) for key in dict.fromkeys((*mine[0], *other[0])) if key not in both]
    return differences, alone


def pooled_results(arm: Sequence[Sequence[EvalResult]]) -> list[EvalResult]:
    """Return the results of an arm over its seeds: means, with intervals over items and seeds.

    A figure that is no mean of items (a median rank) has the mean of its seeds and of the ends of
    their intervals. Notes and counts are those of all seeds; examples those of the first.

    Args:
        arm: results of each seed.

    Raises:
        DataError: seeds that were judged on other samples.
    """
    seeds = [_by_key(one) for one in arm]
    found = []
    for key, first in seeds[0].items():
        results = [one[key] for one in seeds if key in one]
        if len(results) < len(seeds):
            continue  # asked of some of them only
        _require_same_samples(results)
        metrics = {
            name: _pooled([result.metrics[name] for result in results])
            for name in first.metrics
            if all(name in result.metrics for result in results)
        }
        notes = dict.fromkeys(note for result in results for note in result.notes)
        found.append(
            dataclasses.replace(
                first,
                metrics=metrics,
                notes=(f"the mean of {len(seeds)} seeds", *notes),
                seconds=sum(result.seconds for result in results),
            )
        )
    return found


def _pooled(metrics: Sequence[Metric]) -> Metric:
    outcomes = [metric.outcomes for metric in metrics if metric.outcomes is not None]
    if len(outcomes) == len(metrics) and same_items(outcomes):
        spread = pooled(outcomes)
        return Metric(spread.mean, spread.low, spread.high, spread.items)
    value, low, high = (
        statistics.fmean(getattr(metric, name) for metric in metrics)
        for name in ("value", "low", "high")
    )
    return Metric(value, low, high, metrics[0].items)


def _by_key(results: Sequence[EvalResult]) -> dict[Key, EvalResult]:
    return {key_of(result): result for result in results}


def _nothing(mine: dict[Key, EvalResult], other: dict[Key, EvalResult]) -> str:
    for key, result in mine.items():
        for theirs in other.values():
            if (theirs.evaluation, theirs.data) == (result.evaluation, result.data):
                return (
                    f"{result.evaluation} on {result.data} was asked as {key[2]!r} (version "
                    f"{key[1]}) and as {theirs.protocol!r} (version {theirs.version}): figures of "
                    "two protocols are not compared; evaluate both models with the same command."
                )
    return "The two have no evaluation on the same data in common; evaluate both on one."


def _alone(key: Key) -> str:
    return f"{key[0]} on {key[3]} ({key[2]}) was not asked of all models, and is left out"


def _differences(ours: list[EvalResult], theirs: list[EvalResult]) -> list[Difference]:
    first = ours[0]
    _require_same_samples([*ours, *theirs])
    return [
        _difference(name, ours, theirs)
        for name in first.metrics
        if all(name in result.metrics for result in (*ours, *theirs))
    ]


def _require_same_samples(results: Sequence[EvalResult]) -> None:
    first = results[0]
    if len({result.digest for result in results}) > 1:
        raise DataError(
            f"{first.evaluation} on {first.data} was asked of other samples of each model (the "
            "data changed, or an image could be read by one of them only): evaluate again."
        )


def _difference(name: str, ours: list[EvalResult], theirs: list[EvalResult]) -> Difference:
    mine, other = [r.metrics[name] for r in ours], [r.metrics[name] for r in theirs]
    low, high, items = None, None, 0
    a = [m.outcomes for m in mine if m.outcomes is not None]
    b = [m.outcomes for m in other if m.outcomes is not None]
    value, against = (statistics.fmean(m.value for m in found) for found in (mine, other))
    # Where a model's own answers decide which items count, there is nothing to pair.
    if len(a) == len(b) == len(ours) and ours[0].digest and same_items([*a, *b]):
        spread = paired(a, b)
        low, high, items = spread.low, spread.high, spread.items
    first = ours[0]
    return Difference(
        *key_of(first), name, name == first.primary, value, against, value - against, low, high,
        items, len(ours),
    )  # fmt: skip


def table(differences: Sequence[Difference], *, all_figures: bool = False) -> str:
    """Return the differences as aligned text; only primary figures, unless all are asked for."""
    head = ["evaluation", "data", "figure", "ours", "theirs", "difference", "95% interval", "items"]
    head.append("verdict")
    rows = [_row(one) for one in differences if one.primary or all_figures]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)


def _row(one: Difference) -> list[str]:
    share = is_share(one.metric)

    def told(value: float, sign: str = "") -> str:
        return f"{100 * value:{sign}.1f}" if share else f"{value:{sign}.4g}"

    interval = "" if one.low is None else f"{told(one.low, '+')} to {told(one.high or 0.0, '+')}"
    values = [told(one.ours), told(one.theirs), told(one.mean, "+"), interval]
    items = f"{one.items:,}" + (f" x {one.seeds} seeds" if one.seeds > 1 else "")
    return [one.evaluation, one.data, one.metric, *values, items if one.items else "", one.verdict]
