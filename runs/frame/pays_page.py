"""The arms of study 7, what was expected of them, and its page."""

from __future__ import annotations

from pathlib import Path

import codec_study

from frame.composition import COMPOSED, WORDS
from frame.figures import BACK, FIGURES, FORTH, REWORDED
from frame.found import Found
from frame.page import (
    Answer,
    Hypothesis,
    all_of,
    bars,
    commands,
    each,
    made_of,
    more,
    opening,
    percent,
    points,
    table,
    within,
)
from frame.runs import Arm
from frame.study import Record, read
from lift import plugins
from lift.config import part
from lift.data.loader import LoaderConfig
from lift.training.config import MosaicConfig

BASE = "base"
ARMS = {
    arm.name: arm
    for arm in (
        Arm(BASE, "nothing added"),
        Arm("bank", "1,024 stored competitors a step", options={"bank": 1024}),
        Arm(
            "several",
            "two captions of an image at a time",
            options={"loader": LoaderConfig(batch_size=64, captions="all")},
        ),
        Arm(
            "masked",
            "near-equal captions left out",
            options={"objective": part("objectives", "softmax", ignore_above=0.8)},
        ),
        Arm("mosaic", "every fourth step mosaics", options={"mosaic": MosaicConfig(every=4)}),
        Arm("binary", "rows of 1 bit a number"),
    )
}
CODECS = {"binary": "binary"}
"""How the rows of an arm are stored, where not in float32."""
WIDTH = 384
"""Of MiniLM's rows."""
BY_SET = {"scenes": [*ARMS], "products": [arm for arm in ARMS if arm != "several"]}
SEEDS = 4
HELP = (
    "python runs/what_pays.py --dry-run    # what it would take",
    "python runs/what_pays.py              # every run that is missing, those of `base` from",
    "                                      # study 1: python runs/freezing.py",
)
LIMITS = """## Limits

One setting of each thing: a bank of another size, another bound of masking or more mosaics were not
tried. All arms have base's learning rate. At batches of 64 an image has few competitors, so that a
bank has most to give and masking least; large batches may turn both. A second caption has to be
written and embedded too, which its CPU time does not count: the rows are in the table. Where an arm
is cheaper than base it takes more samples than there are scenes, and sees some of them twice."""


# --- what was expected --------------------------------------------------------------------------


def _told(way: str, answer: Answer) -> Answer:
    return Answer(answer.held, f"{way}, {answer.told}")


def _loses_little(found: Found, of: str) -> Answer:
    """Whether rows of 1 bit lose less than 3 points, both ways."""
    return all_of(
        _told(way, more(found, of, "binary", BASE, figure, by=-0.03))
        for way, figure in list(FIGURES.items())[:2]
    )


def _bank(found: Found, of: str) -> Answer:
    return all_of(
        (
            _told("image to text", more(found, of, "bank", BASE, BACK)),
            _told("text to image", within(found, of, "bank", BASE, FORTH, 0.03)),
        )
    )


def _composition_stays(found: Found, of: str) -> Answer:
    return all_of(
        _told(f"`{arm}`", within(found, of, arm, BASE, COMPOSED, 0.03))
        for arm in BY_SET[of]
        if arm != BASE
    )


HYPOTHESES = (
    Hypothesis("Rows of 1 bit lose less than 3 points, both ways.", each(_loses_little, BY_SET)),
    Hypothesis(
        "The bank finds more texts of an image, and stays within 3 points for images of a text.",
        each(_bank, BY_SET),
    ),
    Hypothesis(
        "A second caption an image finds more images by new wordings.",
        each(lambda found, of: more(found, of, "several", BASE, REWORDED), ["scenes"]),
    ),
    Hypothesis(
        "Leaving near-equal captions out finds more images of a text on products.",
        each(lambda found, of: more(found, of, "masked", BASE, FORTH), ["products"]),
    ),
    Hypothesis(
        "Mosaics lose images of a text, also with the samples that they save.",
        each(
            lambda found, of: _told("base over mosaic", more(found, of, BASE, "mosaic", FORTH)),
            BY_SET,
        ),
    ),
    Hypothesis("Nothing moves composition by 3 points or more.", each(_composition_stays, BY_SET)),
)


# --- the page -----------------------------------------------------------------------------------


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results`; its plot goes into `folder`."""
    found = Found(results)
    there = [of for of in BY_SET if found.arms(of)]
    parts = [opening(HYPOTHESES, found)]
    if there:
        plotted = {
            f"{of}, {way}": {
                arm: found.spread(of, arm, FIGURES[way])
                for arm in ARMS
                if any(found.seeds(one, arm) for one in there)
            }
            for of in there
            for way in ("text to image", "image to text")
        }
        bars(folder / "what_pays-recall.png", plotted, unit="R@10 at equal CPU time, %")
        parts += [
            "## Does it pay?",
            _verdicts(found, there),
            "![R@10 of each arm at equal CPU time](what_pays-recall.png)",
        ]
    parts += [
        *(_of_set(found, of, results) for of in there),
        _other_codecs(),
        "## What was done\n\n" + made_of(found),
        _how(found, results),
        LIMITS,
        commands("what_pays", "what_pays", HELP),
    ]
    return "\n\n".join(parts) + "\n"


def _verdicts(found: Found, sets: list[str]) -> str:
    """Return a table that says of each arm whether it pays."""
    rows = []
    for arm, told in ARMS.items():
        for of in sets:
            ways = [found.difference(of, arm, BASE, figure) for figure in (FORTH, BACK)]
            known = [way for way in ways if way is not None]
            if arm == BASE or not known:
                continue
            gains, losses = any(w.low > 0 for w in known), any(w.high < 0 for w in known)
            verdict = ("one way, and costs the other" if losses else "yes") if gains else (
                "no, it costs" if losses else "not shown"
            )  # fmt: skip
            if known[0].seeds < 2:
                verdict = "not decided, one seed"
            rows.append([f"`{arm}`: {told.title}", of, *map(points, ways), verdict])
    return "\n\n".join(
        (
            "R@10 more or less than `base` at equal CPU time, in percentage points. *Yes*: in a "
            "direction the whole interval is above zero, and in none is it below. Of so many "
            "intervals one in twenty leaves out zero by chance.",
            table(["what is added", "set", "text to image", "image to text", "pays"], rows),
        )
    )


def _of_set(found: Found, of: str, results: Path) -> str:
    """Return the tables of a set: its arms with their cost, and what they differ by from base."""
    arms = [arm for arm in BY_SET[of] if found.seeds(of, arm)]
    told = found.of(of, arms[0])[0]["figures"][FORTH]
    figures = {name: f for name, f in FIGURES.items() if f in found.figures(of)}
    rows = []
    for arm in arms:
        record, cost = found.of(of, arm)[0], _cost(results, of, arm)
        rows.append(
            [
                f"`{arm}`",
                "1" if arm == BASE else "-" if cost is None else _ratio(cost),
                f"{record['samples']:,}",
                f"{record['rows']:,} of {record['row_bytes']:,} bytes",
                *(percent(found.spread(of, arm, figure)) for figure in figures.values()),
            ]
        )
    less = [
        [f"`{arm}`", *(points(found.difference(of, arm, BASE, f)) for f in figures.values())]
        for arm in arms
        if arm != BASE and found.seeds(of, arm, BASE)
    ]
    header = ["", "cost a sample", "samples", "rows trained against", *figures]
    return "\n\n".join(
        (
            f"## {of.capitalize()}",
            f"R@10 among {told['items']:,} items ({told['protocol']}; chance "
            f"{100 * told.get('chance', 0):.1f}%), {WORDS}. "
            "Cost: CPU time of a sample over base's, with its standard error.",
            table(header, rows),
            "More (+) or less (-) than `base`, in percentage points, on the seeds both have:",
            table(["", *figures], less),
            _power(found, of),
        )
    )


def _cost(results: Path, of: str, arm: str) -> Record | None:
    path = results / "trials" / f"{of}-{arm}-100-cost.json"
    return read(path) if path.exists() else None


def _ratio(record: Record) -> str:
    return f"{record['cost']['ratio']:.3f} ± {record['cost']['standard_error']:.3f}"


def _power(found: Found, of: str) -> str:
    """Say how many seeds a difference of 3 points to base wants, arm by arm."""
    needed = {a: found.seeds_needed(of, a, BASE, FORTH) for a in BY_SET[of] if a != BASE}
    told = [f"{count} for `{arm}`" for arm, count in needed.items() if count is not None]
    if not told:
        return "Too few seeds for a power estimate."
    return (
        "Power: from the spread between these seeds, paired seeds that find a difference of 3 "
        f"points to `base` in text to image in 80 of 100 cases: {', '.join(told)}."
    )


def _other_codecs() -> str:
    """Return what the study of codecs found."""
    scores = codec_study.read_scores(codec_study.RESULTS)
    wide = {n: plugins.build(c, WIDTH).bytes_per_row for n, c in codec_study.ARMS.items()}
    return "\n\n".join(
        (
            "## Rows of 8 and 4 bits",
            "From an earlier study (`runs/codec_study.py`, [codecs](../codecs.md)), products with "
            f"{codec_study.SAMPLES:,} samples a run, not made again here. Bytes of a row: "
            f"{', '.join(f'{name} {count:,}' for name, count in wide.items())}; `prefix8` keeps 8 "
            f"of {WIDTH} numbers, to show what a loss looks like.",
            codec_study.study_table(scores),
        )
    )


def _how(found: Found, results: Path) -> str:
    """Say how costs were made equal, which rate there was, and which runs are study 1's."""
    twins = []
    for of in BY_SET:
        known = [c for arm in BY_SET[of] if (c := _cost(results, of, arm)) is not None]
        if known:
            twins.append(f"{100 * known[0]['twins']:.1f}% on {of}")
    rates = [f"{records[0]['rate']:g} on {of}" for of in BY_SET if (records := found.of(of, BASE))]
    taken = sum("taken_from" in record for record in found.records.values())
    return (
        "Sets, towers and new wordings are those of [study 1](freezing.md). Every arm has the "
        f"rate that study 1 chose for `frozen` ({'; '.join(rates) or 'no run yet'}): none was "
        "tuned for what it adds. Cost was measured first, base and arm taking blocks of steps in "
        "turns in one process, reading and views included; samples are as many as take base's CPU "
        "time, and the same as base's where the cost is within 2%. The schedule is as long as the "
        f"run. {taken} runs of `base` are study 1's `frozen` (their cost is counted here too). In "
        "all arms equal captions share their images. Captions with an equal one in their batch of "
        f"64: {', '.join(twins) or 'not measured yet'}; too few to ask what sharing them brings."
    )
