"""Write comparison.html: arms side by side, their paired differences seed by seed, their curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lift import plugins
from lift.errors import CheckpointError
from lift.files import write_text
from lift.pages.bars import Bar, Column, columns_of, not_drawn
from lift.pages.charts import SERIES, Chart, Line
from lift.pages.record import read_record
from lift.pages.templates import template
from lift.pages.words import flatten, metric_words
from lift.results import is_share
from lift.training.compared import (
    ArmRecord,
    Comparison,
    Figure,
    InArm,
    figures,
    read_comparison,
)
from lift.training.compared_words import (
    about_words,
    costs,
    difference_words,
    notes,
    option_words,
    range_words,
    value_words,
)


@dataclass(frozen=True)
class Row:
    """One metric in one arm; the dots of `forest` are seeds, its mark is no difference."""

    metric: str
    items: str
    primary: bool
    column: Column
    seeds: str
    mean: str
    range: str
    forest: Bar | None
    difference: str
    over: str
    interval: str
    verdict: str


@dataclass(frozen=True)
class Table:
    """One evaluation; `scales` are the ends of the drawings, by unit."""

    title: str
    about: str
    scales: tuple[str, ...]
    rows: tuple[Row, ...]


def write_comparison(folder: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the page of a comparison, complete or not, and return its path.

    The page is one file: no script, no font, no request; the same comparison gives the same bytes.

    Args:
        folder: what `lift compare` wrote. The curves are read from its runs, where they are there.
        out: the file to write; `comparison.html` in the folder where None.

    Raises:
        DataError: the folder holds no readable comparison.
        MissingPackage: jinja2 or matplotlib is not installed.
        StorageError: the page can't be written.
    """
    for package in ("jinja2", "matplotlib"):
        plugins.require(package, "plots", "The page of a comparison")
    folder = Path(folder)
    path = Path(out) if out is not None else folder / "comparison.html"
    write_text(path, render(read_comparison(folder), folder))
    return path


def render(found: Comparison, folder: Path) -> str:
    """Return the page's HTML. Every text of runs and options is escaped."""
    from markupsafe import Markup

    from lift.pages.charts import draw

    columns = columns_of([arm.name for arm in found.arms])
    arms = list(zip(columns, found.arms, strict=True))
    return template("comparison.html").render(
        title=" against ".join((found.arms[-1].name, found.arms[0].name))
        if len(found.arms) == 2
        else f"{len(found.arms)} arms",
        lede=_lede(found),
        columns=columns,
        arms=arms,
        option_words=option_words,
        facts=_facts(found),
        notes=notes(found),
        tables=_tables(found, columns),
        costs=costs(found),
        charts=[(chart, Markup(draw(chart))) for chart in curves(found, folder)],
        undrawn=not_drawn(len(found.arms), "arms"),
        configs=[(column, flatten(arm.config)) for column, arm in arms],
        versions=flatten(found.versions),
    )


def _lede(found: Comparison) -> str:
    runs, asked = sum(len(arm.runs) for arm in found.arms), len(found.arms) * len(found.seeds)
    words = f"{runs} of {asked} runs" if runs < asked else f"{runs} runs"
    data, judged = (found.arms[0].config.get(name, "") for name in ("data", "validation"))
    return f"{words} on {data}, judged on {judged}. Each arm has the same {found.budget}."


def _facts(found: Comparison) -> list[tuple[str, str]]:
    facts = [
        ("Compared with", found.arms[0].name),
        ("Equal", found.budget),
        ("Seeds", ", ".join(map(str, found.seeds))),
        ("Failed runs", str(len(found.failed) or "")),
        ("Date", found.date),
    ]
    return [fact for fact in facts if fact[1]]


# --- scores and differences ---------------------------------------------------------------------


def _tables(found: Comparison, columns: Sequence[Column]) -> list[Table]:
    named = {column.heading: column for column in columns}
    groups: dict[tuple, list[Figure]] = {}
    for figure in figures(found):
        key = (figure.evaluation, figure.version, figure.protocol, figure.data)
        groups.setdefault(key, []).append(figure)
    return [_table(group, named) for group in groups.values()]


def _table(group: Sequence[Figure], named: dict[str, Column]) -> Table:
    first = group[0]
    reach = {unit: _reach(group, shares=unit) for unit in (True, False)}
    scales = [f"±{100 * reach[True]:.3g} points"] if any(map(_is_share, group)) else []
    scales += [f"±{reach[False]:.3g}"] if not all(map(_is_share, group)) else []
    title = first.evaluation.replace("_", " ")
    return Table(
        title=f"{title[:1].upper()}{title[1:]} on {first.data}",
        about=about_words(group),
        scales=tuple(scales),
        rows=tuple(
            _row(figure, arm, named[arm.arm], reach[_is_share(figure)])
            for figure in group
            for arm in figure.arms
        ),
    )


def _is_share(figure: Figure) -> bool:
    return is_share(figure.metric)


def _reach(group: Sequence[Figure], *, shares: bool) -> float:
    """Return the largest difference or end of an interval: where the drawings end."""
    found = [arm.difference for f in group if _is_share(f) is shares for arm in f.arms]
    ends = [
        abs(value)
        for one in found
        if one is not None
        for value in (*one.differences, one.low or 0.0, one.high or 0.0)
    ]
    return max(ends, default=0.0) or 1.0


def _row(figure: Figure, arm: InArm, column: Column, reach: float) -> Row:
    words, over = ("", "", ""), ""
    forest = None
    if (one := arm.difference) is not None:
        words = difference_words(figure, one)
        over = ", ".join(map(str, one.seeds))

        def place(value: float) -> float:
            return round(50 + 48 * value / reach, 2)

        forest = Bar(
            at=place(one.mean),
            chance=place(0.0),
            dots=tuple(map(place, one.differences)),
            low=None if one.low is None else place(one.low),
            high=None if one.high is None else place(one.high),
        )
    return Row(
        metric=metric_words(figure.metric),
        items=f"{figure.items:,}" if figure.items else "",
        primary=figure.primary,
        column=column,
        seeds=", ".join(map(str, arm.seeds)),
        mean=value_words(figure.metric, arm.mean),
        range=range_words(figure.metric, arm),
        forest=forest,
        difference=words[0],
        over=over,
        interval=words[1],
        verdict=words[2],
    )


# --- curves -------------------------------------------------------------------------------------


def curves(found: Comparison, folder: Path) -> list[Chart]:
    """Return a chart of the main metric of each evaluation, as the arms were judged in training.

    A line is the mean over an arm's seeds, the band what they span. Runs whose folder is gone are
    left out.
    """
    judged: dict[tuple, dict[str, dict[int, list[float]]]] = {}
    drawn = list(zip(columns_of([arm.name for arm in found.arms]), found.arms, strict=True))[
        : len(SERIES)
    ]
    for column, arm in drawn:
        for ran in arm.runs:
            for key, step, value in _judged(folder / ran.folder):
                points = judged.setdefault(key, {}).setdefault(column.letter, {})
                points.setdefault(step * _step_samples(arm), []).append(value)
    whole = {column.letter: len(arm.runs) for column, arm in drawn}
    charts = []
    for number, (key, arms) in enumerate(judged.items()):
        evaluation, _, data, metric = key
        lines = [_line(points, letter, whole[letter]) for letter, points in arms.items()]
        charts.append(
            Chart(
                slug=f"curve-{number}",
                title=f"{metric_words(metric)}, {evaluation}",
                unit="share" if is_share(metric) else metric_words(metric, brief=True),
                about=f"On {data}, during training. Lines are means over seeds, bands span them.",
                lines=tuple(line for line in lines if line.x),
                percent=is_share(metric),
                across="images seen",
            )
        )
    return [chart for chart in charts if any(len(line.x) > 1 for line in chart.lines)]


def _judged(run: Path) -> Iterator[tuple[tuple[str, str, str, str], int, float]]:
    """Yield (evaluation, step, value) of the main metrics of a run's evaluations."""
    try:
        record = read_record(run)
    except CheckpointError:
        return
    for step, results in record.evals:
        for result in results:
            key = (result.evaluation, result.protocol, result.data, result.primary)
            yield key, step, result.metrics[result.primary].value


def _step_samples(arm: ArmRecord) -> int:
    loader, optim = arm.config.get("loader", {}), arm.config.get("optim", {})
    return int(loader.get("batch_size", 1)) * int(optim.get("accumulate", 1))


def _line(points: dict[int, list[float]], letter: str, runs: int) -> Line:
    """Return the line of an arm over the points that all its runs have."""
    at = [x for x in sorted(points) if len(points[x]) == runs]
    return Line(
        x=at,
        y=[sum(points[x]) / runs for x in at],
        name=letter,
        low=[min(points[x]) for x in at],
        high=[max(points[x]) for x in at],
    )
