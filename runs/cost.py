"""Study 8: cost, honestly. FLOPs and CPU-seconds to equal R@10, with the embedding counted.

    python runs/cost.py --dry-run                          # what it would take
    python runs/cost.py --seeds 0 1 --most 12800           # a first pass
    python runs/cost.py                                    # every run that is missing
    python runs/scaling.py                                 # study 9, whose runs this one reads
    python runs/results.py pages cost                      # its page, from the JSON files alone

Products are seen several times over: 1,600 to 51,200 samples over 12,872 of them. Scenes are seen
once each, runs of study 9. Arms and rates are those of study 1. Each size is a run of its own with
its whole schedule; none is read in the middle. What R@10 costs is read off the curve between sizes:
samples, FLOPs of training by closed forms, CPU-seconds as measured. LIFT's captions are embedded
once and that is counted, in FLOPs and as measured by embedding a set anew (`rows`): for one run,
and for each of ten runs on the same captions. The pre-training of MiniLM is counted for nobody:
`frozen` and `tuned` both have it for nothing, `scratch` does not use it.

Written before the first run:

1. (the paper) At the R@10 that CLIP has with its largest run, LIFT needs at least 25.5% fewer FLOPs
   of training, embedding not counted.
2. With the embedding counted, one run of LIFT still needs fewer FLOPs than one of CLIP for that.
3. And fewer CPU-seconds.
4. Each of ten runs on the same captions needs fewer FLOPs and fewer CPU-seconds than CLIP.
5. For what `tuned` has with its largest run, LIFT needs no more samples than `tuned`.
6. For that, one run of LIFT needs fewer CPU-seconds than `tuned`, embedding counted.
"""

from __future__ import annotations

import shutil
import time

from frame.cost_claims import HYPOTHESES
from frame.cost_page import page
from frame.curves import sized, split
from frame.figures import FORTH
from frame.rates import chosen, known
from frame.runs import made_by, ran
from frame.sets import Set, get, scenes
from frame.spaces import encoder
from frame.study import Job, Place, Record, Study, carry_out, parser_of, taken, untried
from freezing import ARMS

from lift.cache import writer
from lift.cache.reader import EmbeddingCache
from lift.text.encoder import build_encoder
from lift.training.effort import embedding_of
from lift.training.encoder_cost import lengths_in_cache
from lift.world import threads

SIZES = (1_600, 3_200, 6_400, 12_800, 25_600, 51_200)
MOST = {"frozen": SIZES[-1], "scratch": SIZES[-1], "tuned": 12_800}
"""Samples of an arm's largest run."""
SEEDS = 3
PRODUCTS, SCENES = 12_872, 6_400
"""Captions that are embedded to measure it."""
MILLISECONDS = {"frozen": 2.8, "scratch": 3.7, "tuned": 14.0, "rows": 4.0}
JUDGING = {"frozen": 5.0, "scratch": 7.0, "tuned": 20.0, "rows": 2.0}
ASKED = "retrieval"


def jobs() -> list[Job]:
    """Return the runs, small ones first, seed by seed; before them the embedding of each set."""
    measured = [
        Job("scenes", sized("rows", SCENES), 0),
        Job("products", sized("rows", PRODUCTS), 0),
    ]
    return measured + [
        Job("products", sized(arm, size), seed)
        for size in SIZES
        for seed in range(SEEDS)
        for arm in MOST
        if size <= MOST[arm]
    ]


def ready(job: Job, place: Place) -> bool:
    """Return whether the arm's rate was chosen."""
    arm = split(job.arm)[0]
    return arm == "rows" or known(job.set, arm, place)


def work(job: Job, place: Place) -> Record:
    """Make a run, or measure an embedding."""
    arm, size = split(job.arm)
    if arm == "rows":
        return measured(job, place)
    of = get(job.set, place.data, place.out)
    folder = place.out / "models" / "cost" / job.name
    rate = chosen(job.set, arm, place)
    asked = {ASKED: of.evaluations[ASKED]}
    record = ran(
        ARMS[arm], of, place.out, folder, samples=size, seed=job.seed, rate=rate, evaluations=asked
    )
    shutil.rmtree(folder, ignore_errors=True)
    return record


def measured(job: Job, place: Place) -> Record:
    """Embed a set's captions with MiniLM as if there were no row yet; return what it took.

    Loading MiniLM is counted, as it is in the training of the tuned arm.
    """
    of, folder = embedded(job, place), place.out / "timed" / job.name
    captions = list(of.texts(judged=False))
    shutil.rmtree(folder, ignore_errors=True)
    began = time.process_time()
    with threads(1):
        built = build_encoder(encoder("minilm", of, place.out), "cpu")
        writer.embed(captions, built, folder, codec="float32", progress=False)
    seconds = time.process_time() - began
    cache = EmbeddingCache.open(folder)
    flops, words = embedding_of(cache)
    record = {
        "samples": 0,
        "effort": {"training_flops": 0.0, "embedding_flops": flops, "embedding": words},
        "captions": {"offered": len(captions), "distinct": len(cache)},
        "tokens": lengths_in_cache(cache).mean,
        "cpu_seconds": {"embedding": round(seconds, 1)},
        "figures": {},
        **made_by(),
    }
    shutil.rmtree(folder)
    return record


def embedded(job: Job, place: Place) -> Set:
    """Return the set whose captions are embedded."""
    if job.set != "scenes":
        return get(job.set, place.data, place.out)
    with taken(place.out / "locks" / "scenes.lock", wait=True):
        return scenes(place.data, place.out / "data" / "scenes", trained=split(job.arm)[1])


def guess(job: Job) -> float:
    """Return the CPU seconds of a run before any was made."""
    arm, size = split(job.arm)
    return size * MILLISECONDS[arm] / 1000 + JUDGING[arm]


STUDY = Study(
    name="cost",
    number=8,
    title="Cost, with the embedding counted",
    jobs=jobs(),
    guess=guess,
    work=work,
    ready=ready,
    smallest=Job("products", sized("frozen", SIZES[0]), 0),
    primary=FORTH,
    hypotheses=HYPOTHESES,
    page=page,
)


def main() -> None:
    """Say the budget, then make the runs that are missing."""
    parser = parser_of(STUDY, __doc__ or "")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="samples of the largest runs")
    args = parser.parse_args()
    carry_out(
        STUDY,
        args,
        lambda job: (
            job.seed in args.seeds
            and (split(job.arm)[1] <= args.most or split(job.arm)[0] == "rows")
        ),
        lambda wanted, place: untried(STUDY, wanted, place),
    )


if __name__ == "__main__":
    main()
