"""Study 2's page: what each text space gave, and whether its card foretold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from frame.composition import COMPOSED, WORDS
from frame.figures import FORTH, REWORDED
from frame.found import Found
from frame.page import (
    COLOURS,
    Answer,
    Hypothesis,
    _pyplot,
    all_of,
    decided,
    made_of,
    more,
    opening,
    percent,
    points,
    table,
)
from frame.rank_correlation import LEAST, PERMUTATIONS, Rank, by_chance, family, spearman
from frame.study import read
from lift.training.paired import t_quantile

CONTROLS = ("random", "decoder", "tfidf", "tfidf32")
EARLIER = ("class_token", *(f"layer{number}" for number in range(6)))
SETS = ("scenes", "products")
OUTCOMES = {
    FORTH: "R@10",
    COMPOSED: "composition",
    REWORDED: "new wordings, R@10",
}
SWAPS = ("composition: accuracy/swap_object", "composition: accuracy/swap_attribute")
ENOUGH, SEEDS = 10, 2
"""Spaces, and seeds of each, for a hypothesis about correlations to be answered."""
ASKED = ("centred_rank", "mean_cosine", "edits, all: distance")
"""Figures with a hypothesis of their own: they stay where others order the spaces alike."""
ALIKE = 1 - 1e-9
"""|rho| of figures that order the spaces alike: they count once."""
SHOWN = 12
"""Correlations of a table."""


def cards(found: Found, of: str) -> dict[str, dict[str, float]]:
    """Return the figures of a set's cards by space."""
    told = {}
    for path in sorted((found.folder / "cards").glob(f"{of}-*.json")):
        record = read(path)
        told[record["arm"]] = {name: one["value"] for name, one in record["figures"].items()}
    return told


def spaces(found: Found, of: str, *, controls: bool = True) -> list[str]:
    """Return the spaces of a set that have a card and every outcome."""
    told = cards(found, of)
    return [
        arm
        for arm in found.arms(of)
        if arm in told
        and (controls or arm not in CONTROLS)
        and all(found.values(of, arm, outcome) for outcome in OUTCOMES)
    ]


def ranked(found: Found, of: str, *, controls: bool = True) -> list[Rank]:
    """Return all correlations of a set, the least likely by chance first."""
    return _ranked(str(found.folder), of, controls, len(found.records), found)


@cache
def _ranked(folder: str, of: str, controls: bool, records: int, found: Found) -> list[Rank]:
    del folder, records
    arms, told = spaces(found, of, controls=controls), cards(found, of)
    if len(arms) < LEAST:
        return []
    shared = [name for name in told[arms[0]] if all(name in told[arm] for arm in arms)]
    figures: dict[str, list[float]] = {}
    for name in sorted(shared, key=lambda name: name not in ASKED):
        values = [told[arm][name] for arm in arms]
        if not any(abs(spearman(values, other)) > ALIKE for other in figures.values()):
            figures[name] = values
    outcomes = {name: [_mean(found.values(of, arm, name)) for arm in arms] for name in OUTCOMES}
    return family(figures, outcomes)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def fewest(found: Found) -> int:
    """Return the seeds of the space that has fewest."""
    return min((len(found.seeds(of, arm)) for of in SETS for arm in spaces(found, of)), default=0)


def enough(held: bool | None, told: str, found: Found) -> Answer:
    """Return an answer about all spaces; one of them with one seed leaves it open."""
    if fewest(found) >= SEEDS:
        return Answer(held, told)
    return Answer(None, f"{told}, fewer than {SEEDS} seeds of some space")


def unseen(found: Found) -> str:
    """Say below which |rho| a correlation would not have been found."""
    least = [by_chance(own[0].spaces, len(own)) for of in SETS if (own := ranked(found, of))]
    return f"none; a |rho| below about {max(least):.2f} would not be found"


def on_both(found: Found, outcome: str, *, controls: bool = True) -> list[str] | None:
    """Return the figures that predict an outcome on both sets in one direction, None: too few."""
    signs: list[dict[str, float]] = []
    for of in SETS:
        own = [r for r in ranked(found, of, controls=controls) if r.outcome == outcome]
        if not own or own[0].spaces < (ENOUGH if controls else LEAST):
            return None
        signs.append({r.figure: r.rho for r in own if r.holm < 0.05})
    first, second = signs
    return [name for name in first if first[name] * second.get(name, 0.0) > 0]


# --- what was expected --------------------------------------------------------------------------


def _some(found: Found) -> Answer:
    both = on_both(found, FORTH)
    if both is None:
        return Answer(None, "too few spaces yet")
    return enough(bool(both) or None, ", ".join(both) or unseen(found), found)


def _none(found: Found) -> Answer:
    both = on_both(found, REWORDED)
    if both is None:
        return Answer(None, "too few spaces yet")
    return enough(False if both else None, ", ".join(both) or unseen(found), found)


def _predicts(
    figure: str, outcome: str, sign: int, sets: tuple[str, ...] = SETS
) -> Callable[[Found], Answer]:
    def one(found: Found, of: str) -> Answer:
        own = [r for r in ranked(found, of) if (r.figure, r.outcome) == (figure, outcome)]
        if not own or own[0].spaces < ENOUGH:
            return Answer(None, f"{of}: too few spaces yet")
        held = sign * own[0].rho > 0 if own[0].holm < 0.05 else None
        return enough(held, f"{of}: {_told(own[0])}", found)

    return lambda found: all_of(one(found, of) for of in sets)


def _told(rank: Rank) -> str:
    return f"rho {rank.rho:+.2f}, p {rank.p:.5f}, corrected {rank.holm:.3f}"


def _over_controls(found: Found) -> Answer:
    answers = []
    for of in SETS:
        for arm in CONTROLS:
            answer = more(found, of, "minilm", arm, REWORDED)
            answers.append(Answer(answer.held, f"{arm}, {answer.told}"))
    return all_of(answers)


def _earlier(found: Found) -> Answer:
    both = {arm: found.difference("scenes", arm, "minilm", FORTH) for arm in EARLIER}
    known = {arm: spread for arm, spread in both.items() if spread is not None}
    if not known:
        return Answer(None, "no records yet")
    best = max(known, key=lambda arm: known[arm].mean)
    told = f"the best of {len(known)}, {best}: {points(known[best])}"
    # The best of several is ahead by chance more often than one: Bonferroni's t.
    free = max(1, known[best].seeds - 1)
    wider = t_quantile(1 - 0.025 / len(known), free) / t_quantile(0.975, free)
    held = True if known[best].mean > wider * (known[best].mean - known[best].low) else None
    held = False if all(s.high <= 0 for s in known.values()) else held
    return decided(held, told, known[best])


def _swaps(found: Found) -> Answer:
    known = [found.spread("scenes", arm, f) for arm in found.arms("scenes") for f in SWAPS]
    there = [spread for spread in known if spread is not None]
    if not there:
        return Answer(None, "no records yet")
    best = max(there, key=lambda spread: spread.mean)
    over = any(spread.low >= 0.6 for spread in there)
    held = False if over else True if all(s.high < 0.6 for s in there) else None
    return decided(held, f"the most: {percent(best)}", best)


def _offset(found: Found) -> Answer:
    return all_of(more(found, of, "offset", "minilm", FORTH, -0.03) for of in SETS)


HYPOTHESES = (
    Hypothesis(
        "At least one figure of the card predicts retrieval on both sets, in one direction.", _some
    ),
    Hypothesis(
        "The rank of the centred rows predicts retrieval on both sets, the larger the better.",
        _predicts("centred_rank", FORTH, 1),
    ),
    Hypothesis(
        "The mean cosine of all captions predicts retrieval on both sets, the smaller the better.",
        _predicts("mean_cosine", FORTH, -1),
    ),
    Hypothesis(
        "How far edits move the rows predicts composition on scenes, the farther the better.",
        _predicts("edits, all: distance", COMPOSED, 1, ("scenes",)),
    ),
    Hypothesis("No figure of the card predicts new wordings on both sets.", _none),
    Hypothesis("MiniLM finds more by new wordings than each control.", _over_controls),
    Hypothesis(
        "By trained wordings an earlier layer or the class token finds more on scenes than MiniLM.",
        _earlier,
    ),
    Hypothesis("No space gets above 60% on swapped objects or attributes.", _swaps),
    Hypothesis("One vector added to all rows costs at most 3 points of R@10.", _offset),
)


# --- the page -----------------------------------------------------------------------------------


def written(results: Path, folder: Path) -> str:
    """Return the page."""
    found = Found(results)
    if not found.records:
        return "No run is finished yet."
    parts = [verdict(found), opening(HYPOTHESES, found)]
    for of in (of for of in SETS if of in found.sets):
        parts += [f"## {of.capitalize()}", gave(found, of), *correlations(found, of)]
    if scatter(found, folder / "text_encoders-card.png"):
        parts.append("![R@10 beside the card's figure](text_encoders-card.png)")
    cost = sum(sum(read(p)["cpu_seconds"].values()) for p in (results / "cards").glob("*.json"))
    return "\n\n".join([*parts, "## What was done", made_of(found), _done(found, cost), _limits()])


def verdict(found: Found) -> str:
    """Return a paragraph: does the card predict anything?"""
    counts, both = [], []
    for controls, which in ((True, "all spaces"), (False, "those without the controls")):
        for of in SETS:
            own = ranked(found, of, controls=controls)
            if own:
                low = sum(r.p < 0.05 for r in own)
                counts.append(
                    f"{of}, {which} ({own[0].spaces}): {low} of {len(own)} correlations with "
                    f"p < 0.05, where {0.05 * len(own):.0f} are expected by chance, "
                    f"{sum(r.holm < 0.05 for r in own)} after Holm's correction"
                )
        for outcome, title in OUTCOMES.items():
            names = on_both(found, outcome, controls=controls)
            if names is not None:
                both.append(f"{title}, {which}: {', '.join(names) or 'none'}")
    if not counts:
        return f"Does the card predict anything? Fewer than {LEAST} spaces are there: not known."
    whole = [on_both(found, outcome) for outcome in OUTCOMES]
    if None in whole:
        answer = "not decided, spaces are missing"
    elif fewest(found) < SEEDS:
        answer = f"not decided, fewer than {SEEDS} seeds of some space"
    else:
        answer = "yes" if any(whole) else "nothing that is seen on both sets"
    return (
        f"**Does the card predict anything? {answer.capitalize()}.** {'; '.join(counts)}. Figures "
        f"that predict on both sets in one direction, corrected. {'; '.join(both) or 'Not known'}."
    )


def gave(found: Found, of: str) -> str:
    """Return what training gave, the space that finds most first."""
    arms = sorted(found.arms(of), key=lambda arm: -_mean(found.values(of, arm, FORTH) or [0.0]))
    figures = [*OUTCOMES, *(f for f in SWAPS if f in found.figures(of))]
    titles = [OUTCOMES.get(f, f.rpartition("/")[2]) for f in figures]
    rows = [
        [arm, str(len(found.seeds(of, arm))), *(percent(found.spread(of, arm, f)) for f in figures)]
        for arm in arms
    ]
    return table(["space", "seeds", *titles], rows) + "\n\n" + _repeats(found, of)


def _repeats(found: Found, of: str) -> str:
    """Return how alike the order of spaces is by two seeds: no card can agree better."""
    arms = [arm for arm in found.arms(of) if len(found.seeds(of, arm)) > 1]
    if len(arms) < LEAST:
        return "How much of the order of spaces is a matter of seeds is not known with one of them."
    told = []
    for outcome, title in OUTCOMES.items():
        values = [found.values(of, arm, outcome) for arm in arms]
        if all(len(own) > 1 for own in values):
            first, second = ([own[seed] for own in values] for seed in (0, 1))
            told.append(f"{title} {spearman(first, second):+.2f}")
    return f"The order of {len(arms)} spaces by one seed and by another: rho {', '.join(told)}."


def correlations(found: Found, of: str) -> list[str]:
    """Return the largest correlations, with and without controls."""
    every = ranked(found, of)
    if not every:
        return [f"Fewer than {LEAST} spaces have a card and runs: no correlations yet."]
    without = {(r.figure, r.outcome): r for r in ranked(found, of, controls=False)}
    rows = [
        [r.figure, OUTCOMES[r.outcome], *_cells(r), *_cells(without.get((r.figure, r.outcome)))]
        for r in every[:SHOWN]
    ]
    left = len(spaces(found, of, controls=False))
    header = ["figure of the card", "outcome", f"rho, {every[0].spaces} spaces", "p", "corrected",
              f"rho, {left} without controls", "p", "corrected"]  # fmt: skip
    return [
        f"The {len(rows)} of {len(every)} correlations that chance explains least. 5% of orders by "
        f"chance have |rho| above {by_chance(every[0].spaces):.2f}; to stand the correction for "
        f"all of them it takes about {by_chance(every[0].spaces, len(every)):.2f}, so weaker ones "
        "would not be found.",
        table(header, rows),
    ]


def _cells(rank: Rank | None) -> tuple[str, str, str]:
    if rank is None:
        return "-", "-", "-"
    return f"{rank.rho:+.2f}", f"{rank.p:.5f}", f"{rank.holm:.3f}"


def scatter(found: Found, path: Path) -> bool:
    """Draw R@10 beside the figure that chance explains least, a panel a set; whether there is."""
    chosen = {of: [r for r in ranked(found, of) if r.outcome == FORTH] for of in SETS}
    chosen = {of: own[0] for of, own in chosen.items() if own}
    if not chosen:
        return False
    plt = _pyplot()
    figure, panels = plt.subplots(1, len(chosen), figsize=(4.6 * len(chosen), 3.8), squeeze=False)
    for axes, (of, rank) in zip(panels[0], chosen.items(), strict=True):
        _panel(axes, found, of, rank.figure, cards(found, of))
        axes.set_title(f"{of}: rho {rank.rho:+.2f}", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return True


def _panel(axes, found: Found, of: str, name: str, told: Mapping[str, Mapping[str, float]]) -> None:
    for arm in spaces(found, of):
        x, y = told[arm][name], 100 * _mean(found.values(of, arm, FORTH))
        axes.plot(x, y, "o", markersize=4, color=COLOURS[1 if arm in CONTROLS else 0])
        axes.annotate(arm, (x, y), fontsize=6, xytext=(3, 2), textcoords="offset points")
    axes.set_xlabel(f"card: {name}", fontsize=8)
    axes.set_ylabel("R@10 (%)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _done(found: Found, cost: float) -> str:
    told = []
    for of in found.sets:
        records = [r for (name, _, _), r in found.records.items() if name == of]
        counts = "; ".join(
            f"{title} {records[0]['figures'][name]['items']}"
            for name, title in OUTCOMES.items()
            if name in records[0]["figures"]
        )
        rates = ", ".join(f"{rate:g}" for rate in sorted({r["rate"] for r in records}))
        captions = {read(p)["captions"] for p in (found.folder / "cards").glob(f"{of}-*.json")}
        shown = f", cards from {max(captions):,} captions" if captions else ""
        told.append(
            f"{of}: {records[0]['samples']:,} images seen, items: {counts}; rates {rates}{shown}."
        )
    return (
        f"LIFT, softmax. {' '.join(told)} All cards took {cost / 60:.0f} CPU-minutes. Rates are "
        "those that study 1's trials chose for its arm with the same space, or the nearest one. "
        f"Chance is told by {PERMUTATIONS:,} permutations of the spaces; the correction counts all "
        "figures and outcomes of a set, those that order the spaces alike as one. "
        f"{WORDS.capitalize()}."
    )


def _limits() -> str:
    return (
        "## Limits\n\nThe spaces are no random sample: most are parts of one model, and neighbours "
        "among its layers are alike, so permutations overstate how surely a figure predicts. A "
        "correlation over them says nothing of models of another kind. Figures of a card are "
        "related among themselves: they are not as many answers as there are figures. Where "
        "nothing is found, so few spaces may hide what is there. Rates were not tried for each "
        "space: those of study 1 were chosen for MiniLM's whole rows, random MiniLM and TF-IDF, so "
        "other spaces may be held back by a rate that is not theirs.\n\n## Commands\n\n```\npython "
        "runs/freezing.py         # study 1 first: its rates\npython runs/text_encoders.py "
        "--dry-run\npython runs/text_encoders.py\npython runs/results.py pages text_encoders\n```"
    )
