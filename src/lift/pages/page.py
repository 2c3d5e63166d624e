"""Write report.html: one file that shows what a run is, how it went and what it can do."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift import plugins
from lift.files import write_text
from lift.pages.bars import Bar, bar_of
from lift.pages.curves import charts_of, is_share
from lift.pages.gallery import galleries_of
from lift.pages.pictures import Pictures, Thumbnails, picture_notes
from lift.pages.record import Record, number, read_record
from lift.pages.regression import Regression, regression_of
from lift.pages.repeat import commands_of
from lift.pages.templates import template
from lift.pages.words import count, duration, flatten, metric_words, plain, share, value_words
from lift.terms import EvalResult, Metric


@dataclass(frozen=True)
class Row:
    """One metric of a table; only a share has a bar."""

    name: str
    value: str
    interval: str
    items: str
    primary: bool
    bar: Bar | None


@dataclass(frozen=True)
class Table:
    """One evaluation's figures, ready to print."""

    title: str
    protocol: str
    counts: str
    chance: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    primary: Row | None


def write_report(
    run_folder: str | Path, *, out: str | Path | None = None, thumbnails: Thumbnails | None = None
) -> Path:
    """Write the page of a run, finished or not, and return its path.

    The page is one file: no script, no font, no request; the same run gives the same bytes.

    Args:
        run_folder: what `lift train` wrote: run.json, events.jsonl, evals/.
        out: the file to write; `report.html` in the run folder where None.
        thumbnails: for each data set, by the name that results give it, the bytes of image files
            by key, for the galleries. Without them, and for data and keys that it does not know,
            the page shows the key in the picture's place.

    Raises:
        CheckpointError: the folder holds no readable run.json.
        MissingPackage: jinja2 or matplotlib is not installed.
        StorageError: the page can't be written.
    """
    for package in ("jinja2", "matplotlib"):
        plugins.require(package, "plots", "The report")
    folder = Path(run_folder)
    path = Path(out) if out is not None else folder / "report.html"
    record = read_record(folder)
    write_text(path, render(record, thumbnails, regression_of(folder, record.run)))
    return path


def render(
    record: Record, thumbnails: Thumbnails | None = None, regression: Regression | None = None
) -> str:
    """Return the page's HTML. Every text of the run is escaped."""
    from markupsafe import Markup

    from lift.pages.charts import draw

    pictures = Pictures(thumbnails)
    commands, inferred = commands_of(record)
    results = record.results or (record.evals[-1][1] if record.evals else ())
    galleries = galleries_of(results, pictures)
    return template("template.html").render(
        title=str(record.run.get("recipe") or record.name),
        name=record.name,
        status=_status(record),
        lede=_lede(record.run),
        facts=_facts(record),
        during=_during(record),
        tables=[_table(result) for result in results],
        charts=[(chart, Markup(draw(chart))) for chart in charts_of(record)],
        regression=regression,
        resumes=record.resumes,
        galleries=galleries,
        picture_notes=picture_notes(
            pictures,
            bool(galleries),
            "only the data was at hand that the run itself was judged on",
        ),
        warnings=record.warnings,
        counters=_counters(record),
        space=flatten(_mapping(record.run, "space")),
        config=flatten(_mapping(record.run, "config")),
        machine=_machine(record.run),
        commands=commands,
        commands_inferred=inferred,
    )


def _status(record: Record) -> str:
    if record.finished:
        return "finished"
    return str(record.run.get("status") or "status unknown").replace("_", " ")


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _part_name(config: Mapping[str, Any], key: str) -> str:
    found = config.get(key)
    return str(found.get("name", "")) if isinstance(found, Mapping) else str(found or "")


def _space_name(run: Mapping[str, Any]) -> str:
    space = _mapping(run, "space")
    return str(space.get("model") or space.get("model_id") or space.get("encoder") or "")


def _lede(run: Mapping[str, Any]) -> str:
    """Return one sentence: what was trained, on what, into which space."""
    config, parameters = _mapping(run, "config"), _mapping(run, "parameters")
    data, space = config.get("data"), _space_name(run)
    two = _part_name(config, "text_tower")
    words = [_side("An image encoder", _part_name(config, "tower"), parameters, ("tower", "head"))]
    if two:
        words.append("and " + _side("a text encoder", two, parameters, ("text",)))
    if data:
        words[-1] += ","
        words.append(f"trained on {data}")
    if two:
        wide = number(config.get("dimensions"))
        words.append(f"into a shared space of {wide:,.0f} dimensions" if wide else "together")
    else:
        words.append(
            f"into the fixed text space of {space}" if space else "into a fixed text space"
        )
    if held := [str(name).replace(".", " ") for name in config.get("freeze") or ()]:
        words[-1] += f", {' and '.join(held)} held still"
    return " ".join(words) + "."


def _side(what: str, tower: str, parameters: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Return a side in words; a temperature and the like are of neither."""
    known = [n for n in (number(parameters.get(name)) for name in parts) if n is not None]
    words = f"{what} ({tower})" if tower else what
    return f"{words} of {count(sum(known))} trained parameters" if any(known) else words


def _facts(record: Record) -> list[tuple[str, str, bool]]:
    """Return (name, value, monospaced) of the facts below the headline; only those known."""
    run, config = record.run, _mapping(record.run, "config")
    space, last = _mapping(run, "space"), record.steps[-1] if record.steps else {}
    loader, rates = _mapping(config, "loader"), [number(s.get("img_per_s")) for s in record.steps]
    known_rates = [r for r in rates if r is not None]
    batch = number(loader.get("batch_size"))
    facts = [
        ("Text space", _space_name(run), False),
        ("Fingerprint", str(space.get("fingerprint") or ""), True),
        ("Dimensions", value_words(space.get("dimensions") or space.get("dim") or ""), False),
        ("Objective", _part_name(config, "objective"), False),
        ("Batch", f"{batch:,.0f} images" if batch else "", False),
        ("Images seen", _seen(last), False),
        ("Training time", duration(record.seconds) if record.seconds else "", False),
        (
            "Throughput",
            f"{statistics.median(known_rates):,.0f} images/s" if known_rates else "",
            False,
        ),
        ("Device", str(run.get("device") or config.get("device") or ""), False),
        ("Precision", str(run.get("precision") or ""), False),
        ("Threads", value_words(run["threads"]) if run.get("threads") else "", False),
        ("Seed", value_words(config["seed"]) if "seed" in config else "", False),
    ]
    return [fact for fact in facts if fact[1]]


def _seen(last: Mapping[str, Any]) -> str:
    samples, epoch = number(last.get("samples")), number(last.get("epoch"))
    if not samples:
        return ""
    return count(samples) + (f" ({epoch:.3g} epochs)" if epoch else "")


def _during(record: Record) -> str:
    """Return the caveat where the figures are not those of the finished model."""
    if record.results or not record.evals:
        return ""
    return f"No final evaluation yet: these figures are from step {record.evals[-1][0]:,}."


def _table(result: EvalResult) -> Table:
    rows = tuple(_row(result, name, metric) for name, metric in result.metrics.items())
    title = result.evaluation.replace("_", " ")
    return Table(
        title=title[:1].upper() + title[1:] + (f" on {result.data}" if result.data else ""),
        protocol=result.protocol + (f" (version {result.version})" if result.version else ""),
        counts=", ".join(f"{value_words(n)} {what}" for what, n in result.counts.items()),
        chance="" if result.chance is None else _value(result.chance, result.chance <= 1),
        notes=result.notes,
        rows=rows,
        primary=next((row for row in rows if row.primary), None),
    )


def _row(result: EvalResult, name: str, metric: Metric) -> Row:
    bar = is_share(name, metric)
    primary = name == result.primary
    chance = result.chance if primary and result.chance else None
    return Row(
        name=metric_words(name),
        value=_value(metric.value, bar),
        interval=f"{_value(metric.low, bar)} to {_value(metric.high, bar)}",
        items=f"{metric.items:,}" if metric.items else "",
        primary=primary,
        bar=bar_of(metric, chance) if bar else None,
    )


def _value(value: float, is_a_share: bool) -> str:
    return share(value) if is_a_share else plain(value)


def _counters(record: Record) -> list[tuple[str, str]]:
    rows = flatten(record.counters or {})
    if record.redone:
        rows.append(("log records replaced after a resume", str(record.redone)))
    if record.unreadable:
        rows.append(("unreadable lines of events.jsonl", str(record.unreadable)))
    return rows


def _machine(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    keys = ("device", "precision", "threads", "probe", "parameters", "versions")
    return flatten({key: run[key] for key in keys if run.get(key) not in (None, {}, "")})
