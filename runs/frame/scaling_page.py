"""The page of study 9: curves over scenes, what was foretold, and what then was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from freezing import ARMS as TITLES

from frame.curves import FORMS, between, curve, ends, number, sized, split, spread
from frame.figures import REWORDED
from frame.forecast import (
    ARMS,
    FIGURE,
    FIT_MOST,
    FORETOLD,
    FORM,
    NEEDED,
    SIZES,
    changed,
    fitted,
    stored,
)
from frame.found import Found
from frame.page import (
    Answer,
    Hypothesis,
    all_of,
    commands,
    curves,
    made_of,
    opening,
    percent,
    points,
    table,
)
from frame.study import Record

HELP = (
    "python runs/scaling.py",
    "python runs/scaling.py --predict        # once; commit it",
    "python runs/scaling.py --most 102400",
    "python runs/scaling.py --most 307200",
)
INTERVALS = """Intervals speak of test items and of seeds, whose spread is taken from all sizes of
an arm together (as arcsin(sqrt(R@10))), so that a size with one or two runs has one too. Arms are
paired by items."""
LIMITS = """## Limits

One tiny image tower (128 wide, 4 deep), drawn scenes of one kind, one short caption each: a curve
of this tower and of these scenes, not a law. The tower does not grow with the data. Rates were
chosen with half of 12,800 samples and kept for all sizes; a larger run may want another. The
interval of a prediction holds where its form goes on as it began: the other forms show how much
hangs on that. All sizes are judged on the same test scenes, some of whose captions are short enough
to be among those trained on. Three million scenes were not run: that takes a GPU."""


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results`; its plots go into `folder`."""
    found = Found(results)
    told = stored(results)
    for figure, name in ((FIGURE, "scaling"), (REWORDED, "scaling-new-wordings")):
        _plot(found, figure, folder / f"{name}.png")
    parts = [
        opening(HYPOTHESES, found),
        "![R@10 over scenes; dashed: fitted to sizes up to the last that is fitted](scaling.png)",
        "## What was foretold\n\n" + _foretold(found, told, results),
        "## What was found\n\n" + _tables(found),
        "![The same by new wordings](scaling-new-wordings.png)",
        "## The fits\n\n" + _fits(found),
        "## What was done\n\n"
        + made_of(
            found,
            intervals="a bootstrap over items and the spread between seeds of all sizes of an arm",
        ),
        _how(found),
        LIMITS,
        commands("scaling", "scaling", HELP),
    ]
    return "\n\n".join(parts) + "\n"


# --- hypotheses ---------------------------------------------------------------------------------


def _sizes(found: Found, *arms: str, most: float = np.inf) -> list[int]:
    """Return the sizes that all these arms have."""
    own = [{s for a, s in map(split, found.arms("scenes")) if a == arm} for arm in arms]
    return [size for size in sorted(set.intersection(*own)) if size <= most]


def _lead(found: Found, other: str, size: int, figure: str) -> np.ndarray | None:
    """Return how much more `frozen` finds than another arm, None where one lacks the size."""
    both = [curve(found, "scenes", arm, figure) for arm in ("frozen", other)]
    own = [one.at(size) for one in both if one is not None and size in one.sizes]
    return own[0] - own[1] if len(own) == 2 else None


def _leads(found: Found, other: str, most: float) -> Answer:
    """Whether `frozen` finds more than another arm at every size there is."""
    answers = []
    for size in _sizes(found, "frozen", other, most=most):
        lead = _lead(found, other, size, FIGURE)
        assert lead is not None
        _, low, high = ends(lead)
        held = True if low > 0 else False if high <= 0 else None
        answers.append(Answer(held, f"{size:,}: {points(spread(lead))}"))
    return all_of(answers) if answers else Answer(None, "no records yet")


def _has_noise(found: Found, other: str) -> bool:
    """Return whether `frozen` and another arm tell how far their seeds differ."""
    both = [curve(found, "scenes", arm, FIGURE) for arm in ("frozen", other)]
    return all(one is not None and one.freedom > 0 for one in both)


def _leads_to(found: Found, other: str, most: int) -> Answer:
    """Whether it leads at every size to the largest; before that one is there it may, so far."""
    answer = _leads(found, other, most)
    if not _has_noise(found, other):
        return Answer(None, f"one seed of each size; {answer.told}")
    wanted = {*SIZES, *(size for size in FORETOLD if size <= most)}
    if answer.held and not wanted <= {*_sizes(found, "frozen", other)}:
        return Answer(None, f"so far; {answer.told}")
    return answer


def _melts(found: Found) -> Answer:
    """Whether the slope of `scratch` is the steeper one."""
    both = [fitted(found, arm) for arm in ("scratch", "frozen")]
    if both[0] is None or both[1] is None or not _has_noise(found, "scratch"):
        return Answer(None, "no fits yet")
    steeper = both[0][1].slope - both[1][1].slope
    _, low, high = ends(steeper)
    held = True if low > 0 else False if high < 0 else None
    return Answer(held, f"scratch less frozen: {_told(steeper)} logits for e times the scenes")


def _by_new_words(found: Found) -> Answer:
    """Whether the lead by new wordings is larger at 25,600 than at 3,200."""
    small, large = (_lead(found, "scratch", size, REWORDED) for size in (SIZES[1], SIZES[-1]))
    if small is None or large is None or not _has_noise(found, "scratch"):
        return Answer(None, "no records yet")
    _, low, high = ends(large - small)
    held = True if low > 0 else False if high <= 0 else None
    told = (
        f"{SIZES[1]:,}: {points(spread(small))}; {SIZES[-1]:,}: {points(spread(large))}; "
        f"the change: {points(spread(large - small))}"
    )
    return Answer(held, told)


def _as_foretold(found: Found) -> Answer:
    """Whether outcomes lie in the predicted intervals."""
    told = stored(found.folder)
    if told is None:
        return Answer(None, "nothing is foretold yet")
    answers = []
    for arm in NEEDED:
        for size in FORETOLD[1:3]:
            values = found.values("scenes", sized(arm, size), FIGURE)
            if not values:
                answers.append(Answer(None, f"{arm} {size:,}: not run yet"))
                continue
            one = told["arms"][arm]["foretold"][str(size)]  # for one more run: each by itself
            inside = all(one["low"] <= value <= one["high"] for value in values)
            each = ", ".join(f"{100 * value:.1f}%" for value in values)
            answers.append(Answer(inside, f"{arm} {size:,}: {each}, foretold {_interval(one)}"))
    return all_of(answers)


HYPOTHESES = (
    Hypothesis(
        "`frozen` finds more than `scratch` at every size, to 307,200.",
        lambda found: _leads_to(found, "scratch", FORETOLD[2]),
    ),
    Hypothesis(
        "`frozen` finds more than `tuned` at every size, to 25,600.",
        lambda found: _leads_to(found, "tuned", FIT_MOST),
    ),
    Hypothesis(
        "The head start melts: the fitted slope of `scratch` is steeper than that of `frozen`.",
        _melts,
    ),
    Hypothesis(
        "By new wordings the head start does not melt: `frozen` leads `scratch` by more points at "
        "25,600 than at 3,200.",
        _by_new_words,
    ),
    Hypothesis(
        "What is found at 102,400 and at 307,200 lies in the predicted intervals.", _as_foretold
    ),
)


# --- tables -------------------------------------------------------------------------------------


def _told(drawn: np.ndarray) -> str:
    return between(drawn, lambda value: f"{value:.2f}")


def _interval(one: Record) -> str:
    """Return "40.1% [35.0, 45.2]" of a prediction's value and ends."""
    return f"{100 * one['value']:.1f}% [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def _foretold(found: Found, told: Record | None, results: Path) -> str:
    """Return prediction and outcome side by side."""
    if told is None:
        return "No prediction was written yet, so no larger size was run."
    moved = changed(told, results)
    state = (
        f"{len(moved)} of the {len(told['records'])} records that it was made from are not here "
        f"as they were ({', '.join(moved[:3])})."
        if moved
        else f"The {len(told['records'])} records that it was made from are here unchanged."
    )
    ceiling = next(iter(told["arms"].values()))["parameters"]["ceiling"]
    words = (
        f"Written {told['written']}, before any larger run: {told['fitted']['form']}, fitted to "
        f"{', '.join(f'{size:,}' for size in told['fitted']['sizes'])} scenes; the ceiling, "
        f"{100 * ceiling:.1f}%, is what a finder has who knows every fact of the scenes. Interval: "
        f"{told['interval']}. {state}"
    )
    rows = []
    for arm, own in told["arms"].items():
        for size, one in own["foretold"].items():
            rows.append(_outcome(found, arm, int(size), one, own["other forms"]))
    titles = [form.title for name, form in FORMS.items() if name != FORM]
    header = ["arm", "scenes", "foretold", "found", "", *(f"also: {title}" for title in titles)]
    return words + "\n\n" + table(header, rows)


def _outcome(found: Found, arm: str, size: int, one: Record, others: dict[str, Any]) -> list[str]:
    """Return a row of the table: what was foretold, found, and foretold by other forms."""
    values = found.values("scenes", sized(arm, size), FIGURE)
    outcome, verdict = "not run", ""
    if values:
        mean = float(np.mean(values))
        outcome = f"{100 * mean:.1f}% ({len(values)} seed{'s' if len(values) > 1 else ''})"
        verdict = "inside" if one["low"] <= mean <= one["high"] else "**OUTSIDE**"
    titles = [form.title for name, form in FORMS.items() if name != FORM]
    also = [_interval(others[t][str(size)]) if t in others else "-" for t in titles]
    return [f"`{arm}`", f"{size:,}", _interval(one), outcome, verdict, *also]


def _tables(found: Found) -> str:
    """Return what each size finds, by trained and by new wordings."""
    sizes = sorted({split(name)[1] for name in found.arms("scenes")})
    if not sizes:
        return "Nothing yet."
    arms = [arm for arm in ARMS if _sizes(found, arm)]
    first = next(iter(found.records.values()))["figures"][FIGURE]
    parts = [
        f"Text-to-image R@10 among {first['items']:,} items ({first['protocol']}; chance "
        f"{100 * first.get('chance', 0):.1f}%); in brackets the 95% interval, behind it the seeds."
    ]
    for title, figure in (("", FIGURE), ("By new wordings:", REWORDED)):
        rows = [[f"{size:,}", *(_cell(found, arm, size, figure) for arm in arms)] for size in sizes]
        header = ["scenes", *(f"`{arm}`: {TITLES[arm].title}" for arm in arms)]
        parts += [title, table(header, rows)] if title else [table(header, rows)]
    others = [other for other in ("scratch", "tuned") if other in arms]
    rows = []
    for size in sizes:
        leads = [_lead(found, o, size, f) for o in others for f in (FIGURE, REWORDED)]
        told = ("-" if lead is None else points(spread(lead)) for lead in leads)
        rows.append([f"{size:,}", *told])
    names = [f"frozen - {o}{words}" for o in others for words in ("", ", new wordings")]
    header = ["scenes", *names]
    return "\n\n".join((*parts, "Differences in points:", table(header, rows), INTERVALS))


def _cell(found: Found, arm: str, size: int, figure: str) -> str:
    own = curve(found, "scenes", arm, figure)
    if own is None or size not in own.sizes:
        return "-"
    one = own.spread(size)
    return f"{percent(one)}, {one.seeds}"


def _fits(found: Found) -> str:
    """Return the numbers of the fits to what is there now."""
    rows = []
    for arm in ARMS:
        both = fitted(found, arm)
        if both is None:
            continue
        own, made = both
        half = np.exp(-made.start / made.slope)  # where the line crosses 0
        rows.append(
            [
                f"`{arm}`",
                _told(made.slope),
                between(half, lambda value: f"{number(value)}"),
                f"{own.noise:.3f}",
                f"{made.misses:.3f}",
            ]
        )
    if not rows:
        return "Too few sizes for a fit."
    header = ["arm", "slope", "scenes for half of the way up", "seeds", "missed by"]
    return (
        "R@10 = chance + (ceiling - chance) / (1 + exp(-(start + slope ln N))), by least squares "
        "weighted as shares of items vary. Slope: logits for e times the scenes. The last two "
        "columns are standard deviations of arcsin(sqrt(R@10)): between seeds, and what the form "
        "misses the sizes by beyond that.\n\n" + table(header, rows)
    )


def _how(found: Found) -> str:
    """Say what each run saw."""
    parts = [
        "Drawn scenes of 48 px with one short caption, each seen once; 1,600 to 307,200 of them, "
        "a run of its own for each size with a whole schedule (warm-up, then cosine to the end). "
        "Arms and their rates are those of [study 1](freezing.md): five rates, two seeds each, "
        "with half of 12,800 samples, on scenes that are in no table. By new wordings: the same "
        "test scenes with captions in words that no training caption has."
    ]
    rates = {split(name)[0]: own[0]["rate"] for name in found.arms("scenes")
             if (own := found.of("scenes", name))}  # fmt: skip
    if rates:
        told = ", ".join(f"`{arm}` {rate:g}" for arm, rate in sorted(rates.items()))
        parts.append(f"Learning rates: {told}.")
    rows = {}
    for (_, name, _), record in sorted(found.records.items()):
        size, told = split(name)[1], record["captions"]
        rows[size] = [
            f"{size:,}",
            f"{told['distinct']:,}",
            f"{told['tested and trained']:,} of {told['tested']:,}",
        ]
    if rows:
        header = ["scenes", "distinct captions", "of the test's captions among them"]
        parts.append(table(header, [rows[size] for size in sorted(rows)]))
    return "\n\n".join(parts)


def _plot(found: Found, figure: str, path: Path) -> None:
    """Draw what each size finds; for the figure that is foretold, the fits too."""
    series, dashed = {}, {}
    for arm in ARMS:
        own, title = curve(found, "scenes", arm, figure), TITLES[arm].title
        if own is not None:
            series[title] = [(float(size), own.spread(size)) for size in own.sizes]
        both = fitted(found, arm) if figure == FIGURE else None
        if both is not None:
            at = np.geomspace(SIZES[0], FORETOLD[-1], 60)
            dashed[title] = [(float(size), float(both[1].at(size)[0])) for size in at]
    curves(path, series, x="scenes, each seen once", y="text-to-image R@10, %", dashed=dashed)
