"""Write ladder.html: what each rung gave and cost, and what the next would cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift import plugins
from lift.files import write_text
from lift.pages.bars import Bar, bar_of
from lift.pages.charts import SERIES, Chart, Line, Mark
from lift.pages.templates import template
from lift.pages.words import flatten, metric_words, share
from lift.rungs.record import RECALL, Ladder, Rung
from lift.rungs.words import (
    COLUMNS,
    RULE,
    agreement,
    difference,
    outcome,
    percent,
    protocol,
    seconds,
    verdict,
)

NAME = "ladder.html"


@dataclass(frozen=True)
class Row:
    """One rung that came out: R@10 as a bar, `figures` in the order of the columns."""

    rung: Rung
    taken: bool
    bar: Bar
    interval: str
    items: str
    figures: tuple[str, ...]
    cost: str
    climbed: str
    difference: str
    verdict: str


def write_ladder(found: Ladder, folder: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the page of a ladder and return its path.

    The page is one file: no script, no font, no request; the same ladder gives the same bytes.

    Args:
        found: what `lift.rungs.climb` returned, or `lift.rungs.record.read` read.
        folder: the ladder's.
        out: the file to write; `ladder.html` in the folder where None.

    Raises:
        MissingPackage: jinja2 or matplotlib is not installed.
        StorageError: the page can't be written.
    """
    for package in ("jinja2", "matplotlib"):
        plugins.require(package, "plots", "The page of a ladder")
    path = Path(out) if out is not None else Path(folder) / NAME
    write_text(path, render(found))
    return path


def render(found: Ladder) -> str:
    """Return the page's HTML. Every text of data and options is escaped."""
    from markupsafe import Markup

    from lift.pages.charts import draw

    chart = chart_of(found)
    return template("ladder.html").render(
        found=found,
        title=f"{found.tower} into {found.space}",
        taken=found.named(found.take) if found.take else None,
        rows=[_row(found, rung) for rung in found.done],
        heads=[metric_words(name) for name in COLUMNS],
        facts=_facts(found),
        protocol=protocol(found),
        predicted=agreement(found.predicted),
        outcome=outcome(found),
        steps=[(step.what, f"{step.cost.items:,}" if step.cost.items else "", seconds(step.cost))
               for step in found.steps],
        above=[(one, seconds(one.cost)) for one in found.next],
        rule=RULE,
        chart=None if chart is None else (chart, Markup(draw(chart))),
        made=[(rung.name, list(rung.facts.items())) for rung in found.done],
        versions=flatten(found.versions),
        percent=percent,
    )  # fmt: skip


def chart_of(found: Ladder) -> Chart | None:
    """Return R@10 against the seconds that a rung takes, with what it starts from."""
    drawn = found.done[: len(SERIES)]
    if not drawn:
        return None
    lines = []
    for rung in drawn:
        assert rung.recall is not None
        wall = found.climbed(rung).wall_seconds
        lines.append(Line(x=[wall], y=[rung.recall.value], name=rung.name))
    result = drawn[0].result
    chance = None if result is None else result.chance
    return Chart(
        slug="cost",
        title="R@10, text to image, against cost",
        unit="share",
        about="Each dot is a rung. Seconds of this machine once captions and features are "
        "stored, with those of the rung that it starts from.",
        lines=tuple(lines),
        marks=() if chance is None else (Mark(chance, "guessing"),),
        percent=True,
        zero=True,
        across="seconds",
    )


def _row(found: Ladder, rung: Rung) -> Row:
    assert rung.result is not None
    metrics, recall, chance = rung.result.metrics, rung.result.metrics[RECALL], rung.result.chance
    return Row(
        rung=rung,
        taken=rung.name == found.take,
        bar=bar_of(recall, chance),
        interval=f"{share(recall.low)} to {share(recall.high)}",
        items=f"{recall.items:,}",
        figures=tuple(share(metrics[name].value) for name in COLUMNS),
        cost=seconds(rung.cost),
        climbed=seconds(found.climbed(rung)),
        difference="" if rung.against is None else f"{rung.against.other}: {_points(rung)}",
        verdict="" if rung.against is None else verdict(rung.against),
    )


def _points(rung: Rung) -> str:
    assert rung.against is not None
    return difference(rung.against).rpartition(",")[0]


def _facts(found: Ladder) -> list[tuple[str, str]]:
    facts = [
        ("Text space", f"{found.space}, {found.dimensions:,} numbers"),
        ("Tower", f"{found.tower}, {found.width:,} numbers"),
        ("Made from", f"{found.fitted:,} samples"),
        ("Stopped by", f"{found.stopping:,} samples"),
        ("Judged by", f"{found.judged:,} samples"),
        *((f"Left out: {why}", f"{count:,}") for why, count in found.left_out.items()),
        ("Date", found.date),
    ]
    return [fact for fact in facts if fact[1]]
