"""Pages of studies: hypotheses and what became of them, tables and plots, from records alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from frame.found import Found
from lift.bootstrap import Spread

COLOURS = ("#1f6f5c", "#c4622d", "#5a6b8c", "#a3a13a", "#8a4f7d", "#777777", "#2c7fb8", "#b05a5a")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of a hypothesis.

    Attributes:
        held: None where the intervals decide nothing, or records are missing.
        told: the numbers, in words.
    """

    held: bool | None
    told: str


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What was expected before the runs.

    Attributes:
        text: a sentence.
        check: asks the records.
        paper: whether the paper claims it; else it is our own.
        after: whether it was put only when first runs were there.
    """

    text: str
    check: Callable[[Found], Answer]
    paper: bool = False
    after: bool = False

    @property
    def words(self) -> str:
        """The sentence, and when it was put where that was not before the runs."""
        return self.text + " *(put after the first runs)*" * self.after


def all_of(answers: Iterable[Answer]) -> Answer:
    """Return one answer: held where all did, not held where one did not."""
    answers = list(answers)
    helds = [answer.held for answer in answers]
    held = False if False in helds else None if None in helds or not helds else True
    return Answer(held, "; ".join(answer.told for answer in answers))


def each(check: Callable[[Found, str], Answer], sets: Iterable[str]) -> Callable[[Found], Answer]:
    """Ask the same of several sets."""
    return lambda found: all_of(check(found, of) for of in sets)


def more(found: Found, of: str, arm: str, other: str, figure: str, by: float = 0.0) -> Answer:
    """Return whether `arm` has more of a figure than `other`, by at least `by`."""
    spread = found.difference(of, arm, other, figure)
    if spread is None:
        return Answer(None, f"{of}: no records yet")
    held = True if spread.low > by else False if spread.high <= by else None
    return decided(held, f"{of}: {points(spread)}", spread)


def within(found: Found, of: str, arm: str, other: str, figure: str, by: float) -> Answer:
    """Return whether `arm` and `other` differ by less than `by` in a figure, either way."""
    spread = found.difference(of, arm, other, figure)
    if spread is None:
        return Answer(None, f"{of}: no records yet")
    apart = spread.low >= by or spread.high <= -by
    held = True if -by < spread.low and spread.high < by else False if apart else None
    return decided(held, f"{of}: {points(spread)}", spread)


def decided(held: bool | None, told: str, *spreads: Spread) -> Answer:
    """Return an answer; arms that have one seed in common decide nothing, whatever others have."""
    if all(spread.seeds > 1 for spread in spreads):
        return Answer(held, told)
    return Answer(None, f"{told}, one seed")


def percent(spread: Spread | None) -> str:
    """Return "27.2% [25.0, 29.4]"."""
    if spread is None:
        return "-"
    return f"{100 * spread.mean:.1f}% [{100 * spread.low:.1f}, {100 * spread.high:.1f}]"


def points(spread: Spread | None) -> str:
    """Return "+3.1 [1.0, 5.2]": percentage points."""
    if spread is None:
        return "-"
    return f"{100 * spread.mean:+.1f} [{100 * spread.low:.1f}, {100 * spread.high:.1f}]"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def answered(hypotheses: Sequence[Hypothesis], found: Found) -> list[tuple[Hypothesis, Answer]]:
    """Return what became of each hypothesis; one seed of each arm decides nothing."""
    answers = [(one, one.check(found)) for one in hypotheses]
    if found.most_seeds > 1:
        return answers
    return [(one, Answer(None, f"one seed: {a.told}")) for one, a in answers]


def opening(hypotheses: Sequence[Hypothesis], found: Found) -> str:
    """Return the first paragraphs: what did not hold, what held, what is undecided."""
    answers = answered(hypotheses, found)
    kinds = (
        (False, "**Did not hold**"),
        (True, "**Held**"),
        (None, "**Not decided**"),
    )
    parts = []
    for held, words in kinds:
        own = [(one, answer) for one, answer in answers if answer.held is held]
        lines = [
            f"- {'(the paper) ' if one.paper else ''}{one.words} ({answer.told})"
            for one, answer in own
        ]
        if lines:
            parts.append(f"{words} of what was expected:\n\n" + "\n".join(lines))
        elif held is False and any(answer.held for _, answer in answers):
            parts.append("Nothing that was expected was contradicted.")
    return "\n\n".join(parts)


def _many(found: Found) -> str:
    seeds = found.seeds_an_arm()
    return f"{seeds} seed" if seeds == "1" else f"{seeds} seeds"


INTERVALS = "a bootstrap over items, paired where arms are compared, and Student's t over seeds"


def made_of(found: Found, trials: int = 0, intervals: str = INTERVALS) -> str:
    """Return how many runs, on what, at what cost.

    Args:
        found: the records.
        trials: how many there were besides.
        intervals: by what they are made.
    """
    records = [*found.records.values()]
    if not records:
        return "No run is finished yet."
    dates = sorted({record["date"] for record in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    versions = records[0]["versions"]
    tried, mixed = f" and {trials} trials" if trials else "", found.mixed()
    return (
        f"{len(records)} runs{tried}, {_many(found)} an arm, "
        f"{found.cpu_minutes():.0f} CPU-minutes (without trials), {when}, one thread a run on a "
        f"CPU with {versions.get('cpu', '')}, torch {versions.get('torch')}. Intervals are of 95%, "
        f"by {intervals}."
        + (f" **Runs of one arm that were not made alike: {', '.join(mixed)}.**" if mixed else "")
    )


def commands(script: str, page: str, lines: Sequence[str]) -> str:
    """Return the section with the commands of a study.

    Args:
        script: its name, which is that of its results too.
        page: its name among the pages.
        lines: of the shell.
    """
    shown = "\n".join((*lines, f"python runs/results.py pages {page}"))
    return (
        f"## Commands\n\n```\n{shown}\n```\n\nEach run leaves a JSON file in "
        f"`runs/results/{script}`; one that is there is not run again."
    )


def bars(
    path: Path,
    groups: Mapping[str, Mapping[str, Spread | None]],
    *,
    unit: str,
    chance: float | None = None,
) -> None:
    """Draw grouped bars with intervals.

    Args:
        path: of the PNG.
        groups: figures by group (a place on the axis) and arm (a colour).
        unit: what is on the axis.
        chance: what guessing scores, in [0, 1]: a line.
    """
    plt = _pyplot()
    arms = [*dict.fromkeys(arm for group in groups.values() for arm in group)]
    figure, axes = plt.subplots(figsize=(1.6 + 1.15 * len(groups) * max(1, len(arms) / 4), 3.4))
    width = 0.8 / max(1, len(arms))
    for number, arm in enumerate(arms):
        known = [(at, g[arm]) for at, g in enumerate(groups.values()) if g.get(arm) is not None]
        at = [x + (number - (len(arms) - 1) / 2) * width for x, _ in known]
        spreads = [spread for _, spread in known if spread is not None]
        ends = [
            [100 * (s.mean - s.low) for s in spreads],
            [100 * (s.high - s.mean) for s in spreads],
        ]
        axes.bar(
            at, [100 * s.mean for s in spreads], width * 0.92, label=arm, yerr=ends,
            color=COLOURS[number % len(COLOURS)], error_kw={"elinewidth": 0.8},
        )  # fmt: skip
    if chance is not None:
        axes.axhline(100 * chance, color="#444444", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(groups)), [*groups], fontsize=8)
    axes.set_ylabel(unit)
    _finished(figure, axes, path)


def differences(
    path: Path, groups: Mapping[str, Mapping[str, Spread | None]], *, unit: str
) -> None:
    """Draw differences as dots with intervals, a line each, beside zero.

    Args:
        path: of the PNG.
        groups: differences by what is compared (a colour) and where (a line).
        unit: what is on the axis.
    """
    plt = _pyplot()
    lines = [
        (f"{title}, {of}", spread, COLOURS[number % len(COLOURS)])
        for number, (title, group) in enumerate(groups.items())
        for of, spread in group.items()
        if spread is not None
    ]
    figure, axes = plt.subplots(figsize=(7.6, 0.8 + 0.27 * len(lines)))
    for at, (_, spread, colour) in enumerate(lines):
        mean, low, high = (100 * value for value in (spread.mean, spread.low, spread.high))
        ends = [[mean - low], [high - mean]]
        axes.errorbar([mean], [at], xerr=ends, fmt="o", color=colour, markersize=4, capsize=2)
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set_yticks(range(len(lines)), [name for name, _, _ in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    _finished(figure, axes, path, along="x")


def curves(
    path: Path,
    series: Mapping[str, Sequence[tuple[float, Spread]]],
    *,
    x: str,
    y: str,
    dashed: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> None:
    """Draw lines with intervals over a logarithmic axis.

    Args:
        path: of the PNG.
        series: by arm, (x, figure) in order of x.
        x, y: what is on the axes.
        dashed: by arm, a fitted line.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5.4, 3.6))
    for number, (arm, found) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = [value for value, _ in found]
        axes.plot(at, [100 * s.mean for _, s in found], "o-", color=colour, label=arm, markersize=3)
        low, high = ([100 * getattr(s, end) for _, s in found] for end in ("low", "high"))
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        if line := (dashed or {}).get(arm):
            axes.plot([a for a, _ in line], [100 * b for _, b in line], "--", color=colour)
    axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _finished(figure, axes, path)


def _finished(figure, axes, path: Path, *, along: str = "y") -> None:
    if labels := axes.get_legend_handles_labels()[1]:
        wide = max(map(len, labels)) + 6  # with its mark; 15 letters an inch
        columns = max(1, int(15 * figure.get_figwidth() / wide))
        axes.legend(
            fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0),
            ncols=min(len(labels), columns),
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, linewidth=0.4, alpha=0.5)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    _pyplot().close(figure)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
