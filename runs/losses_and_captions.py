"""Study 3: losses and captions: {softmax, cosine, sigmoid} x {short, long, mixed} x {LIFT, CLIP}.

    python runs/losses_and_captions.py --dry-run             # what it would take
    python runs/losses_and_captions.py --seeds 0 1 2         # every run of these seeds
    python runs/results.py pages losses_and_captions         # its page, from the JSON files alone

Drawn scenes, each seen once, with the generator's short caption, its long one, or one of the two
in turn (mixed); see `frame.captioned`. LIFT with MiniLM's stored rows; CLIP with a text tower
from random weights. CLIP has no cosine: two sides that are trained and never pushed apart meet in
one point, so `lift` refuses it, and three of the 18 cells stay empty.

Every arm is judged on the same 1,000 other scenes with their short captions and with their long
ones, and on questions of composition about 600 of them. Rates: four trials for each method, with
half the pictures and mixed captions, judged by both kinds on scenes that are in no table; a rate is
kept for all captions. (Study 1's rates were chosen by short captions alone, by which CLIP finds
little at this size.) Sigmoid starts with the bias -ln(batch).

Written before the first run (softmax where no loss is named):

1. (the paper) LIFT's edge over CLIP grows from short to long captions, by all three judgements.
2. (the paper) With long captions LIFT is ahead of CLIP, by all three.
3. (the paper) With short captions CLIP is ahead of LIFT in finding texts by images.
4. (the paper) With long captions LIFT's cosine comes within 3 points of its softmax, by all three.
5. Cosine loses less against softmax with long captions than with short ones.
6. Sigmoid comes within 3 points of softmax by short captions, for both, with all captions.
7. LIFT finds best by the captions that it saw: short ones by short ones, long ones by long ones.
8. Mixed captions come within 3 points of the better of the two by either, for LIFT.
"""

from __future__ import annotations

import math
from pathlib import Path

from frame import captioned
from frame.captioned import MIXED, RATES, TRIED_IN, rate_of, run_of, trial_of, trials
from frame.captioned_page import (
    BY_LONG,
    BY_SHORT,
    COMPOSED,
    JUDGED,
    SET,
    captions,
    floor,
    items,
    peak,
    power,
    seen,
)
from frame.edges import ahead, change, grows, near
from frame.found import Found
from frame.page import (
    Answer,
    Hypothesis,
    all_of,
    bars,
    commands,
    made_of,
    opening,
    percent,
    points,
    table,
)
from frame.runs import Arm
from frame.study import Job, Place, Record, Study, main, path_of, read

from lift.config import part

HELP = (
    "python runs/losses_and_captions.py --dry-run",
    "python runs/losses_and_captions.py --seeds 0 1 2",
)
SIGMOID = {"objective": part("objectives", "sigmoid", init_bias=-round(math.log(64), 3))}
METHODS = {
    arm.name: arm
    for arm in (
        Arm("lift-softmax", "LIFT, softmax"),
        Arm("lift-cosine", "LIFT, cosine", options={"objective": part("objectives", "cosine")}),
        Arm("lift-sigmoid", "LIFT, sigmoid", options=SIGMOID),
        Arm("clip-softmax", "CLIP, softmax", "", "clip"),
        Arm("clip-sigmoid", "CLIP, sigmoid", "", "siglip", SIGMOID),
    )
}
SHOWN = {"short": ("short",), "long": ("long_varied",), "mixed": MIXED}
"""Columns of captions; see `frame.captioned.CAPTIONINGS`."""
SEEDS = 4
SECONDS = {"lift": 33, "clip": 45}


def ready(job: Job, place: Place) -> bool:
    """Return whether the trials of the run's method were made."""
    method = job.arm.rpartition("-")[0]
    return bool(job.trial) or all(path_of(t, place.results).exists() for t in trials(method))


def jobs() -> list[Job]:
    """Return the trials, then the runs, seed by seed."""
    tried = [job for method in METHODS for job in trials(method)]
    arms = [f"{method}-{shown}" for shown in SHOWN for method in METHODS]
    return tried + [Job(SET, arm, seed) for seed in range(SEEDS) for arm in arms]


def work(job: Job, place: Place) -> Record:
    """Make a trial or a run."""
    folder = place.out / "models" / "losses_and_captions" / job.name
    if job.trial:
        return trial_of(METHODS[job.arm], job, place, folder)
    method, _, shown = job.arm.rpartition("-")
    rate = rate_of(method, place.results)
    return run_of(METHODS[method], SHOWN[shown], place, folder, seed=job.seed, rate=rate)


# --- what was expected --------------------------------------------------------------------------

LOSSES = ("softmax", "sigmoid")


def _pair(shown: str, loss: str = "softmax") -> tuple[str, str]:
    return f"lift-{loss}-{shown}", f"clip-{loss}-{shown}"


def _cosine(shown: str) -> tuple[str, str]:
    return f"lift-cosine-{shown}", f"lift-softmax-{shown}"


def _sigmoid_is_near(found: Found) -> Answer:
    return all_of(
        near(found, SET, f"{side}-sigmoid-{shown}", f"{side}-softmax-{shown}", BY_SHORT)
        for side in ("lift", "clip")
        for shown in SHOWN
    )


def _as_worded(found: Found) -> Answer:
    short, long = "lift-softmax-short", "lift-softmax-long"
    return all_of(
        (ahead(found, SET, short, long, BY_SHORT), ahead(found, SET, long, short, BY_LONG))
    )


def _mixed_is_near(found: Found) -> Answer:
    """Whether mixed is near each of the two others, and so near the better one."""
    return all_of(
        near(found, SET, "lift-softmax-mixed", f"lift-softmax-{shown}", figure)
        for figure in (BY_SHORT, BY_LONG)
        for shown in ("short", "long")
    )


HYPOTHESES = (
    Hypothesis(
        "LIFT's edge over CLIP grows from short to long captions.",
        lambda found: all_of(
            grows(found, SET, _pair("long"), _pair("short"), figure) for figure in JUDGED.values()
        ),
        paper=True,
    ),
    Hypothesis(
        "With long captions LIFT is ahead of CLIP.",
        lambda found: all_of(
            ahead(found, SET, *_pair("long"), figure) for figure in JUDGED.values()
        ),
        paper=True,
    ),
    Hypothesis(
        "With short captions CLIP is ahead of LIFT in finding texts by images.",
        lambda found: ahead(
            found, SET, "clip-softmax-short", "lift-softmax-short", "short: image_to_text/R@10"
        ),
        paper=True,
    ),
    Hypothesis(
        "With long captions LIFT's cosine comes within 3 points of its softmax.",
        lambda found: all_of(
            near(found, SET, *_cosine("long"), figure) for figure in JUDGED.values()
        ),
        paper=True,
    ),
    Hypothesis(
        "Cosine loses less against softmax with long captions than with short ones.",
        lambda found: all_of(
            grows(found, SET, _cosine("long"), _cosine("short"), figure)
            for figure in JUDGED.values()
        ),
    ),
    Hypothesis(
        "Sigmoid comes within 3 points of softmax, found by short captions.", _sigmoid_is_near
    ),
    Hypothesis("LIFT finds best by the kind of captions that it saw.", _as_worded),
    Hypothesis(
        "Mixed captions come within 3 points of the better of the two by either, for LIFT.",
        _mixed_is_near,
    ),
)

# --- the page -----------------------------------------------------------------------------------

EMPTY = """CLIP has no cosine cells. The cosine loss pulls each pair together and pushes nothing
apart. Against fixed texts that is a regression; where the texts move too, both sides can meet in
one point, at which the loss is zero and nothing is told apart. `lift` refuses such a run
("objective=cosine needs fixed texts")."""
HOW = """Drawn scenes of 48 px, each picture seen once, with the generator's short captions, its
long ones, or one of the two in turn (mixed). 1,000 other scenes to find among, once by their short
captions and once by their long ones; questions of composition about 600 of them. Same image tower,
same pictures in the same order, batches of 64. MiniLM reads at most 256 tokens, CLIP's text tower
{context}: nothing is cut. Sigmoid starts with the bias -ln(batch).

Rates were chosen by {trials} trials a method, with half the pictures and mixed captions, judged by
both kinds on scenes that are in no table, and kept for all captions. ([Study 1](freezing.md) chose
its rates by short captions alone, by which CLIP finds little at this size.) Peak rates:"""
LIMITS = """## Limits

One set of drawn scenes, whose captions are written by rules, short and long ones in the same few
words: they are long and alike, but not as a captioning model's are. Rates were chosen with
mixed captions; either kind alone might want others. CLIP's text tower that saw short captions alone
never trained the places of a long text, so it reads long ones worse than it has to. Pictures are
seen once and few; towers have a million weights."""


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results`; its plot goes into `folder`."""
    found = Found(results)
    plots = {
        f"{words}\n{shown} seen": {
            arm.title: found.spread(SET, f"{method}-{shown}", figure)
            for method, arm in METHODS.items()
        }
        for words, figure in list(JUDGED.items())[:2]
        for shown in SHOWN
    }
    bars(folder / "losses_and_captions.png", plots, unit="text-to-image R@10, %")
    parts = [
        opening(HYPOTHESES, found),
        "![R@10 of five methods, three captionings](losses_and_captions.png)",
        "## Every cell",
        items(found),
        *(_cells(found, words, figure) for words, figure in JUDGED.items()),
        EMPTY,
        floor(found, [f"clip-{loss}-{shown}" for loss in LOSSES for shown in SHOWN]),
        _edges(found),
        captions(found, {shown: _pair(shown) for shown in SHOWN}),
        power(
            found,
            {
                "LIFT less CLIP, long captions": _pair("long"),
                "cosine less softmax, long captions": _cosine("long"),
            },
        ),
        "## What was done\n\n" + made_of(found, len([*(results / "trials").glob("*.json")])),
        _how(found),
        LIMITS,
        commands("losses_and_captions", "losses_and_captions", HELP),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(found: Found, words: str, figure: str) -> str:
    """Return a table of all cells by one judgement."""
    rows = []
    for side in ("lift", "clip"):
        for loss in ("softmax", "cosine", "sigmoid"):
            cells = [percent(found.spread(SET, f"{side}-{loss}-{n}", figure)) for n in SHOWN]
            rows.append([f"{side.upper()}, {loss}", *cells])
    metric = "mean of the kinds in which nothing is added" if figure == COMPOSED else "R@10"
    header = ["", *(f"{shown} captions seen" for shown in SHOWN)]
    return f"{words.capitalize()}, {metric}:\n\n{table(header, rows)}"


def _edges(found: Found) -> str:
    """Return the edges of LIFT over CLIP and of cosine over softmax, with how they change."""
    header = ["", *SHOWN, "long less short"]
    parts = ["## Edges", "LIFT less CLIP of the same loss, in percentage points:"]
    rows = []
    for loss in LOSSES:
        for words, figure in JUDGED.items():
            cells = [points(found.difference(SET, *_pair(n, loss), figure)) for n in SHOWN]
            grown = change(found, SET, _pair("long", loss), _pair("short", loss), figure)
            rows.append([f"{loss}, {words}", *cells, points(grown)])
    parts += [table(header, rows), "Other losses less softmax, LIFT and CLIP:"]
    rows = []
    for method in ("lift-cosine", "lift-sigmoid", "clip-sigmoid"):
        other = f"{method.partition('-')[0]}-softmax"
        for words, figure in JUDGED.items():
            pairs = {shown: (f"{method}-{shown}", f"{other}-{shown}") for shown in SHOWN}
            cells = [points(found.difference(SET, *pair, figure)) for pair in pairs.values()]
            grown = change(found, SET, pairs["long"], pairs["short"], figure)
            rows.append([f"{METHODS[method].title}, {words}", *cells, points(grown)])
    return "\n\n".join([*parts, table(header, rows)])


def _how(found: Found) -> str:
    """Say what was trained on what, which rates were chosen, and which lie at an end."""
    tried = sorted({read(path)["rate"] for path in (found.folder / "trials").glob("*.json")})
    rates, ends = [], []
    for method, arm in METHODS.items():
        records = [r for shown in SHOWN for r in found.of(SET, f"{method}-{shown}")]
        rates.append(peak(records))
        if records and tried and records[0]["rate"] in (tried[0], tried[-1]):
            ends.append(arm.title)
    told = HOW.format(context=captioned.CONTEXT, trials=len(RATES))
    chosen = table([arm.title for arm in METHODS.values()], [rates])
    span = f"Tried were {', '.join(f'{rate:.2g}' for rate in tried) or 'none yet'}."
    if ends:
        span += f" At an end of these, so that another might be better: {'; '.join(ends)}."
    return f"{seen(found)} {told}\n\n{chosen}\n\n{span}"


STUDY = Study(
    name=TRIED_IN,
    number=3,
    title="Losses and captions",
    jobs=jobs(),
    guess=lambda job: SECONDS[job.arm[:4]] * (0.45 if job.trial else 1.0),
    work=work,
    ready=ready,
    smallest=Job(SET, "clip-softmax-short", 0),
    primary=BY_SHORT,
    hypotheses=HYPOTHESES,
    page=page,
)

if __name__ == "__main__":
    main(STUDY, __doc__ or "")
