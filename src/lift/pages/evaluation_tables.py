"""The tables of an evaluation's page: a row a figure, a column a model, within one protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lift.against import Difference
from lift.pages.bars import Bar, Column, bar_of
from lift.pages.judged import Compared, Group
from lift.pages.words import metric_words, plain, share, value_words
from lift.results import figure_words, is_difference, is_share
from lift.terms import EvalResult, Metric

APART = (
    "Another table has the same name: its samples are others (the data changed, or an image could "
    "be read by one model only), or nobody knows whether they are the same. So they stand apart."
)


@dataclass(frozen=True)
class Cell:
    """One figure of one model; `number` is what a column is sorted by, "" where there is none."""

    number: str
    value: str
    interval: str


@dataclass(frozen=True)
class Row:
    """One figure of all models; `bars` are those that can be drawn from 0 to 100%.

    In a table of several measurements `about` says what it is a figure of, and `number` where that
    one stands on the page.
    """

    name: str
    about: tuple[str, ...]
    primary: bool
    bars: tuple[tuple[Column, Bar], ...]
    cells: tuple[Cell, ...]
    items: str
    chance: str
    number: int = 0


@dataclass(frozen=True)
class Said:
    """A sentence beside figures, and the models that it is about; no column: all that have any."""

    columns: tuple[Column, ...]
    text: str


@dataclass(frozen=True)
class Sheet:
    """One measurement, ready to print."""

    title: str
    protocol: str
    counts: tuple[Said, ...]
    notes: tuple[Said, ...]
    rows: tuple[Row, ...]
    drawn: bool


def sheet_of(group: Group, columns: Sequence[Column]) -> Sheet:
    """Return the table of a measurement; `columns` are those of all models."""
    names = dict.fromkeys(name for r in group.results if r is not None for name in r.metrics)
    rows = tuple(_row(group, name, columns) for name in names)
    notes = said_by(group, columns, lambda result: result.notes)
    return Sheet(
        title=title_of(group),
        protocol=protocol_of(group),
        counts=said_by(group, columns, _counts),
        notes=(*notes, Said((), APART)) if group.apart else notes,
        rows=rows,
        drawn=any(row.bars for row in rows),
    )


def overview_of(groups: Sequence[Group], columns: Sequence[Column]) -> list[Row]:
    """Return the figure to look at first of every measurement."""
    return [
        replace(
            _row(group, group.first.primary, columns, (title_of(group), protocol_of(group))),
            number=number,
        )
        for number, group in enumerate(groups, start=1)
        if group.first.primary in group.first.metrics
    ]


def title_of(group: Group) -> str:
    """Return what a measurement is called: "Zeroshot on cifar10"."""
    title = group.evaluation.replace("_", " ")
    return title[:1].upper() + title[1:] + (f" on {group.data}" if group.data else "")


def protocol_of(group: Group) -> str:
    """Return how it was measured."""
    return f"{group.protocol} (version {group.version})"


def said_by(
    group: Group, columns: Sequence[Column], of: Callable[[EvalResult], Sequence[str]]
) -> tuple[Said, ...]:
    """Return what results say, each sentence once, with the models it is about unless all."""
    found: dict[str, list[Column]] = {}
    asked = [(c, r) for c, r in zip(columns, group.results, strict=True) if r is not None]
    for column, result in asked:
        for text in of(result):
            found.setdefault(text, []).append(column)
    return tuple(
        Said(() if len(own) == len(asked) else tuple(own), text) for text, own in found.items()
    )


def _counts(result: EvalResult) -> tuple[str, ...]:
    words = ", ".join(f"{n:,} {what}" for what, n in result.counts.items())
    return (words,) if words else ()


def _row(group: Group, name: str, columns: Sequence[Column], about: tuple[str, ...] = ()) -> Row:
    found = [None if r is None else r.metrics.get(name) for r in group.results]
    first = group.first
    primary = name == first.primary
    chance = first.chance if primary else None
    items = dict.fromkeys(f"{m.items:,}" for m in found if m is not None and m.items)
    drawn = all(_drawn(name, metric) for metric in found if metric is not None)
    return Row(
        name=metric_words(name),
        about=about,
        primary=primary,
        bars=tuple(
            (column, bar_of(metric, chance))
            for column, metric in zip(columns, found, strict=True)
            if drawn and metric is not None
        ),
        cells=tuple(_cell(name, metric) for metric in found),
        items=" / ".join(items),
        chance="" if chance is None else figure(name, chance),
    )


def _cell(name: str, metric: Metric | None) -> Cell:
    if metric is None:
        return Cell("", "", "")
    interval = f"{figure(name, metric.low).removesuffix(' points')} to {figure(name, metric.high)}"
    return Cell(repr(metric.value), figure(name, metric.value), interval)


def _drawn(name: str, metric: Metric) -> bool:
    ends = (metric.value, metric.low, metric.high)
    return is_share(name) and not is_difference(name) and all(0 <= v <= 1 for v in ends)


def figure(name: str, value: float) -> str:
    """Return a figure in its unit: shares in percent, differences of shares in points."""
    if is_share(name) and is_difference(name):
        return figure_words(name, value)
    return share(value) if is_share(name) else plain(value)


# --- differences --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One paired difference, ready to print; the mark of its bar is no difference."""

    title: str
    protocol: str
    metric: str
    ours: str
    theirs: str
    number: str
    difference: str
    bar: Bar | None
    interval: str
    items: str
    verdict: str
    better: bool | None


@dataclass(frozen=True)
class Pairing:
    """One model against another: figures to look at first, the others, how far drawings reach."""

    ours: str
    theirs: str
    primary: tuple[Change, ...]
    others: tuple[Change, ...]
    scale: str
    notes: tuple[str, ...]


def pairing_of(found: Compared) -> Pairing:
    """Return the rows of a comparison, all drawn to one scale."""
    ends = [
        abs(value)
        for one in found.differences
        if is_share(one.metric)
        for value in (one.mean, one.low or 0.0, one.high or 0.0)
    ]
    reach = max(ends, default=0.0) or 1.0
    return Pairing(
        ours=found.ours,
        theirs=found.theirs,
        primary=tuple(_change(one, reach) for one in found.differences if one.primary),
        others=tuple(_change(one, reach) for one in found.differences if not one.primary),
        scale=f"{100 * reach:.3g} points",
        notes=tuple(found.notes),
    )


def _change(one: Difference, reach: float) -> Change:
    whole = is_share(one.metric)

    def place(value: float) -> float:
        return round(50 + 48 * value / reach, 2)

    def signed(value: float) -> str:
        return f"{100 * value:+.1f} points" if whole else f"{value:+.4g}"

    low, high = one.low, one.high
    interval, bar = "", None
    if low is not None and high is not None:
        interval = f"{signed(low).removesuffix(' points')} to {signed(high)}"
        bar = Bar(place(one.mean), place(low), place(high), place(0.0)) if whole else None
    title = one.evaluation.replace("_", " ")
    return Change(
        title=title[:1].upper() + title[1:] + (f" on {one.data}" if one.data else ""),
        protocol=f"{one.protocol} (version {one.version})",
        metric=metric_words(one.metric),
        ours=figure(one.metric, one.ours),
        theirs=figure(one.metric, one.theirs),
        number=repr(float(one.mean)),
        difference=signed(one.mean),
        bar=bar,
        interval=interval,
        items=f"{one.items:,}" if one.items else "",
        verdict=one.verdict,
        better={"better": True, "worse": False}.get(one.verdict),
    )


def side_by_side(found: Sequence[Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (label, a value for each model) of mappings, "" where a model has none."""
    labels = dict.fromkeys(label for one in found for label in one)
    return [
        (label, tuple(value_words(one[label]) if label in one else "" for one in found))
        for label in labels
    ]
