"""One arm against another: the same questions, paired item by item, never across protocols."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lift.bootstrap import paired, pooled, same_items
from lift.errors import ConfigError, DataError
from lift.results import aligned, figure_words, is_share, lower_is_better, wrapped
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


def key_of(result: EvalResult | Difference) -> Key:
    """Return what a result, or a difference, may be compared within."""
    return (result.evaluation, result.version, result.protocol, result.data)


def compared(
    ours: Sequence[Sequence[EvalResult]], theirs: Sequence[Sequence[EvalResult]]
) -> tuple[list[Difference], list[str]]:
    """Return the differences of all figures that compare, and a sentence for each that does not.

    Args:
        ours, theirs: results of each seed of an arm.

    Raises:
        ConfigError: nothing compares, or an arm has not as many seeds as the other.
        DataError: the two were judged on other samples, wherever they were asked the same.
    """
    if not ours or len(ours) != len(theirs):
        raise ConfigError(
            f"{len(ours)} models against {len(theirs)}: give as many on both sides, seed by seed."
        )
    every = _by_key([*ours, *theirs])
    mine, other = every[: len(ours)], every[len(ours) :]
    both = [key for key in mine[0] if all(key in found for found in every)]
    if not both:
        raise ConfigError(_nothing(mine[0], other[0]))
    differences: list[Difference] = []
    refused: list[str] = []
    for key in both:
        try:
            differences += _differences([one[key] for one in mine], [one[key] for one in other])
        except DataError as error:
            refused.append(str(error))
    if refused and not differences:
        raise DataError(refused[0])
    told = dict.fromkeys(key for found in every for key in found)
    return differences, refused + [_alone(key) for key in told if key not in both]


def pooled_results(arm: Sequence[Sequence[EvalResult]]) -> tuple[list[EvalResult], list[str]]:
    """Return the results of an arm over its seeds, and a sentence for each that can't be pooled.

    They are means, with intervals over items and seeds. A figure that is no mean of items (a median
    rank) has the mean of its seeds and of the ends of their intervals. Notes are those of all
    seeds, counts and examples those of the first.

    Args:
        arm: results of each seed.
    """
    seeds = _by_key(arm)
    found: list[EvalResult] = []
    refused: list[str] = []
    for key in dict.fromkeys(key for one in seeds for key in one):
        results = [one[key] for one in seeds if key in one]
        if len(results) < len(seeds):
            refused.append(_alone(key))
            continue
        try:
            found.append(_pooled_result(results))
        except DataError as error:
            refused.append(str(error))
    return found, refused


def _pooled_result(results: Sequence[EvalResult]) -> EvalResult:
    _require_same_samples(results)
    notes = dict.fromkeys(note for result in results for note in result.notes)
    return dataclasses.replace(
        results[0],
        metrics={
            name: _pooled([result.metrics[name] for result in results])
            for name in results[0].metrics
            if all(name in result.metrics for result in results)
        },
        notes=(f"the mean of {len(results)} seeds", *notes),
        seconds=sum(result.seconds for result in results),
    )


def _pooled(metrics: Sequence[Metric]) -> Metric:
    outcomes = [metric.outcomes for metric in metrics if metric.outcomes is not None]
    value, low, high = (
        statistics.fmean(getattr(metric, name) for metric in metrics)
        for name in ("value", "low", "high")
    )
    if len(outcomes) < len(metrics) or not same_items(outcomes):
        return Metric(value, low, high, metrics[0].items)
    spread = pooled(outcomes)
    # The seeds' own intervals may know of more: draws of few shots, images that share a caption.
    return Metric(spread.mean, min(low, spread.low), max(high, spread.high), spread.items)


_Which = tuple[Key, str]
"""What results compare within, and the digest of the samples where that alone tells two apart."""


def _by_key(models: Sequence[Sequence[EvalResult]]) -> list[dict[_Which, EvalResult]]:
    """Return the results of each model by what they compare within.

    One file may be data in several ways (another column of captions) and keeps its name.
    """
    several: set[Key] = set()
    for results in models:
        counts = collections.Counter(map(key_of, results))
        several |= {key for key, count in counts.items() if count > 1}
    return [
        {(key_of(r), r.digest if key_of(r) in several else ""): r for r in results}
        for results in models
    ]


def _nothing(mine: dict[_Which, EvalResult], other: dict[_Which, EvalResult]) -> str:
    for (key, _), result in mine.items():
        for theirs in other.values():
            if (theirs.evaluation, theirs.data) == (result.evaluation, result.data):
                return (
                    f"{result.evaluation} on {result.data} was asked as {key[2]!r} (version "
                    f"{key[1]}) and as {theirs.protocol!r} (version {theirs.version}): figures of "
                    "two protocols are not compared; evaluate both models with the same command."
                )
    return "The two have no evaluation on the same data in common; evaluate both on one."


def _alone(which: _Which) -> str:
    key = which[0]
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
    """Return the differences as text, by protocol; only primary figures, unless all are asked for.

    Differences of shares are in points.
    """
    head = ["  figure", "ours", "theirs", "difference", "95% interval", "items", "verdict"]
    shown = [one for one in differences if one.primary or all_figures]
    blocks = []
    for key in dict.fromkeys(key_of(one) for one in shown):
        evaluation, version, protocol, data = key
        rows = [_row(one) for one in shown if key_of(one) == key]
        words = wrapped(f"  protocol, version {version}: {protocol}", " " * 4)
        figures = aligned(head, rows, left=("verdict",))
        blocks.append(f"{evaluation} on {data}\n{words}\n{figures}")
    return "\n\n".join(blocks)


def _row(one: Difference) -> list[str]:
    interval = ""
    if one.low is not None and one.high is not None:
        interval = f"{_signed(one, one.low).removesuffix(' points')} to {_signed(one, one.high)}"
    items = f"{one.items:,}" + (f" x {one.seeds} seeds" if one.seeds > 1 else "")
    return [
        f"  {one.metric}",
        figure_words(one.metric, one.ours),
        figure_words(one.metric, one.theirs),
        _signed(one, one.mean),
        interval,
        items if one.items else "",
        one.verdict,
    ]


def _signed(one: Difference, value: float) -> str:
    return f"{100 * value:+.1f} points" if is_share(one.metric) else f"{value:+.4g}"
