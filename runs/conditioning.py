"""Study 6: does a conditioned text space train a better image side, once it is folded back?

    python runs/conditioning.py --dry-run              # what it would take
    python runs/conditioning.py                        # every run that is missing
    python runs/conditioning.py --sets scenes --seeds 0
    python runs/conditioning.py text                   # on text alone, no training, 90 CPU-s
    python runs/results.py pages conditioning          # its page, from the JSON files alone

Images are trained against a linear transform of the text rows, fitted on the captions that are
trained on; afterwards the transform is folded into the image head, and the model is judged in the
raw space by cosine, as a database that never heard of the transform does, in both directions.

`none` trains against the rows themselves; its runs and its rate are those of study 1's `frozen`.
`centre` takes the mean direction out of the rows, `pca128` also keeps only the 128 axes of largest
variance, `whiten128` also scales these to one variance. Each has trials of five rates, as
`frozen` had, with half the samples, on pairs that are not reported.

Written before the first run, after an earlier study of two seeds at other budgets, in which
whitening lost on photographs and on scenes:

1. Conditioning was built in the hope that one of the transforms finds more images of a text than
   untouched rows do, by a point or more.
2. Whitening to 128 finds fewer texts of an image than untouched rows: the lengths of whitened
   texts can't be folded back.
3. Centring and PCA, which stretch no axis, stay within 3 points of untouched rows both ways.
4. In the conditioned space, where no database is, whitened models find texts of images within
   3 points of untouched ones or better: what is lost is lost by the fold.
5. On text alone no pair of images changes its order for a text where the mean was projected out
   and no axis is stretched.
"""

from __future__ import annotations

import sys
from pathlib import Path

import freezing
from frame import rates
from frame.composition import WORDS
from frame.figures import BACK, FIGURES, FORTH
from frame.folded import Unfolded, measure_text, text_path, text_section
from frame.found import RESAMPLES, Found
from frame.frozen import FROZEN, frozen_run
from frame.page import (
    Answer,
    Hypothesis,
    all_of,
    bars,
    commands,
    decided,
    each,
    made_of,
    more,
    opening,
    percent,
    points,
    table,
    within,
)
from frame.rates import chosen, known, trials
from frame.runs import Arm, config_of, encoder_of, judged, ran, record_of, trained
from frame.sets import get
from frame.study import Job, Place, Record, Study, main, read
from safetensors.torch import load_file

from lift.bootstrap import paired
from lift.text.conditioning import Condition, ConditionConfig
from lift.training.folder import CONDITION

SETS = ("scenes", "products")
BASE = "none"
_KINDS = {
    "whiten128": ("whitened to 128 axes", ConditionConfig(kind="whiten", dimensions=128)),
    "centre": ("mean direction out", ConditionConfig(kind="centre")),
    "pca128": ("128 axes of largest variance", ConditionConfig(kind="pca", dimensions=128)),
}
ARMS = {
    BASE: Arm(BASE, "untouched rows"),
    **{
        name: Arm(name, title, options={"condition": condition})
        for name, (title, condition) in _KINDS.items()
    },
}
SEEDS = 4
SAMPLES = freezing.SAMPLES
CONDITIONED = "conditioned"
"""What a model finds in the space it was trained in, which no database has."""
SECONDS = {BASE: 2, "centre": 52, "whiten128": 52, "pca128": 52}


def jobs() -> list[Job]:
    """Return the trials, then the runs, seed by seed."""
    tried = [j for of in SETS for arm in ARMS if arm != BASE for j in trials(of, arm)]
    return tried + [Job(of, arm, seed) for seed in range(SEEDS) for of in SETS for arm in ARMS]


def ready(job: Job, place: Place) -> bool:
    """Return whether the arm's trials were made, those of `none` by study 1."""
    return known(job.set, FROZEN, place) if job.arm == BASE else rates.ready(job, place)


def rate_of(of: str, arm: str, place: Place) -> float:
    """Return an arm's rate, times the recipe's."""
    return chosen(of, FROZEN, place) if arm == BASE else rates.rate_of(of, arm, place.results)


def work(job: Job, place: Place) -> Record:
    """Make a trial or a run; a run of `none` is taken from study 1 where that has made it."""
    of, arm = get(job.set, place.data, place.out), ARMS[job.arm]
    folder = place.out / "models" / "conditioning" / job.name
    samples = SAMPLES[job.set]
    if job.trial:
        rate = float(job.trial.removeprefix("rate"))
        asked = {"choosing": f"retrieval:data=[{of.choose}]"}
        return ran(
            arm, of, place.out, folder, samples=samples // 2, seed=job.seed, rate=rate,
            evaluations=asked,
        )  # fmt: skip
    rate = rate_of(job.set, job.arm, place)
    if job.arm == BASE:
        made = frozen_run(job.set, job.seed, place, samples)
        return made or ran(arm, of, place.out, folder, samples=samples, seed=job.seed, rate=rate)
    config = config_of(arm, of, place.out, samples=samples, seed=job.seed, rate=rate)
    model, training = trained(config, folder)
    raw = encoder_of(model, arm, of, place.out)
    figures, judging = judged(raw, of.evaluations)
    before = Unfolded(raw, Condition.from_tensors(load_file(folder / CONDITION)))
    more_figures, again = judged(before, {CONDITIONED: of.evaluations["retrieval"]})
    seconds = {"training": training, "judging": judging, "judging before the fold": again}
    return record_of(config, figures | more_figures, seconds)


# --- the page -----------------------------------------------------------------------------------

UNFOLDED = {
    "text to image": f"{CONDITIONED}: text_to_image/R@10",
    "image to text": f"{CONDITIONED}: image_to_text/R@10",
}
STRETCHED_NOWHERE = ("centre-project", "pca-project", "pca128-project")
HELP = (
    "python runs/conditioning.py --dry-run    # what it would take",
    "python runs/conditioning.py              # every run that is missing, those of `none` from",
    "                                         # study 1: python runs/freezing.py",
    "python runs/conditioning.py text         # on text alone",
)
LIMITS = """## Limits

One text space, MiniLM's, of 384 numbers; transforms fitted on some ten thousand captions; towers of
a million weights. Shrinkage stayed at 0.1 and the mean was projected out; other settings were not
trained. Rates were chosen by one run each, on scenes by two."""


def _some_gain(found: Found) -> Answer:
    """Whether one of the transforms finds a point more images than untouched rows.

    The same one on both sets: of six differences one is above a point by chance too easily.
    """
    answers = {
        arm: all_of(more(found, of, arm, BASE, FORTH, by=0.01) for of in SETS)
        for arm in ARMS
        if arm != BASE
    }
    helds = [answer.held for answer in answers.values()]
    held = True if True in helds else None if None in helds else False
    return Answer(held, "; ".join(f"`{arm}` {answer.told}" for arm, answer in answers.items()))


def _fewer_texts(found: Found, of: str) -> Answer:
    answer = more(found, of, BASE, "whiten128", BACK)
    return Answer(answer.held, f"{answer.told} for `none` over `whiten128`")


def _near(found: Found, of: str) -> Answer:
    return all_of(
        Answer(answer.held, f"`{arm}` {way}, {answer.told}")
        for arm in ("centre", "pca128")
        for way, figure in list(FIGURES.items())[:2]
        for answer in [within(found, of, arm, BASE, figure, 0.03)]
    )


def _lost_by_the_fold(found: Found, of: str) -> Answer:
    """Whether whitened models in their own space are less than 3 points below untouched ones."""
    seeds = found.seeds(of, "whiten128", BASE)
    own = found.outcomes(of, "whiten128", UNFOLDED["image to text"], seeds)
    base = found.outcomes(of, BASE, BACK, seeds)
    if not own or not base:
        return Answer(None, f"{of}: no records yet")
    spread = paired(own, base, resamples=RESAMPLES)
    folded = found.outcomes(of, "whiten128", BACK, seeds)
    raw, lost = (paired(folded, other, resamples=RESAMPLES) for other in (base, own))
    told = f"{of}: {points(spread)}; by the fold {points(lost)}; raw space {points(raw)}"
    held = False if spread.high <= -0.03 else None
    if raw.high < 0 and lost.high < 0 and spread.low > -0.03:
        held = True
    return decided(held, told, spread, raw)


def _no_flips(found: Found) -> Answer:
    path = text_path(found.folder)
    if not path.exists():
        return Answer(None, "not measured yet")
    records = read(path)["records"]
    most = max(
        records[name]["text_to_image"][f"flips by {metric}, %"]
        for name in STRETCHED_NOWHERE
        for metric in ("dot product", "cosine")
    )
    return Answer(most < 0.01, f"at most {most:.2f}% of the pairs")


HYPOTHESES = (
    Hypothesis(
        "One of the transforms finds more images of a text than untouched rows, by a point or "
        "more: what conditioning was built for.",
        _some_gain,
    ),
    Hypothesis(
        "Whitening to 128 axes finds fewer texts of an image than untouched rows.",
        each(_fewer_texts, SETS),
    ),
    Hypothesis(
        "Centring and PCA to 128 axes stay within 3 points of untouched rows, both ways.",
        each(_near, SETS),
    ),
    Hypothesis(
        "In the conditioned space whitened models find texts of images within 3 points of "
        "untouched ones or better: if the raw space loses, it is by the fold.",
        each(_lost_by_the_fold, SETS),
    ),
    Hypothesis(
        "On text alone, no pair of images changes its order for a text where the mean was "
        "projected out and no axis stretched.",
        _no_flips,
    ),
)


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results`; its plot goes into `folder`."""
    found = Found(results)
    plotted = {
        f"{of}, {way}": {arm: found.spread(of, arm, FIGURES[way]) for arm in ARMS}
        for of in SETS
        if found.arms(of)
        for way in ("text to image", "image to text")
    }
    parts = [opening(HYPOTHESES, found)]
    if plotted:
        bars(folder / "conditioning-recall.png", plotted, unit="R@10 in the raw space, %")
        parts.append("![R@10 in the raw space by transform](conditioning-recall.png)")
    parts += [
        *(_of_set(found, of) for of in SETS if found.arms(of)),
        text_section(results),
        "## What was done\n\n" + made_of(found, len([*(results / "trials").glob("*.json")])),
        _how(found, results),
        LIMITS,
        commands("conditioning", "conditioning", HELP),
    ]
    return "\n\n".join(parts) + "\n"


def _of_set(found: Found, of: str) -> str:
    """Return the tables of a set: in the raw space, differences, and before the fold."""
    arms = [arm for arm in ARMS if found.seeds(of, arm)]
    first = found.of(of, arms[0])[0]
    told = first["figures"][FORTH]
    figures = {name: f for name, f in FIGURES.items() if f in first["figures"]}
    rows = [
        [f"`{arm}`: {ARMS[arm].title}", *(percent(found.spread(of, arm, f)) for f in
         figures.values())]
        for arm in arms
    ]  # fmt: skip
    others = [arm for arm in arms if arm != BASE and found.seeds(of, arm, BASE)]
    less = [
        [f"`{arm}`", *(points(found.difference(of, arm, BASE, f)) for f in figures.values())]
        for arm in others
    ]
    own = [
        [f"`{arm}`", *(percent(found.spread(of, arm, f)) for f in UNFOLDED.values())]
        for arm in arms
        if arm != BASE
    ]
    return "\n\n".join(
        (
            f"## {of.capitalize()}",
            f"R@10 in the raw space by cosine among {told['items']:,} items ({told['protocol']}; "
            f"chance {100 * told.get('chance', 0):.1f}%), {WORDS}, "
            f"{first['samples']:,} images seen.",
            table(["trained against", *figures], rows),
            "Less than (-) or more than (+) `none`, in percentage points, on the seeds both have:",
            table(["", *figures], less),
            "For explanation only, the same models before the fold, in the conditioned space that "
            "no database has:",
            table(["", *UNFOLDED], own),
            _power(found, of),
        )
    )


def _power(found: Found, of: str) -> str:
    """Say how many seeds a difference of 3 points to `none` wants, arm by arm."""
    needed = {a: found.seeds_needed(of, a, BASE, FORTH) for a in ARMS if a != BASE}
    told = [f"{count} for `{arm}`" for arm, count in needed.items() if count is not None]
    if not told:
        return "Too few seeds for a power estimate."
    return (
        "Power: from the spread between these seeds, paired seeds that find a difference of 3 "
        f"points to `none` in text to image in 80 of 100 cases: {', '.join(told)}."
    )


def _how(found: Found, results: Path) -> str:
    """Say what was trained on what, which rates were chosen and which runs are study 1's."""
    rows = []
    for of in SETS:
        rates = [[record["rate"] for record in found.of(of, arm)] for arm in ARMS]
        rows.append([of, *(f"{known[0]:g}" if known else "-" for known in rates)])
    taken = sum("taken_from" in record for record in found.records.values())
    return (
        "Sets, towers and new wordings are those of [study 1](freezing.md). Transforms were fitted "
        "on the captions that are trained on and on no other. Each arm had trials of five "
        "rates, on scenes of two seeds each, with half the samples, on pairs that are in no table; "
        f"those of `none` are study 1's, and so are {taken} of its runs (their cost is counted "
        "here too).\n\n" + table(["rate on", *(f"`{arm}`" for arm in ARMS)], rows)
    )


STUDY = Study(
    name="conditioning",
    number=6,
    title="Conditioning, folded back",
    jobs=jobs(),
    guess=lambda job: 24 if job.trial else SECONDS[job.arm],
    work=work,
    ready=ready,
    smallest=Job("products", "whiten128", 0),
    primary=FORTH,
    hypotheses=HYPOTHESES,
    page=page,
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["text"]:
        measure_text(sys.argv[2:])
    else:
        main(STUDY, __doc__ or "")
