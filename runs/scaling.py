"""Study 9: scaling. What more scenes do for LIFT, for a tuned MiniLM and for CLIP, foretold first.

    python runs/scaling.py --dry-run           # what it would take
    python runs/scaling.py                     # the runs that are missing, up to 25,600 scenes
    python runs/scaling.py --predict           # prediction.json from these, once; commit it
    python runs/scaling.py --most 102400       # then the larger ones, refused without it
    python runs/scaling.py --most 307200
    python runs/results.py pages scaling       # its page, from the JSON files alone

Every scene is seen once, so samples are scenes, and each size is a run of its own with its whole
schedule. Arms and rates are those of study 1: `frozen` is LIFT, `tuned` starts its text side from
MiniLM's weights, `scratch` is CLIP.

What is fitted to the sizes up to 25,600 is R@10 as a logistic curve in the logarithm of N, from
chance to a ceiling: two numbers an arm. The ceiling comes from the scenes, not from runs: what a
finder has who knows every fact and draws among the scenes that a caption is true of. Far to the
right such a curve nears its ceiling as a power of N, as saturating power laws do; far to the left
it leaves chance as a power of N, which a power law of the error can't, and these sizes lie on that
side. Two more forms (a logistic curve whose top is fitted, a power law of the error with a rest)
are kept beside it; they are no part of the interval.

Written before the first run:

1. `frozen` finds more than `scratch` at every size, to 307,200.
2. `frozen` finds more than `tuned` at every size, to 25,600.
3. The head start melts: the fitted slope of `scratch` is steeper than that of `frozen`.
4. By new wordings it does not: there `frozen` leads `scratch` by more points at 25,600 than at
   3,200.
5. What is found at 102,400 and at 307,200 lies in the predicted intervals, for `frozen` and for
   `scratch`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from collections import Counter
from collections.abc import Sequence

from frame.curves import split
from frame.forecast import FIGURE, FIT_MOST, SIZES, file_of, predict
from frame.rates import chosen, known
from frame.runs import ran
from frame.scaling_page import HYPOTHESES, page
from frame.scene_claims import claims, counted, facts
from frame.sets import Set, rows, scenes
from frame.study import (
    Job,
    Place,
    Record,
    Study,
    carry_out,
    parser_of,
    taken,
    untried,
)
from freezing import ARMS

from lift.data.source import open_source
from lift.text.encoder import clean

BEYOND = (51_200, 102_400, 307_200)
SEEDS = {
    "frozen": dict.fromkeys(SIZES, 3) | {51_200: 2, 102_400: 2, 307_200: 1},
    "scratch": dict.fromkeys(SIZES, 3) | {51_200: 2, 102_400: 2, 307_200: 1},
    "tuned": dict.fromkeys(SIZES, 2) | {25_600: 1, 51_200: 1},
}
"""Of each size; a sample of the tuned arm takes five times as long."""
MILLISECONDS = {"frozen": 3.2, "tuned": 16.0, "scratch": 4.0}
JUDGING = {"frozen": 4.0, "tuned": 14.0, "scratch": 5.0}
ROWS = (SIZES[0], FIT_MOST, *BEYOND[1:])
"""Scenes whose captions have rows in one cache: the smallest that is enough serves a run."""


def jobs() -> list[Job]:
    """Return the runs, small ones first, seed by seed."""
    return [
        Job("scenes", f"{arm}-{size}", seed)
        for size in (*SIZES, *BEYOND)
        for seed in range(max(own.get(size, 0) for own in SEEDS.values()))
        for arm, own in SEEDS.items()
        if seed < own.get(size, 0)
    ]


def ready(job: Job, place: Place) -> bool:
    """Return whether the arm's rate was chosen."""
    return known(job.set, split(job.arm)[0], place)


def scenes_of(size: int, space: str, place: Place) -> Set:
    """Return so many scenes, judged by retrieval alone; sets with the same rows share a name.

    Args:
        size: how many.
        space: of the rows that are made where they are missing, "" for none.
        place: of the study.
    """
    tier = next(count for count in ROWS if size <= count)
    with taken(place.out / "locks" / "scenes.lock", wait=True):
        whole, own = (
            scenes(place.data, place.out / "data" / "scenes", trained=count)
            for count in (tier, size)
        )
    asked = {name: own.evaluations[name] for name in ("retrieval", "new wordings")}
    named = dataclasses.replace(whole, name=f"scenes{tier}", evaluations=asked)
    if space:  # rows of all of them, before a part is trained on
        rows(named, space, place.out, judged=False)
    return dataclasses.replace(named, train=own.train)


@functools.cache
def captions_in(spec: str) -> frozenset[str]:
    """Return the distinct captions of a source."""
    texts = open_source(spec).texts()
    return frozenset(clean(caption.text) for _, captions in texts for caption in captions)


@functools.cache
def ceiling(spec: str) -> float:
    """Return the R@10 of who knows every fact and draws ten of the scenes a caption is true of.

    Scenes with an equal caption are right too, as retrieval has it.
    """
    source = open_source(spec)
    samples = [source.read(number) for number in range(len(source))]
    told = [clean(sample.captions[0].text) for sample in samples]
    claimed = counted(map(claims, told))
    true = claimed @ counted(facts(s.fields["scene"]) for s in samples).T
    fits = (true == claimed.sum(axis=1, keepdims=True)).sum(axis=1)
    equal = Counter(told)
    missed = [
        math.comb(int(many) - equal[text], 10) / math.comb(int(many), 10) if many > 10 else 0.0
        for text, many in zip(told, fits, strict=True)
    ]
    return 1 - sum(missed) / len(missed)


def work(job: Job, place: Place) -> Record:
    """Make a run. Its record tells how many captions differ, and how many of the test it saw."""
    arm, size = split(job.arm)
    if size > FIT_MOST and not file_of(place.results).exists():
        raise SystemExit(f"{job.name} has to be foretold: python runs/scaling.py --predict")
    of = scenes_of(size, ARMS[arm].space, place)
    folder = place.out / "models" / "scaling" / job.name
    rate = chosen(job.set, arm, place)
    record = ran(ARMS[arm], of, place.out, folder, samples=size, seed=job.seed, rate=rate)
    shutil.rmtree(folder, ignore_errors=True)
    trained, tested = captions_in(of.train), captions_in(of.test)
    record["captions"] = {
        "distinct": len(trained),
        "tested": len(tested),
        "tested and trained": len(tested & trained),
        "ceiling": round(ceiling(of.test), 5),
    }
    if space := ARMS[arm].space:  # the cache has rows for larger runs too
        stored, cost = rows(of, space, place.out, judged=False), record["effort"]
        cost["embedding_flops"] *= len(trained) / len(stored)
        cost["embedding"] = f"{len(trained):,} captions by {ARMS[arm].title}"
    return record


def guess(job: Job) -> float:
    """Return the CPU seconds of a run before any was made."""
    arm, size = split(job.arm)
    return size * MILLISECONDS[arm] / 1000 + JUDGING[arm]


STUDY = Study(
    name="scaling",
    number=9,
    title="Scaling, foretold and then run",
    jobs=jobs(),
    guess=guess,
    work=work,
    ready=ready,
    smallest=Job("scenes", f"frozen-{SIZES[0]}", 0),
    primary=FIGURE,
    hypotheses=HYPOTHESES,
    page=page,
)


def main() -> None:
    """Say the budget, then make the runs that are missing; or write the prediction."""
    parser = parser_of(STUDY, __doc__ or "")
    parser.add_argument("--most", type=int, default=FIT_MOST, help="scenes of the largest runs")
    parser.add_argument("--predict", action="store_true", help="write prediction.json, once")
    args = parser.parse_args()
    if args.predict:
        print(predict(args.results))
        return

    def refused(wanted: Sequence[Job], place: Place) -> str:
        if args.most > FIT_MOST and not file_of(place.results).exists():
            return (
                f"Sizes above {FIT_MOST:,} have to be foretold first: "
                "python runs/scaling.py --predict"
            )
        return untried(STUDY, wanted, place)

    carry_out(
        STUDY, args, lambda job: job.seed in args.seeds and split(job.arm)[1] <= args.most, refused
    )


if __name__ == "__main__":
    main()
