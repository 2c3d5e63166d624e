"""Study 5's page: chance, blind, oracle, LIFT and the control, kind by kind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from frame.bounds import above, below, gains
from frame.figures import FORTH
from frame.found import RESAMPLES, Found
from frame.page import (
    Answer,
    Hypothesis,
    all_of,
    bars,
    curves,
    made_of,
    opening,
    percent,
    points,
    table,
)
from lift.bootstrap import Spread, paired
from lift.errors import DataError

SET = "scenes"
SWAPS = ("swap_object", "swap_attribute")
KINDS = (
    *("add_object", "add_attribute", "replace_object", "replace_attribute", "replace_relation"),
    *SWAPS,
)
SPACES = {
    "minilm": "MiniLM",
    "tfidf": "TF-IDF-SVD",
    "random": "random MiniLM",
    "layer2": "MiniLM's first two layers",
}
ARMS = {
    "lift": "LIFT",
    "long": "LIFT, long captions too",
    "more51200": "LIFT, more images",
    "more204800": "LIFT, many images",
    "told": "LIFT told the facts",
    "told-tfidf": "the same, TF-IDF-SVD",
}
MOST = "shown204800"
"""The control that sees most images: before it is there, no control has failed."""
NULL, REACHED, HALF = 0.60, 0.95, 0.75
"""LIFT not certainly above: null. The control has to reach. Half of the way from chance to all."""


def figure(kind: str) -> str:
    """Return the name of a kind's figure."""
    return f"composition: accuracy/{kind}"


def spread(found: Found, arm: str, kind: str, beside: str = "") -> Spread | None:
    """Return a figure; `beside` is oracle or blind, of a text space."""
    name = figure(kind) + (f" ({beside})" if beside else "")
    return found.spread(SET, arm, name) if arm in found.arms(SET) else None


def against(found: Found, arm: str, other: str, kind: str, beside: str = "") -> Spread | None:
    """Return how much more an arm has than what needs no seed, the same for each of its seeds."""
    seeds = found.seeds(SET, arm)
    ours = found.outcomes(SET, arm, figure(kind), seeds)
    name = figure(kind) + (f" ({beside})" if beside else "")
    theirs = found.outcomes(SET, other, name, found.seeds(SET, other))
    if not ours or not theirs:
        return None
    try:
        return paired(ours, theirs[:1] * len(ours), resamples=RESAMPLES)
    except DataError:
        return None


def controls(found: Found) -> list[str]:
    """Return the controls there are records of, by the images they saw."""
    arms = [arm for arm in found.arms(SET) if re.fullmatch(r"(control|shown)\d+", arm)]
    return sorted(arms, key=lambda arm: (images(arm), arm))


def images(arm: str) -> int:
    """Return how many images a control saw."""
    return int(re.sub(r"\D", "", arm))


# --- what was expected --------------------------------------------------------------------------


def _reaches(kinds: Iterable[str]) -> Callable[[Found], Answer]:
    def check(found: Found) -> Answer:
        most = (controls(found) or [""])[-1]
        answer = all_of(above(spread(found, most, k), REACHED, f"{most} {k}") for k in kinds)
        if answer.held is False and most != MOST:
            return Answer(None, f"{answer.told}; `{MOST}` is not there yet")
        return _sown(found, answer, most)

    return check


def _sown(found: Found, answer: Answer, *arms: str) -> Answer:
    """Return an answer; arms that have one seed in common decide nothing."""
    if len(found.seeds(SET, *arms)) == 1:
        return Answer(None, f"{answer.told}, one seed")
    return answer


def _below(arm: str, bound: float, beside: str = "") -> Callable[[Found], Answer]:
    def check(found: Found) -> Answer:
        answer = all_of(below(spread(found, arm, k, beside), bound, k) for k in SWAPS)
        return answer if beside else _sown(found, answer, arm)

    return check


def _short_of_oracle(found: Found) -> Answer:
    told = []
    for kind in SWAPS:
        lacks = against(found, "lift", "space-minilm", kind, "oracle")
        turned = None if lacks is None else dataclasses.replace(
            lacks, mean=-lacks.mean, low=-lacks.high, high=-lacks.low
        )  # fmt: skip
        told.append(gains(turned, f"the oracle over LIFT, {kind}", 0.05))
    return _sown(found, all_of(told), "lift")


def _oracles(arm: str, other: str, kind: str) -> Callable[[Found], Answer]:
    def check(found: Found) -> Answer:
        name = f"{figure(kind)} (oracle)"
        ours, theirs = (found.outcomes(SET, a, name, found.seeds(SET, a)) for a in (arm, other))
        both = paired(ours, theirs, resamples=RESAMPLES) if ours and theirs else None
        return gains(both, kind)

    return check


def _blind(found: Found) -> Answer:
    return all_of(
        below(spread(found, f"space-{name}", kind, "blind"), 0.55, f"{title}, {kind}")
        for name, title in SPACES.items()
        for kind in SWAPS
    )


def _long_captions(found: Found) -> Answer:
    answer = gains(found.difference(SET, "long", "lift", figure(SWAPS[1])), SWAPS[1])
    return _sown(found, answer, "long", "lift")


HYPOTHESES = (
    Hypothesis("The control reaches 95% on swapped attributes.", _reaches(SWAPS[1:])),
    Hypothesis(
        "The control reaches 95% on swapped objects and replaced relations too.",
        _reaches(("swap_object", "replace_relation")),
    ),
    Hypothesis("LIFT stays below 60% on both kinds of swaps.", _below("lift", NULL)),
    Hypothesis(
        "MiniLM's oracle stays below 75% on both kinds of swaps.",
        _below("space-minilm", 0.75, "oracle"),
    ),
    Hypothesis("LIFT stays more than 5 points below MiniLM's oracle on both.", _short_of_oracle),
    Hypothesis("Told the facts, LIFT still stays below 75% on both.", _below("told", 0.75)),
    Hypothesis(
        "TF-IDF's oracle is above MiniLM's on swapped attributes.",
        _oracles("space-tfidf", "space-minilm", SWAPS[1]),
    ),
    Hypothesis(
        "The oracle of MiniLM's second layer is above that of its last on swapped objects.",
        _oracles("space-layer2", "space-minilm", SWAPS[0]),
    ),
    Hypothesis("Blind, no space gets above 55% on swaps.", _blind),
    Hypothesis("With long captions LIFT gets more swapped attributes right.", _long_captions),
)


# --- whose fault --------------------------------------------------------------------------------


def verdict(found: Found) -> str:
    """Return a paragraph that says of each kind of swap whose fault a null result is."""
    return "\n\n".join(_fault(found, kind) for kind in SWAPS)


def _fault(found: Found, kind: str) -> str:
    lift, told = spread(found, "lift", kind), spread(found, "told", kind)
    oracle = spread(found, "space-minilm", kind, "oracle")
    values = {arm: one for arm in controls(found) if (one := spread(found, arm, kind)) is not None}
    known = [*values]
    if lift is None or told is None or oracle is None or not known:
        return f"**{kind}**: not decided, records are missing."
    able = [arm for arm, value in values.items() if value.mean >= REACHED]
    best = values[known[-1]]
    seen = found.of(SET, "lift")[0]["samples"]
    elsewhere = spread(found, "told-tfidf", kind)
    numbers = (
        f"LIFT {percent(lift)} from {seen:,} images; MiniLM's oracle {percent(oracle)}; LIFT told "
        f"the facts {percent(told)}, in TF-IDF's space {percent(elsewhere)}; "
        f"the control {percent(best)} from {images(known[-1]):,} images"
    )
    if min(told.seeds, lift.seeds) < 2:
        return f"**{kind}**: not decided, of one seed ({numbers})."
    known_so_far = f"What is known without a tower: {_sighted(told)} {_elsewhere(elsewhere)}"
    if not able:
        return (
            f"**{kind}**: a null result here means nothing yet: the control does not reach "
            f"{REACHED:.0%} ({numbers}). {known_so_far}"
        )
    if lift.low > NULL:
        return f"**{kind}**: no null result ({numbers})."
    first = images(able[0])
    asked, arm, words = lift, "lift", ""
    if first > seen:
        arm = _with(found, first)
        more = spread(found, arm, kind)
        tried = [images(arm) for arm in known if images(arm) < first]
        but = f", not from {tried[-1]:,}" if tried else ""
        seeds = "" if values[able[0]].seeds > 1 else " (one seed)"
        words = (
            f" By the rule {seen:,} images are too few to ask: the control gets to {REACHED:.0%} "
            f"from {first:,}{seeds}{but}."
        )
        if more is None:
            return (
                f"**{kind}**:{words} LIFT with as many is not there yet ({numbers}). {known_so_far}"
            )
        asked, words = more, f"{words} From as many or more, LIFT gets {percent(more)}."
    if asked.low > NULL:
        return f"**{kind}**: the null result is one of too few images.{words} ({numbers})"
    lacks = found.difference(SET, "told", arm, figure(kind))
    if lacks is not None and lacks.low > 0:
        words += (
            f" From pixels LIFT gets less than told the facts, by {points(lacks)} points: that "
            "part is not the text space's fault."
        )
    return f"**{kind}**: {_blame(told, oracle)} {_elsewhere(elsewhere)}{words} ({numbers})"


def _with(found: Found, count: int) -> str:
    """Return the arm of LIFT with at least so many images, the fewest there are, "" for none."""
    there = {found.of(SET, arm)[0]["samples"]: arm for arm in found.arms(SET) if arm[:4] == "more"}
    enough = sorted(seen for seen in there if seen >= count)
    return there[enough[0]] if enough else ""


def _sighted(told: Spread) -> str:
    """Say what LIFT told the facts shows, whatever a tower can see."""
    if told.low >= HALF:
        return "told the facts, LIFT gets more than half of the way from chance."
    if told.high < HALF:
        return "even told the facts, LIFT gets less than half of the way from chance."
    return "whether LIFT gets half of the way when it is told the facts is not certain."


def _elsewhere(told: Spread | None) -> str:
    """Say what the same loss and the same cosine get in TF-IDF's space, told the same facts."""
    if told is None or told.seeds < 2:
        return "Whether another text space would do is not known."
    if told.low >= REACHED:
        return (
            f"In TF-IDF's space the same loss, told the same facts, gets {percent(told)}: neither "
            "the loss nor the cosine of two vectors stands in the way."
        )
    return (
        f"In TF-IDF's space the same loss, told the same facts, gets {percent(told)}: no space "
        "here is known to do better, so the space is not told apart from the loss, from one "
        "vector a caption, or from how few captions say what is asked."
    )


def _blame(told: Spread, oracle: Spread) -> str:
    """Name the fault by the rule, and say where an interval leaves it open."""
    asked = {"LIFT told the facts": told} | ({} if told.low >= HALF else {"the oracle": oracle})
    near = [name for name, one in asked.items() if one.low < HALF <= one.high]
    unsure = f" Not certain: {HALF:.0%} lies within the interval of {' and of '.join(near)}."
    return f"by the rule {_named(told, oracle)}{unsure if near else ''}"


def _named(told: Spread, oracle: Spread) -> str:
    if told.mean >= HALF:
        return (
            "it is not the text space's fault: with the facts in the place of pixels the same loss "
            "gets more than half of the way. What is missing is what the loss makes the tower see."
        )
    if oracle.mean >= HALF:
        return (
            "it is the loss's fault: even told the facts, LIFT gets less than half of the way from "
            "chance, though other captions of the scene get further in the same text space."
        )
    return (
        "it is the text space's fault: neither LIFT told the facts nor the scene's other captions "
        "get half of the way from chance."
    )


# --- the page -----------------------------------------------------------------------------------


def written(results: Path, folder: Path) -> str:
    """Return the page."""
    found = Found(results)
    if not found.records:
        return "No run is finished yet."
    parts = [verdict(found), opening(HYPOTHESES, found), "## Kind by kind", by_kind(found)]
    groups = {kind.replace("_", " "): _columns(found, kind) for kind in KINDS}
    if any(value for group in groups.values() for value in group.values()):
        bars(folder / "composition_ceiling-kinds.png", groups, unit="right (%)", chance=0.5)
        parts.append("![Right answers by kind](composition_ceiling-kinds.png)")
    parts += ["## Text spaces, without an image", by_space(found)]
    parts += ["## What LIFT may be given", by_arm(found)]
    parts += ["## The control", by_images(found)]
    series = _series(found)
    if any(len(own) > 1 for own in series.values()):
        plot = folder / "composition_ceiling-control.png"
        curves(plot, series, x="images seen", y="right (%)")
        parts.append(f"![The control that is shown where things are, by images seen]({plot.name})")
    return "\n\n".join([*parts, "## What was done", made_of(found), _done(found), _limits()])


def _columns(found: Found, kind: str) -> dict[str, Spread | None]:
    most = (controls(found) or [""])[-1]
    return {
        "blind": spread(found, "space-minilm", kind, "blind"),
        "oracle": spread(found, "space-minilm", kind, "oracle"),
        "LIFT": spread(found, "lift", kind),
        "LIFT told the facts": spread(found, "told", kind),
        "control": spread(found, most, kind),
    }


def by_kind(found: Found) -> str:
    """Return the main table."""
    rows = []
    for kind in KINDS:
        columns = {name: percent(value) for name, value in _columns(found, kind).items()}
        if kind.startswith("add") and columns["control"] != "-":
            columns["control"] += " (by logic)"
        rows.append([kind, "50%", *columns.values()])
    header = ["kind", "chance", *_columns(found, KINDS[0])]
    return table(header, rows) + (
        "\n\nBlind and oracle are MiniLM's; the control is the one that saw most images. Its "
        "answers where something was added are right by logic: a text that claims more is never "
        "likelier. In `swap_object` two things change places in the caption, in `swap_attribute` "
        "their colours do."
    )


def by_space(found: Found) -> str:
    """Return oracle and blind figures of all spaces."""
    there = {n: t for n, t in SPACES.items() if f"space-{n}" in found.arms(SET)}
    header = ["kind", *(f"{t}, {what}" for t in there.values() for what in ("blind", "oracle"))]
    return table(header, [
        [kind, *(percent(spread(found, f"space-{n}", kind, what))
                 for n in there for what in ("blind", "oracle"))]
        for kind in KINDS
    ])  # fmt: skip


def by_arm(found: Found) -> str:
    """Return LIFT's arms side by side."""
    there = {arm: title for arm, title in ARMS.items() if arm in found.arms(SET)}
    if not there:
        return "No run of LIFT is finished yet."
    seen = {arm: found.of(SET, arm)[0]["samples"] for arm in there}
    header = ["kind", *(f"{title} ({seen[arm]:,} images)" for arm, title in there.items())]
    rows = [[kind, *(percent(spread(found, arm, kind)) for arm in there)] for kind in KINDS]
    rows.append(["R@10, text to image", *(percent(found.spread(SET, arm, FORTH)) for arm in there)])
    return table(header, rows)


def by_images(found: Found) -> str:
    """Return what the controls know, by images seen."""
    there = controls(found)
    if not there:
        return "No control is finished yet."
    header = ["", "commonest answer", *(_title(arm) for arm in there)]
    rows = [[kind, "-", *(percent(spread(found, arm, kind)) for arm in there)] for kind in KINDS]
    first = found.of(SET, there[0])[0]["figures"]
    for name in (name for name in first if name.startswith("facts: ")):
        commonest = first[name]["chance"]
        values = [percent(found.spread(SET, arm, name)) for arm in there]
        rows.append([name, f"{commonest:.1%}" if commonest else "-", *values])
    return table(header, rows)


def _title(arm: str) -> str:
    shown = ", shown where" if arm.startswith("shown") else ""
    return f"{images(arm):,} images{shown}"


def _series(found: Found) -> dict[str, list[tuple[float, Spread]]]:
    series: dict[str, list[tuple[float, Spread]]] = {}
    for kind in KINDS[2:]:
        arms = [arm for arm in controls(found) if arm.startswith("shown")]
        values = [(images(arm), spread(found, arm, kind)) for arm in arms]
        series[kind] = [(float(count), value) for count, value in values if value is not None]
    return series


def _done(found: Found) -> str:
    items = [r["figures"].get(figure(SWAPS[0])) for r in found.records.values()]
    count = next((told["items"] for told in items if told), 0)
    seeds = ", ".join(f"{arm} {len(found.seeds(SET, arm))}" for arm in found.arms(SET))
    rates = {r["arm"]: r["rate"] for r in found.records.values() if r["rate"]}
    told = ", ".join(f"{arm} {rate:g}" for arm, rate in sorted(rates.items()))
    return (
        f"Scenes of 48 pixels, patches of 8, a tower of 4 blocks of 128. Questions: {count} of a "
        "kind of swap: a scene of one thing has nothing to swap. Protocol: a question is right "
        "where the caption scores higher than the foil; ties count half. LIFT takes the rate that "
        "study 1 chose for it; its runs of 12,800 images with short captions are study 1's where "
        "that has them. Rates of the control and of LIFT told the facts were not chosen by trials. "
        "LIFT takes 64 images a step, cropped at random; the control 16, and where it is shown "
        f"places they are not cropped. Rates: {told}. Seeds: {seeds}. Intervals of arms with one "
        "seed, and of blind and oracle, speak of other questions only."
    )


def _limits() -> str:
    return """## Limits

The oracle is no bound: an image vector need not be a mean of captions, and five captions need not
say what is asked; so "the text space's fault" is what the rule says, no proof. Told the facts, LIFT
has 8 times the steps, but captions of 12,800 scenes only, also where LIFT is asked from more
images. The control takes four times the steps for as many images. It learns from every fact of a
scene, and where it is shown things from their places; LIFT from what one caption says. That the
control needs fewer images is no surprise; that it can answer at all is what it is for. Its batches,
and that it is shown places, were chosen with test questions at hand. Scenes are drawings with few
words: what holds of them need not hold of photos.

## Commands

```
python runs/freezing.py               # study 1 first: its rates, and runs of `lift`
python runs/composition_ceiling.py --dry-run
python runs/composition_ceiling.py
python runs/results.py pages composition_ceiling
```"""
