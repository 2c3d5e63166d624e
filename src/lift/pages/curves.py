"""Choose the charts that a run's record can fill: loss, scores, and how the machine did."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lift.pages.charts import Chart, Line, Mark, group_of
from lift.pages.record import Record, number
from lift.pages.words import metric_words
from lift.results import is_share as is_named_as_share
from lift.terms import EvalResult, Metric

MOST_LINES = 3
"""Metrics of one evaluation drawn together; the table holds them all."""


def charts_of(record: Record) -> list[Chart]:
    """Return the charts of a run in reading order; one that has no data is left out."""
    charts = [
        _loss(record),
        *_scores(record),
        _series(
            record,
            key="lr",
            title="Learning rate",
            unit="learning rate",
            about="The step size that the optimiser used.",
            zero=True,
        ),
        _series(
            record,
            key="grad_norm",
            title="Gradient norm",
            unit="norm before clipping",
            about="Global norm of the gradient before clipping.",
            marks=_clip(record),
            smooth=True,
            zero=True,
        ),
        _series(
            record,
            key="scale",
            title="Logit scale",
            unit="inverse temperature",
            about=_about_scale(record.run),
        ),
        _series(
            record,
            key="img_per_s",
            title="Throughput",
            unit="images per second",
            about="Training images per second of wall time.",
            smooth=True,
            zero=True,
        ),
        _series(
            record,
            key="wait",
            title="Waiting for data",
            unit="share of wall time",
            about="Share of the time in which the model waited for the next batch.",
            smooth=True,
            zero=True,
            percent=True,
        ),
    ]
    return [replace(c, stops=record.resumes) for c in charts if c is not None]


def guess_loss(run: Mapping) -> tuple[float, int] | None:
    """Return (ln(batch), batch) where the objective is the softmax one, else None.

    A batch is the images of a step, which are all compared with all its texts. ln(batch) is what
    a model scores that finds every caption of a batch equally likely.
    """
    config = run.get("config") or {}
    objective = config.get("objective") or {}
    name = objective.get("name", "softmax") if isinstance(objective, Mapping) else objective
    loader = config.get("loader") or {}
    batch = number(loader.get("batch_size")) if isinstance(loader, Mapping) else None
    optim = config.get("optim") or {}
    times = number(optim.get("accumulate")) if isinstance(optim, Mapping) else None
    batch = batch and batch * (times or 1)
    if name != "softmax" or batch is None or batch < 2:
        return None
    return math.log(batch), int(batch)


def _loss(record: Record) -> Chart | None:
    chart = _series(
        record,
        key="loss",
        title="Training loss",
        unit="loss, nats",
        about="Loss on the batches trained on.",
        smooth=True,
    )
    guess = guess_loss(record.run)
    if chart is None or guess is None:
        return chart
    level, batch = guess
    mark = Mark(level, f"ln {batch} = {level:.2f}, guessing")
    return replace(
        chart,
        marks=(mark,),
        about=f"{chart.about} Guessing among the {batch} of a batch stays at ln {batch}.",
    )


def _about_scale(run: Mapping) -> str:
    """Return what the factor on the cosines is: learned, or held still."""
    objective = (run.get("config") or {}).get("objective")
    while isinstance(objective, Mapping):
        options = objective.get("options")
        options = options if isinstance(options, Mapping) else {}
        if options.get("learn_temperature") is False:
            return "Factor on the cosines; it is held still."
        objective = options.get("of")
    return "Factor on the cosines; it is learned, and grows as pairs become easy."


def _clip(record: Record) -> tuple[Mark, ...]:
    optim = (record.run.get("config") or {}).get("optim")
    limit = number(optim.get("clip_norm")) if isinstance(optim, Mapping) else None
    return (Mark(limit, f"clipped at {limit:g}"),) if limit else ()


def _series(record: Record, *, key: str, about: str, **options) -> Chart | None:
    points = [
        (x, y)
        for step in record.steps
        if (x := number(step.get("step"))) is not None
        and (y := number(step.get(key))) is not None
        and math.isfinite(y)
    ]
    if not points:
        return None
    x, y = zip(*points, strict=True)
    group = group_of(len(points))
    if group > 1:
        about += f" Each point is the mean of {group} logged ones."
    if options.get("smooth") and len(points) > 20:
        about += " Faint: as logged; strong: running mean."
    about += f" Last: {_figure(y[-1], options)} at step {x[-1]:,.0f}."
    return Chart(slug=key.replace("_", "-"), about=about, lines=(Line(x, y),), **options)


def _figure(value: float, options: Mapping) -> str:
    return f"{100 * value:.1f}%" if options.get("percent") else f"{value:.4g}"


def _scores(record: Record) -> Iterable[Chart]:
    """Yield one chart for each (evaluation, data, protocol) judged during training."""
    judged: dict[tuple[str, str, str], list[tuple[int, EvalResult]]] = {}
    for step, results in record.evals:
        for result in results:
            key = (result.evaluation, result.data, result.protocol)
            judged.setdefault(key, []).append((step, result))
    for number_, (key, history) in enumerate(judged.items()):
        last = history[-1][1]
        names = lines_of(last)
        lines = []
        for name in names:
            points = [(s, r.metrics[name]) for s, r in history if name in r.metrics]
            lines.append(_score_line(name, points))
        if not lines:
            continue
        chance = None if last.chance is None else Mark(last.chance, f"chance {last.chance:.1%}")
        first = last.metrics[names[0]]
        slug = re.sub(r"[^a-z0-9]+", "-", key[0].lower()).strip("-") or "evaluation"
        yield Chart(
            slug=f"eval-{number_}-{slug}",
            title=f"{_sentence(key[0])} during training",
            unit=metric_words(names[0]) if len(names) == 1 else "share right",
            about=(
                f"On {key[1] or 'the validation pairs'}. Bands: 95% intervals. Last: "
                f"{metric_words(names[0])} {first.value:.1%} "
                f"({first.low:.1%} to {first.high:.1%}) at step {history[-1][0]:,}."
            ),
            lines=tuple(lines),
            marks=(chance,) if chance else (),
            percent=True,
            zero=True,
        )


def lines_of(result: EvalResult) -> list[str]:
    """Return the metrics to draw: the primary one, then shares that are named most like it."""
    shares = [name for name, metric in result.metrics.items() if is_share(name, metric)]
    if result.primary not in shares:
        return shares[:MOST_LINES]
    stem = re.split(r"[@\d]", result.primary)[0]
    alike = [n for n in shares if n != result.primary and re.split(r"[@\d]", n)[0] == stem]
    return [result.primary, *alike[: MOST_LINES - 1]]


def is_share(name: str, metric: Metric) -> bool:
    """Whether a metric is a share between 0 and 1, so that it can be drawn on that scale."""
    ends = (metric.value, metric.low, metric.high)
    return is_named_as_share(name) and all(0 <= v <= 1 for v in ends)


def _score_line(name: str, points: list[tuple[int, Metric]]) -> Line:
    return Line(
        x=[step for step, _ in points],
        y=[metric.value for _, metric in points],
        low=[metric.low for _, metric in points],
        high=[metric.high for _, metric in points],
        name=metric_words(name, brief=True),
        marks=True,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].replace("_", " ")
