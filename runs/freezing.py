"""Study 1: is it the freezing, or the pre-training? Six text sides beside one image tower.

    python runs/freezing.py --dry-run                 # what it would take
    python runs/freezing.py                           # every run that is missing
    python runs/freezing.py --sets emoji --seeds 0    # some of them
    python runs/results.py pages freezing             # its page, from the JSON files alone

Arms have the same image tower, the same images in the same order, and as many trials: five
learning rates each, judged on pairs that are not reported, with half the samples.

`scratch` is CLIP: its text tower starts from random weights. `tuned` starts from MiniLM's and goes
on training (its rate a twentieth of the image side's, as for fine-tuning). `frozen` is LIFT with
MiniLM's stored rows, `cosine` the same with the loss that has no negatives. `random` are stored
rows of MiniLM's network with random weights, `tfidf` of TF-IDF and SVD: frozen, not pre-trained.
The effect of freezing is `frozen` less `tuned`; that of pre-training, and of MiniLM's size, is
`tuned` less `scratch`.

Written before the first run of the study, after pilots that chose patches and numbers of samples
(LIFT, CLIP and `tuned`, one seed, 3,200 to 25,600 samples); the lowest rate, the second seed of
trials on scenes and choosing by both directions came after the first two seeds, which were then
made again where the rate had changed:

1. At these budgets `frozen` finds more than `tuned` on all three sets.
2. Of `frozen` less `scratch` the larger part is pre-training, not freezing.
3. `frozen` finds more than `random` and `tfidf` by new wordings; by trained wordings it need not.
4. On questions in which two things change places no arm is above 60%: the text space itself
   hardly tells them apart.
5. `cosine` comes within 3 points of `frozen`.
"""

from __future__ import annotations

from pathlib import Path

from frame.composition import ADDED, COMPOSED, WORDS
from frame.edges import change
from frame.figures import BACK, FORTH, REWORDED
from frame.found import Found
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
)
from frame.rates import RATES, rate_of, ready, trials, tried
from frame.runs import Arm, ran, unpacked
from frame.sets import SETS, get
from frame.study import RESULTS, Job, Place, Record, Study, main, path_of, read

from lift.config import part

HELP = (
    "python runs/freezing.py --dry-run",
    "python runs/freezing.py --seeds 0 1 2 3",
)
HOW = """`scenes`: 12,800 drawn scenes with one short caption each, 48 px; 1,000 others to judge
with, 600 of them with questions of composition. `products`: 12,872 shop products with their
titles, 64 px; 2,000 to judge with, and questions in which one word of a title (colour, type,
wearer) becomes another. `emoji`: Noto's 1,644 drawings with their names to train on, Twemoji's of
the same emoji to judge with: another hand's drawings. New wordings are the same test images with
captions in which every word of a list is exchanged for one that no training caption has
(`runs/frame/words.py`); other words, as brands in titles, stay. For emoji they are keywords that
share no word with the emoji's own name; two thirds of them have a word of some other emoji's name.
MiniLM saw none of these captions in contrastive training as far as its card tells; product titles
and emoji names may occur in what it read.

The image tower is the same for all arms of a set, from random weights. Rates were chosen by five
trials an arm (two seeds of them on scenes), with half the samples, on pairs that are in no table,
by the mean of R@10 in both directions; the best, times the recipe's rate, behind it that mean in
percent with {rates} times it:"""
LIMITS = """## Limits

Towers of a million weights, a few thousand images, minutes of CPU: what holds here need not hold at
a hundred million pairs; [scaling](scaling.md) says which way the curves go. The tuned arm has one
rate for its text tower in proportion to the image side's (1/20); other proportions were not tried.
`scratch` has a text tower of CLIP's proportions beside so small an image tower: 4 layers of 64 or
128, far smaller than MiniLM's 6 of 384: `tuned` less `scratch` is pre-training and size together,
and no arm trains a text tower of that size from random weights. Every emoji of the test has its
name among the training captions: R@10 there is of another hand's drawings, not of other names. Rows
of the random network lie close together (two captions have a mean cosine of 0.85; of MiniLM's 0.43
for scenes, 0.29 for products): that `random` finds little may come from this as well as from what
it never learned; it was not tried with the mean direction taken out."""
ARMS = {
    arm.name: arm
    for arm in (
        Arm("frozen", "MiniLM, frozen (LIFT)"),
        Arm("tuned", "MiniLM, tuned", "", "clip_minilm", {"optim": {"text_rate": 0.05}}),
        Arm("scratch", "from random weights (CLIP)", "", "clip"),
        Arm(
            "cosine", "MiniLM, frozen, cosine", options={"objective": part("objectives", "cosine")}
        ),
        Arm("random", "random MiniLM, frozen", "random"),
        Arm("tfidf", "TF-IDF-SVD rows", "tfidf"),
    )
}
SEEDS = 8
SAMPLES = {"scenes": 12_800, "products": 12_800, "emoji": 8_000}
SECONDS = {"frozen": 45, "tuned": 220, "scratch": 55, "cosine": 45, "random": 45, "tfidf": 45}


def jobs() -> list[Job]:
    """Return the trials, then the runs, seed by seed."""
    first = [job for of in reversed(SETS) for arm in ARMS for job in trials(of, arm)]
    return first + [Job(of, arm, seed) for seed in range(SEEDS) for of in SETS for arm in ARMS]


def work(job: Job, place: Place) -> Record:
    """Make a trial or a run."""
    of, arm = get(job.set, place.data, place.out), ARMS[job.arm]
    folder = place.out / "models" / "freezing" / job.name
    samples = SAMPLES[job.set]
    if job.trial:
        rate = float(job.trial.removeprefix("rate"))
        asked = {"choosing": f"retrieval:data=[{of.choose}]"}
        return ran(
            arm, of, place.out, folder, samples=samples // 2, seed=job.seed, rate=rate,
            evaluations=asked,
        )  # fmt: skip
    rate = rate_of(job.set, job.arm, place.results)
    return ran(arm, of, place.out, folder, samples=samples, seed=job.seed, rate=rate)


# --- the page -----------------------------------------------------------------------------------

SWAPS = ("composition: accuracy/swap_object", "composition: accuracy/swap_attribute")
CONTRASTS = {
    "freezing: frozen - tuned": ("frozen", "tuned"),
    "pre-training and size: tuned - scratch": ("tuned", "scratch"),
    "both: frozen - scratch": ("frozen", "scratch"),
    "what MiniLM learned: frozen - random": ("frozen", "random"),
    "beyond words: frozen - tfidf": ("frozen", "tfidf"),
    "negatives: frozen - cosine": ("frozen", "cosine"),
}
BY_KIND = tuple(CONTRASTS)[:3]
"""Contrasts of freezing and pre-training: told for each kind of composition."""


def _mostly_pre_training(found: Found, of: str) -> Answer:
    """Whether tuned less scratch is more than frozen less tuned, where frozen has more at all."""
    freezing, training, both = (found.difference(of, *CONTRASTS[name], FORTH) for name in BY_KIND)
    larger = change(found, of, ("tuned", "scratch"), ("frozen", "tuned"), FORTH)
    if freezing is None or training is None or both is None or larger is None:
        return Answer(None, f"{of}: no records yet")
    told = f"{of}: pre-training {points(training)}, freezing {points(freezing)}"
    if both.low <= 0:
        told = f"{told}; that `frozen` has more than `scratch` is not shown: {points(both)}"
        return Answer(None, told)
    held = True if larger.low > 0 else False if larger.high < 0 else None
    return decided(held, told, larger)


def _by_new_words(found: Found, of: str) -> Answer:
    answers = {arm: more(found, of, "frozen", arm, REWORDED) for arm in ("random", "tfidf")}
    return all_of(Answer(one.held, f"than {arm}, {one.told}") for arm, one in answers.items())


def _swaps_below(found: Found) -> Answer:
    """Whether every arm is below 60% where two things change places."""
    told = []
    for arm in found.arms("scenes"):
        spreads = [found.spread("scenes", arm, swap) for swap in SWAPS]
        told += [(arm, spread) for spread in spreads if spread is not None]
    if not told:
        return Answer(None, "no records yet")
    arm, top = max(told, key=lambda one: one[1].mean)
    held = True if all(s.high < 0.6 for _, s in told) else None
    held = False if any(s.low >= 0.6 and s.seeds > 1 for _, s in told) else held
    words = f"the most is {arm}'s {percent(top)}"
    return Answer(False, words) if held is False else decided(held, words, *(s for _, s in told))


def _near(found: Found, of: str) -> Answer:
    """Whether cosine is within 3 points of frozen."""
    spread = found.difference(of, "frozen", "cosine", FORTH)
    if spread is None:
        return Answer(None, f"{of}: no records yet")
    held = True if spread.high < 0.03 else False if spread.low > 0.03 else None
    return decided(held, f"{of}: frozen has {points(spread)}", spread)


HYPOTHESES = (
    Hypothesis(
        "At equal samples `frozen` finds more than `tuned`.",
        each(lambda found, of: more(found, of, "frozen", "tuned", FORTH), SETS),
    ),
    Hypothesis(
        "Of what `frozen` has more than `scratch` the larger part is pre-training, not freezing.",
        each(_mostly_pre_training, SETS),
    ),
    Hypothesis(
        "`frozen` finds more by new wordings than frozen rows that were not pre-trained.",
        each(_by_new_words, SETS),
    ),
    Hypothesis("Where two things change places, no arm is above 60%.", _swaps_below),
    Hypothesis("The cosine loss comes within 3 points of the softmax.", each(_near, SETS)),
    Hypothesis(
        "LIFT has more than CLIP on questions of composition in which nothing is added.",
        lambda found: all_of(
            more(found, of, "frozen", "scratch", COMPOSED) for of in ("scenes", "products")
        ),
        paper=True,
        after=True,
    ),
    Hypothesis(
        "MiniLM's frozen rows find more than those of TF-IDF, by trained wordings.",
        each(lambda found, of: more(found, of, "frozen", "tfidf", FORTH), SETS),
        after=True,
    ),
)


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results`; its plot goes into `folder`."""
    found = Found(results)
    plotted = {
        of: {arm: found.spread(of, arm, FORTH) for arm in ARMS if found.seeds(of, arm)}
        for of in SETS
        if found.arms(of)
    }
    bars(folder / "freezing.png", plotted, unit="text-to-image R@10, %")
    parts = [
        opening(HYPOTHESES, found),
        "![R@10 of six text sides on three sets](freezing.png)",
        *(_of_set(found, of) for of in SETS if found.arms(of)),
        _kinds(found),
        "## What was done\n\n" + made_of(found, len([*(results / "trials").glob("*.json")])),
        _how(results),
        LIMITS,
        commands("freezing", "freezing", HELP),
    ]
    return "\n\n".join(parts) + "\n"


def _of_set(found: Found, of: str) -> str:
    """Return the tables of a set: its arms, and what they differ by."""
    first = found.of(of, found.arms(of)[0])[0]["figures"]
    figures = {"text to image": FORTH, "image to text": BACK, "new wordings": REWORDED}
    if COMPOSED in found.figures(of):
        figures["composition"] = COMPOSED
    arms = [arm for arm in ARMS if found.seeds(of, arm)]
    rows = [
        [
            f"`{arm}`: {ARMS[arm].title}",
            *(percent(found.spread(of, arm, figure)) for figure in figures.values()),
            f"{_training(found, of, arm):.0f}",
        ]
        for arm in arms
    ]
    differences = [
        [name, *(points(found.difference(of, *pair, figure)) for figure in figures.values())]
        for name, pair in CONTRASTS.items()
        if {*pair} <= {*arms}
    ]
    seeds = len(found.seeds(of, *arms))
    return "\n\n".join(
        (
            f"## {of.capitalize()}",
            f"R@10 ({first[FORTH]['protocol']}) among {_among(first[FORTH])}, by new wordings "
            f"among {_among(first[REWORDED])}{_asked(of, figures)}. {SAMPLES[of]:,} images seen; "
            f"seeds that all arms have: {seeds}.",
            table(["text side", *figures, "CPU-s of training"], rows),
            _embedding(of),
            "Differences in percentage points:",
            table(["", *figures], differences),
            _power(found, of),
        )
    )


def _among(figure: Record) -> str:
    """Say among how many images a figure finds, and what guessing finds."""
    many = len(unpacked(figure["outcomes"]).values)
    return f"{many:,} (chance {100 * figure.get('chance', 0):.1f}%)"


def _asked(of: str, figures: dict[str, str]) -> str:
    """Say what composition is, where a set has it."""
    if "composition" not in figures:
        return ""
    return f"; {WORDS}"


def _embedding(of: str) -> str:
    """Say what embedding a set's captions takes, as study 8 measured it."""
    for path in sorted((RESULTS / "cost").glob(f"{of}-rows-*.json")):
        record = read(path)
        seconds, captions = record["cpu_seconds"]["embedding"], record["captions"]["offered"]
        return (
            "Stored rows of MiniLM come on top, once for all runs on the same captions: embedding "
            f"{captions:,} of them took {seconds:.0f} CPU-seconds ([cost](cost.md))."
        )
    return "Embedding the captions of frozen arms, once for all runs, is not in the last column."


def _training(found: Found, of: str, arm: str) -> float:
    records = found.of(of, arm)
    return sum(record["cpu_seconds"]["training"] for record in records) / len(records)


def _power(found: Found, of: str) -> str:
    """Say how many seeds a difference of 3 points between frozen and tuned wants."""
    needed = found.seeds_needed(of, "frozen", "tuned", FORTH)
    if needed is None:
        return "Too few seeds for a power estimate."
    return (
        f"Power: from the spread between these seeds, {needed} paired seeds find a difference "
        "of 3 points between `frozen` and `tuned` in 80 of 100 cases."
    )


def _kinds(found: Found) -> str:
    """Return composition by kind."""
    parts = ["## Composition by kind"]
    for of in SETS:
        kinds = [f for f in found.figures(of, "composition") if "mean of kinds" not in f]
        if not kinds:
            continue
        arms = [arm for arm in ARMS if found.seeds(of, arm)]
        rows = [
            [kind.partition("/")[2], *(percent(found.spread(of, arm, kind)) for arm in arms)]
            for kind in kinds
        ]
        differences = [
            [
                kind.partition("/")[2],
                *(points(found.difference(of, *CONTRASTS[name], kind)) for name in BY_KIND),
            ]
            for kind in [*kinds, *(one for one in (ADDED, COMPOSED) if one in found.figures(of))]
        ]
        parts += [
            f"{of.capitalize()}, chance 50%:",
            table(["kind", *arms], rows),
            "Differences in percentage points:",
            table(["kind", *BY_KIND], differences),
        ]
        if of == "scenes":
            parts.append(_shapes(found))
    return "\n\n".join(parts)


def _shapes(found: Found) -> str:
    """Say whether any arm tells shapes apart: without that, swaps of things can't be answered."""
    figure = "composition: accuracy/replace_object"
    told = [(found.spread("scenes", arm, figure), arm) for arm in found.arms("scenes")]
    top, arm = max(((spread, arm) for spread, arm in told if spread), key=lambda one: one[0].mean)
    apart = "no arm tells shapes apart yet" if top.low <= 0.55 else f"`{arm}` tells shapes apart"
    return (
        f"From so few images {apart} (`replace_object`: at most {percent(top)}). Where something "
        "is added, the foil is the longer text, and a guess without the image has them all right: "
        "what an arm has there is how it takes longer texts, so no mean above counts these kinds. "
        "[The ceiling](composition_ceiling.md) asks the same questions of a tower that was taught "
        "the facts, and of LIFT told them."
    )


def _how(results: Path) -> str:
    """Say what was trained on what, and which rates were chosen."""
    rows = []
    for of in SETS:
        known = [all(path_of(t, results).exists() for t in trials(of, arm)) for arm in ARMS]
        if all(known):
            rows.append([of, *(_chosen(of, arm, results) for arm in ARMS)])
    told = HOW.format(rates=", ".join(f"{rate:g}" for rate in RATES))
    if not rows:
        return f"{told}\n\nNo trials are finished yet."
    return "\n\n".join(
        (
            told,
            table(["set", *ARMS], rows),
            f"These trials find among fewer images: by chance {_by_chance(results)}. At an end of "
            "the rates that were tried another might be better; where all trials are near chance, "
            "the choice among them is noise.",
        )
    )


def _by_chance(results: Path) -> str:
    """Say what guessing finds in the trials of each set."""
    told = []
    for of in SETS:
        figures = read(path_of(trials(of, "frozen")[0], results))["figures"]
        shares = [one["chance"] for name, one in figures.items() if "chance" in one]
        told.append(f"{100 * shares[0]:.1f}% of {of}" if shares else f"not told of {of}")
    return ", ".join(told)


def _chosen(of: str, arm: str, results: Path) -> str:
    """Return the rate of an arm, whether it is an end of those tried, and what each found."""
    rate = rate_of(of, arm, results)
    each = ", ".join(f"{100 * value:.1f}" for value in tried(of, arm, results).values())
    end = ", an end" if rate in (RATES[0], RATES[-1]) else ""
    return f"x {rate:g}{end} ({each})"


STUDY = Study(
    name="freezing",
    number=1,
    title="Freezing, told apart from pre-training",
    jobs=jobs(),
    guess=lambda job: SECONDS[job.arm] * (0.5 if job.trial or job.set == "emoji" else 1.0),
    work=work,
    ready=ready,
    smallest=Job("emoji", "tfidf", 0),
    primary=FORTH,
    hypotheses=HYPOTHESES,
    page=page,
)

if __name__ == "__main__":
    main(STUDY, __doc__ or "")
