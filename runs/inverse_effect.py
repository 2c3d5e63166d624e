"""Study 4: the inverse effect: do long captions that are built alike hurt CLIP, and not LIFT?

    python runs/inverse_effect.py --dry-run               # what it would take
    python runs/inverse_effect.py --seeds 0 1 2           # every run of these seeds
    python runs/results.py pages inverse_effect           # its page, from the JSON files alone

The same scenes and pictures are captioned in five ways (`frame.captioned`): short; long, every
one in one template; long and varied in build, with as many facts; the first sentence of the long
one that varies; any one of its sentences. LIFT with MiniLM's stored rows and CLIP with a text tower
from random weights, softmax both, are trained on each and judged alike: on 1,000 other scenes with
the generator's short captions and with its long ones, and on questions of composition about 600.

Beside, in MiniLM's space and in that of each trained text tower: whether two sentences of one
content that are built otherwise lie nearer than two of other content that are built alike
(`lift.diagnosis.inverse`), in its own words and in those of scenes (`runs/frame/built_alike.py`).

Runs on the short and on the varied long captions are runs of study 3 to the last setting: where
those are there, they are taken from it. Rates are those of its trials.

Written before the first run:

1. (the paper) CLIP loses by one template: varied captions are better by all three judgements.
2. (the paper) It loses more by it than LIFT does, by all three.
3. (the paper) LIFT's edge over CLIP is larger with long captions in one template than with short.
4. (the paper) In MiniLM's space content is nearer than build in nine of ten cases, in both words;
   in the tower that saw one template it is less often than in that which saw varied captions.
5. CLIP finds more by short captions when it saw any one sentence than when it saw the whole varied
   caption; LIFT does not.
6. Any one sentence is worse than the first for finding, for both: the last is mere background.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from frame import captioned
from frame.built_alike import GENERAL, OWN
from frame.captioned import CAPTIONINGS, TRIED_IN, rate_of, run_of
from frame.captioned_page import (
    BY_SHORT,
    JUDGED,
    SET,
    captions,
    floor,
    items,
    peak,
    power,
    seen,
)
from frame.edges import ahead, change, grows
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

HELP = (
    "python runs/losses_and_captions.py --seeds 0 1 2",
    "python runs/inverse_effect.py --dry-run",
    "python runs/inverse_effect.py --seeds 0 1 2",
)
METHODS = {"lift": Arm("lift", "LIFT"), "clip": Arm("clip", "CLIP", "", "clip")}
TWINS = {"short": "short", "long_varied": "long"}
"""Captionings that study 3 has too, by its words."""
SEEDS = 4
SECONDS = {"lift": 33, "clip": 46}
"""Of a run that study 3 does not make."""


def twin(job: Job, results: Path) -> Path:
    """Return where study 3 keeps the same run, if it makes it."""
    method, _, captioning = job.arm.partition("-")
    arm = f"{method}-softmax-{TWINS.get(captioning, 'none')}"
    other = dataclasses.replace(job, arm=arm)
    return path_of(other, results.parent / TRIED_IN)


def jobs() -> list[Job]:
    """Return the runs, seed by seed."""
    arms = [f"{method}-{captioning}" for captioning in CAPTIONINGS for method in METHODS]
    return [Job(SET, arm, seed) for seed in range(SEEDS) for arm in arms]


def work(job: Job, place: Place) -> Record:
    """Make a run, or take it from study 3."""
    method, _, captioning = job.arm.partition("-")
    same = twin(job, place.results)
    if same.exists():
        found = read(same)
        own = {field.name for field in dataclasses.fields(Job)} | {"study", "date"}
        return {**{k: v for k, v in found.items() if k not in own}, "made_in": found["study"]}
    folder = place.out / "models" / "inverse_effect" / job.name
    rate = rate_of(f"{method}-softmax", place.results)
    return run_of(METHODS[method], (captioning,), place, folder, seed=job.seed, rate=rate)


# --- what was expected --------------------------------------------------------------------------

ONE, VARIED = "long_one", "long_varied"


def _pair(captioning: str) -> tuple[str, str]:
    return f"lift-{captioning}", f"clip-{captioning}"


def _any_lift(found: Found) -> str:
    """Return an arm of LIFT that has records: all have MiniLM's space."""
    arms = [f"lift-{captioning}" for captioning in CAPTIONINGS]
    return next((arm for arm in arms if found.seeds(SET, arm)), arms[0])


def _own_space(found: Found) -> Answer:
    """Whether MiniLM keeps to content, and a tower of one template less than one of varied."""
    told = []
    for figure in (GENERAL, OWN):
        spread = found.spread(SET, _any_lift(found), figure)
        if spread is None:
            told.append(Answer(None, "no records yet"))
        else:
            held = True if spread.low >= 0.9 else False if spread.high < 0.9 else None
            told.append(Answer(held, f"MiniLM {percent(spread)}"))
    towers = ahead(found, SET, f"clip-{VARIED}", f"clip-{ONE}", OWN)
    return all_of((*told, dataclasses.replace(towers, told=f"towers: {towers.told}")))


def _sentence_helps(found: Found) -> Answer:
    """Whether any one sentence serves CLIP better than the whole, and LIFT not."""
    clip = ahead(found, SET, "clip-random", f"clip-{VARIED}", BY_SHORT)
    lift = ahead(found, SET, "lift-random", f"lift-{VARIED}", BY_SHORT)
    not_lift = None if lift.held is None else not lift.held
    return all_of((clip, Answer(not_lift, lift.told)))


HYPOTHESES = (
    Hypothesis(
        "CLIP loses by one template: it has more with long captions that vary in build.",
        lambda found: all_of(
            ahead(found, SET, f"clip-{VARIED}", f"clip-{ONE}", figure) for figure in JUDGED.values()
        ),
        paper=True,
    ),
    Hypothesis(
        "CLIP loses more by one template than LIFT does.",
        lambda found: all_of(
            grows(found, SET, _pair(ONE), _pair(VARIED), figure) for figure in JUDGED.values()
        ),
        paper=True,
    ),
    Hypothesis(
        "LIFT's edge over CLIP is larger with long captions in one template than with short ones.",
        lambda found: all_of(
            grows(found, SET, _pair(ONE), _pair("short"), figure) for figure in JUDGED.values()
        ),
        paper=True,
    ),
    Hypothesis(
        "In MiniLM's space content is nearer than build in nine of ten cases, in both words; in "
        "the text tower that saw one template it is less often than in that of varied captions.",
        _own_space,
    ),
    Hypothesis(
        "CLIP finds more by short captions when it saw any one sentence than when it saw the whole "
        "varied caption; LIFT does not.",
        _sentence_helps,
    ),
    Hypothesis(
        "Any one sentence is worse than the first for finding by short captions, for both.",
        lambda found: all_of(
            ahead(found, SET, f"{method}-first", f"{method}-random", BY_SHORT) for method in METHODS
        ),
    ),
)

# --- the page -----------------------------------------------------------------------------------

HOW = """Drawn scenes of 48 px, each picture seen once. 1,000 other scenes to find among, once by
the generator's short captions and once by its long ones; questions of composition about 600 of
them, of a true caption and one made false. All arms are judged on the same. The template, worded
before the runs, is "{template}". It tells what the varied caption tells: each thing with all its
attributes, of as many pairs how they stand, the background. Rates are those
of the trials of [study 3](losses_and_captions.md), made with mixed captions, and kept for all. Runs
on short and on varied long captions
are those of study 3: {taken} of the runs here were taken from it, and
their CPU-minutes are counted in both."""
SPACES = """In a space that puts together what is built alike, two sentences of one content in
different builds lie further apart than two of other content in one build. Shares of cases in which
content is nearer; chance 50%. 12 contents in 6 builds; general words are those of
`lift diagnose`, which a text tower of scenes alone never saw: take its figure there for what it
is."""
LIMITS = """## Limits

The varied captions vary by rules: three openings, two ways to name the background, at either end,
three wordings of each place, any order of things. A captioning model's varied captions vary more.
One template also has fewer words: of three wordings of each place in the tests two never occur in
it, which a pre-trained text encoder knows and CLIP's tower cannot. That is part of the effect
that is asked about, but it is not syntax. Rates were chosen with mixed captions. One small set,
each picture seen once; towers have a million weights."""


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results`; its plot goes into `folder`."""
    found = Found(results)
    plotted = {
        f"{captioning}\n{words.removeprefix('found ')}": {
            arm.title: found.spread(SET, f"{method}-{captioning}", figure)
            for method, arm in METHODS.items()
        }
        for words, figure in list(JUDGED.items())[:2]
        for captioning in CAPTIONINGS
    }
    bars(folder / "inverse_effect.png", plotted, unit="text-to-image R@10, %")
    parts = [
        opening(HYPOTHESES, found),
        "![R@10 of LIFT and CLIP with five captionings](inverse_effect.png)",
        captions(found, {f"`{n}`: {words}": _pair(n) for n, words in CAPTIONINGS.items()}),
        _cells(found),
        _edges(found),
        _spaces(found),
        power(
            found,
            {
                f"{arm.title}: varied less one template": (f"{m}-{VARIED}", f"{m}-{ONE}")
                for m, arm in METHODS.items()
            },
        ),
        "## What was done\n\n" + made_of(found),
        _how(found),
        LIMITS,
        commands("inverse_effect", "inverse_effect", HELP),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(found: Found) -> str:
    """Return a table of all arms by all judgements."""
    rows = [
        [
            f"{arm.title}, `{captioning}`",
            *(
                percent(found.spread(SET, f"{method}-{captioning}", figure))
                for figure in JUDGED.values()
            ),
        ]
        for method, arm in METHODS.items()
        for captioning in CAPTIONINGS
    ]
    return "\n\n".join(
        (
            "## Every arm",
            items(found),
            table(["", *JUDGED], rows),
            floor(found, [f"clip-{captioning}" for captioning in CAPTIONINGS]),
        )
    )


def _edges(found: Found) -> str:
    """Return what one template costs, and the edges of LIFT over CLIP."""
    header = ["", *JUDGED]
    rows = []
    for method, arm in METHODS.items():
        for less, more in ((VARIED, ONE), (VARIED, "random"), ("first", "random")):
            pair = (f"{method}-{more}", f"{method}-{less}")
            cells = [points(found.difference(SET, *pair, figure)) for figure in JUDGED.values()]
            rows.append([f"{arm.title}: `{more}` less `{less}`", *cells])
    parts = ["## Differences", "In percentage points:", table(header, rows)]
    rows = []
    for captioning in CAPTIONINGS:
        pair = _pair(captioning)
        cells = [points(found.difference(SET, *pair, figure)) for figure in JUDGED.values()]
        rows.append([f"`{captioning}`", *cells])
    for now, before in ((ONE, VARIED), (ONE, "short"), (VARIED, "short")):
        spreads = [change(found, SET, _pair(now), _pair(before), f) for f in JUDGED.values()]
        rows.append([f"`{now}` less `{before}`", *map(points, spreads)])
    return "\n\n".join([*parts, "LIFT less CLIP, and how that changes:", table(header, rows)])


def _spaces(found: Found) -> str:
    """Return the measurement in each text space."""
    spaces = {"MiniLM": _any_lift(found)}
    spaces |= {f"CLIP's tower, `{captioning}`": f"clip-{captioning}" for captioning in CAPTIONINGS}
    rows = []
    for words, arm in spaces.items():
        records = found.of(SET, arm)
        if not records:
            continue
        row = [words]
        for figure in (GENERAL, OWN):
            each = [record["figures"][figure] for record in records]
            same, alike = (
                sum(one[name] for one in each) / len(each)
                for name in ("same_content", "same_build")
            )
            told = percent(found.spread(SET, arm, figure))
            row += [told, f"{same:.2f} and {alike:.2f}"]
        rows.append(row)
    if not rows:
        return "## Content or build\n\nNo run is finished yet."
    pair = "cosines of one content and of one build"
    header = ["text space", "general words", pair, "words of scenes", pair]
    return f"## Content or build\n\n{SPACES}\n\n{table(header, rows)}"


def _how(found: Found) -> str:
    """Say what was trained on what, and at which rates."""
    records = [*found.records.values()]
    taken = sum("made_in" in record for record in records)
    peaks = ", ".join(
        f"{arm.title} {peak(found.of(SET, found_arm))}"
        for method, arm in METHODS.items()
        if (found_arm := next((a for a in found.arms(SET) if a.startswith(method)), ""))
    )
    told = HOW.format(template=captioned.TEMPLATE.replace("}T", "} T"), taken=taken)
    return f"{seen(found)} {told} Peak rates: {peaks or 'no run yet'}."


STUDY = Study(
    name="inverse_effect",
    number=4,
    title="The inverse effect",
    jobs=jobs(),
    guess=lambda job: 0.0 if job.arm.partition("-")[2] in TWINS else SECONDS[job.arm[:4]],
    work=work,
    smallest=Job(SET, "clip-first", 0),  # no twin: it has to be run
    primary=BY_SHORT,
    hypotheses=HYPOTHESES,
    page=page,
)

if __name__ == "__main__":
    main(STUDY, __doc__ or "")
