"""A comparison as text: scores, paired differences, costs, and what is not matched."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence

from lift.results import is_share
from lift.training.compared import (
    FILE,
    ArmRecord,
    Comparison,
    Differs,
    Figure,
    InArm,
    Ran,
    figures,
)
from lift.training.paired import Difference

CAPTIONS = "loader.captions"

UNMATCHED = 0.02
"""Share of a budget of FLOPs by which an arm may miss it unmentioned."""

STRICT = "(strict)"
"""Figures so marked stand in the JSON and on the page, not in the console."""


def table(found: Comparison) -> str:
    """Return the comparison as text for a console."""
    reference = found.arms[0].name
    parts = [
        f"Compared with {reference}, budget: equal {found.budget}, seeds "
        f"{', '.join(map(str, found.seeds))}.",
        *(_figures(evaluation) for evaluation in _by_evaluation(figures(found))),
        _aligned(*costs(found)),
        "\n".join(notes(found)),
    ]
    return "\n\n".join(part for part in parts if part)


def _by_evaluation(found: Sequence[Figure]) -> list[list[Figure]]:
    tables: dict[tuple, list[Figure]] = {}
    for figure in found:
        key = (figure.evaluation, figure.version, figure.protocol, figure.data)
        tables.setdefault(key, []).append(figure)
    return list(tables.values())


def _figures(found: Sequence[Figure]) -> str:
    first = found[0]
    head = ["metric", "items", "arm", "seeds", "mean", "range"]
    head += ["difference", "over seeds", "95% interval", ""]
    rows = []
    shown = [figure for figure in found if not figure.metric.endswith(STRICT)]
    for figure in shown or found:
        name = figure.metric + (" *" if figure.primary else "")
        items = f"{figure.items:,}" if figure.items else ""
        for arm in figure.arms:
            rows.append([name, items, arm.arm, str(len(arm.seeds)), *_cells(figure, arm)])
            name = items = ""
    title = f"{first.evaluation} on {first.data} ({about_words(found)})"
    return f"{title}\n{_aligned(head, rows)}"


def about_words(found: Sequence[Figure]) -> str:
    """Return how an evaluation judged: protocol, version, and of its main metric items and chance.

    Args:
        found: its metrics.
    """
    main = next((figure for figure in found if figure.primary), found[0])
    words = [main.protocol, f"version {main.version}"]
    if main.items:
        words.append(f"{main.items:,} items")
    if main.chance is not None:
        words.append(f"chance {value_words(main.metric, main.chance)}")
    return ", ".join(words)


def _cells(figure: Figure, arm: InArm) -> list[str]:
    cells = [value_words(figure.metric, arm.mean), range_words(figure.metric, arm)]
    if arm.difference is None:
        return [*cells, "", "", "", ""]
    difference, interval, verdict = difference_words(figure, arm.difference)
    return [*cells, difference, str(len(arm.difference.seeds)), interval, verdict]


def value_words(metric: str, value: float) -> str:
    """Return a figure in its unit: shares in percent."""
    return f"{100 * value:.1f}%" if is_share(metric) else f"{value:.6g}"


def range_words(metric: str, arm: InArm) -> str:
    """Return the least and the most of an arm's values; "" of a single one."""
    if len(arm.values) == 1:
        return ""
    return f"{value_words(metric, arm.least)} to {value_words(metric, arm.most)}"


def difference_words(figure: Figure, found: Difference) -> tuple[str, str, str]:
    """Return difference, interval and verdict; of shares in points.

    Only the metric to look at first has a verdict: of many intervals some miss by luck.
    """

    def signed(value: float) -> str:
        return f"{100 * value:+.1f}" if is_share(figure.metric) else f"{value:+.4g}"

    verdict = found.verdict(lower_is_better=figure.lower_is_better) if figure.primary else ""
    if found.low is None or found.high is None:
        return signed(found.mean), "", verdict
    return signed(found.mean), f"{signed(found.low)} to {signed(found.high)}", verdict


def costs(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows of what every arm cost, a run on average."""
    head = ["cost of a run", "trained", "samples", "GF a sample", "image", "text", "tokens"]
    head += ["FLOPs", "embedding, once", "wall s", "CPU s"]
    rows = []
    for arm in found.arms:
        cost = arm.effort
        cells = [arm.name, _trained(arm), f"{_option(arm, 'samples'):,}"]
        if cost is None:
            cells += ["unknown", "", "", "", "", ""]
        else:
            gigas = (cost.sample_flops, cost.image_flops, cost.text_flops)
            cells += [*(f"{flops / 1e9:.3g}" for flops in gigas)]
            cells.append("" if cost.tokens is None else f"{cost.tokens:.1f}")
            cells += [f"{cost.run_flops:.3g}", _embedding(arm)]
        cells.append(_mean(arm, lambda ran: ran.seconds))
        cells.append(_mean(arm, lambda ran: ran.cpu_seconds))
        rows.append(cells)
    return head, rows


def _option(arm: ArmRecord, name: str) -> int:
    return int(arm.config.get(name, 0))


def _steps(arm: ArmRecord) -> int:
    """Return the steps of a run that does not end early."""
    size = arm.config.get("loader", {}).get("batch_size", 1)
    accumulate = arm.config.get("optim", {}).get("accumulate", 1)
    return _option(arm, "samples") // (int(size) * int(accumulate))


def _trained(arm: ArmRecord) -> str:
    counts = [sum(ran.parameters.values()) for ran in arm.runs]
    return f"{counts[0]:,}" if counts else ""


def _embedding(arm: ArmRecord) -> str:
    cost = arm.effort
    if cost is None or not cost.embedding:
        return "none"
    if cost.embedding_flops is None:
        return "unknown"
    share = cost.embedding_flops / cost.run_flops
    runs = f"{share:.0%} of a run" if share < 10 else f"{share:,.0f} runs"
    return f"{cost.embedding_flops:.3g} ({runs})"


def _mean(arm: ArmRecord, of: Callable[[Ran], float | None]) -> str:
    values = [of(ran) for ran in arm.runs]
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.1f}" if known else ""


def notes(found: Comparison) -> list[str]:
    """Return what has to be known beside the figures, a sentence each."""
    said = [
        "* marks the metric to look at first: items and chance in a heading are its own, and it "
        "alone has a verdict. Differences are over the seeds that both arms have, of shares in "
        "points."
    ]
    if len(found.seeds) == 1:
        said.append("One seed: no interval, so nothing is shown about other seeds.")
    elif intervals := _intervals(found):
        said.append(
            "Intervals: Student's t over the paired differences of the seeds. Each is for one "
            f"figure on its own: there are {intervals} in {FILE}, and of so many one in twenty "
            "misses by luck. They speak of other seeds on the same data and the same judged "
            "pairs, not of other data."
        )
    if len(found.seeds) == 2:
        said.append("Two seeds: how far they lie apart is hardly known; take three or more.")
    for arm in found.arms[1:]:
        said += _about_arm(arm, found.arms[0].name)
    said += _about_before(found)
    said += _about_runs(found)
    said += _about_notes(found)
    said += [f"FAILED: {failed.arm}, seed {failed.seed}: {failed.why}" for failed in found.failed]
    return said


def _intervals(found: Comparison) -> int:
    """Return how many intervals there are, of all arms and metrics."""
    differences = [arm.difference for figure in figures(found) for arm in figure.arms]
    return sum(one is not None and one.low is not None for one in differences)


def _about_arm(arm: ArmRecord, reference: str) -> Iterator[str]:
    """Yield in what an arm is not the first one."""
    told = ", ".join(map(option_words, arm.method)) or "no option that makes one differs"
    yield f"Method of {arm.name}, against {reference}: {told}."
    if arm.not_matched:
        told = ", ".join(map(option_words, arm.not_matched))
        yield f"NOT MATCHED: beside its method, {arm.name} has {told}."
    if any(one.option == CAPTIONS and "mix" in (one.first, one.here) for one in arm.not_matched):
        yield (
            "Tokens can't be mixed: to show both arms the same captions, train with "
            f"--set {CAPTIONS}=one."
        )


def _about_before(found: Comparison) -> Iterator[str]:
    """Yield what arms stand on and no cost here holds: tuning, and training before this one."""
    objectives = [one for arm in found.arms for one in arm.method if one.option == "objective"]
    if objectives or any(arm.trains_text for arm in found.arms):
        yield (
            "Options were tuned for LIFT, the recipe as it stands: another method or objective has "
            "the same ones, and may do better with its own."
        )
    texts: dict[str, list[str]] = {}
    for arm in found.arms:
        for one in arm.before:
            if one.text:
                texts.setdefault(one.what, []).append(arm.name)
                continue
            known = (
                "an unknown number of samples"
                if one.samples is None
                else (f"{one.samples:,} samples")
            )
            flops = "an unknown number of" if one.flops is None else f"{one.flops:.3g}"
            yield (
                f"NOT MATCHED: start of {arm.name}: {known}, {flops} FLOPs of the image side "
                f"before this, not counted ({one.what})."
            )
    for model, arms in texts.items():
        mark = "" if len(arms) == len(found.arms) else "NOT MATCHED: "
        yield (
            f"{mark}the text encoder of {', '.join(arms)} was trained before, on texts alone or "
            f"more: what that cost is not known here and not counted ({model})."
        )


def _about_notes(found: Comparison) -> Iterator[str]:
    """Yield what evaluations warned of, each with the arms and seeds that it is about."""
    about: dict[str, dict[str, list[int]]] = {}
    for arm in found.arms:
        for ran in arm.runs:
            for note in ran.notes:
                about.setdefault(note, {}).setdefault(arm.name, []).append(ran.seed)
    runs = sum(len(arm.runs) for arm in found.arms)
    for note, arms in about.items():
        if sum(map(len, arms.values())) == runs:
            yield f"Every run: {note}"
        else:
            told = "; ".join(
                f"{name}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
                for name, seeds in arms.items()
            )
            yield f"{told}: {note}"


def _about_runs(found: Comparison) -> Iterator[str]:
    """Yield what the runs were, cost and warned of."""
    runs = [ran for arm in found.arms for ran in arm.runs]
    costs = [(arm.name, arm.effort) for arm in found.arms if arm.effort]
    for name, cost in costs if found.budget == "flops" else []:
        share = cost.run_flops / costs[0][1].run_flops - 1
        if abs(share) > UNMATCHED:
            yield f"NOT MATCHED: whole steps leave {name} at {share:+.0%} of the FLOPs."
    for what in ("precision", "device"):
        used = {getattr(ran, what) for ran in runs}
        if len(used) > 1:
            yield f"NOT MATCHED: the runs' {what} was {' or '.join(sorted(used))}."
    rows = {arm.name: arm.effort.embedding for arm in found.arms if arm.effort}
    if any(rows.values()):
        yield (
            "FLOPs are those of both sides' training, by closed forms; making the rows (embedding) "
            "is done once for all runs and stands beside them."
        )
    yield from (
        f"Rows of {name}: all in its cache, also those that are only judged: {words}."
        for name, words in rows.items()
        if words
    )
    yield "Wall time is that of the steps; CPU time holds the evaluations too."
    for arm in found.arms:
        steps, planned = [ran.steps for ran in arm.runs], _steps(arm)
        if steps and min(steps) < planned:
            yield (
                f"Runs of {arm.name} got no better and ended early, after {min(steps):,} of "
                f"{planned:,} steps at the earliest: they cost less than the table says."
            )
        if any(ran.cpu_seconds is None for ran in arm.runs):
            yield (
                f"CPU time of some runs of {arm.name} is not known: an attempt was killed, or "
                "they ran in several processes."
            )


def option_words(one: Differs) -> str:
    """Return one option that differs: `loader.captions mix -> one`."""
    return f"{one.option} {_plain(one.first)} -> {_plain(one.here)}"


def _plain(value: object) -> str:
    if value is None:
        return "none"
    return value or "''" if isinstance(value, str) else json.dumps(value)


def _aligned(head: list[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; columns of words to the left, of numbers to the right."""
    lines = [head, ["-" * max(1, len(name)) for name in head], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines[1] = ["-" * width for width in widths]
    left = {"metric", "arm", "cost of a run", ""}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if title in left else cell.rjust(width)
            for title, cell, width in zip(head, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
