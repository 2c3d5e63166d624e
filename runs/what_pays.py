"""Study 7: coarse rows, negative bank, second caption, masking, mosaics: does each pay?

    python runs/what_pays.py --dry-run               # what it would take
    python runs/what_pays.py                         # every run that is missing
    python runs/what_pays.py --sets products --arms base bank --seeds 0
    python runs/results.py pages what_pays           # its page, from the JSON files alone

`base` is LIFT with MiniLM's rows and the recipe as it is, the arm `frozen` of study 1; its runs and
its rate are taken from there, and every other arm has the same rate. Each adds one thing:

`binary` trains against rows of 1 bit a number; `bank` has 1,024 stored captions as competitors of
each step's images; `several` shows two captions of an image at a time (scenes alone have two);
`masked` leaves captions out of the denominator whose cosine with an image's own is above 0.8;
`mosaic` makes every fourth step of 2 x 2 images tiled into one. What a thing costs is measured
first: CPU seconds of the same steps with and without it, in turns within one process. Its samples
are then as many as take the CPU time of base's 12,800.

Not asked here: rows of 8 and 4 bits, which `codec_study.py` has with eight seeds, and equal
captions that share their images, which are on in every arm: of the captions in a batch of 64 about
one in two hundred has a twin, too few for any number of seeds in reach (the page has the share).

Written before the first run:

1. Rows of 1 bit lose less than 3 points, in both directions, on both sets.
2. The bank finds more texts of an image; to images of a text it does nothing (within 3 points).
3. A second caption an image finds more images by new wordings.
4. Leaving out near-equal captions finds more images of a text on products, where titles are alike.
5. Mosaics lose images of a text, also with the samples that they save.
6. Nothing of all this moves composition by 3 points or more.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import freezing
import torch
from frame.frozen import FROZEN, frozen_run
from frame.pays_page import ARMS, BASE, BY_SET, CODECS, FORTH, HYPOTHESES, SEEDS, page
from frame.rates import chosen, known
from frame.runs import Arm, config_of, encoder_of, judged, record_of, trained
from frame.sets import Set, get, scenes
from frame.spaces import encoder
from frame.study import Job, Place, Record, Study, main, path_of, read, taken

from lift.cache import writer
from lift.cache.reader import EmbeddingCache
from lift.ranks import ALONE
from lift.text.encoder import build_encoder
from lift.training.config import RunConfig
from lift.training.folder import open_run
from lift.training.given import filled
from lift.training.optim import learning_rate, set_rate
from lift.training.prepare import prepare
from lift.training.transfer import moved
from lift.world import threads, versions

SAMPLES = freezing.SAMPLES
"""Of base."""
COST = "cost"
"""The trial that measures what an arm costs."""
BLOCKS, BLOCK = 10, 4
"""Pairs of blocks that are timed, and steps of a block: one of them is made of mosaics."""
NOISE = 0.02
"""A cost this near to base's counts as the same: blocks differ by as much."""


def jobs() -> list[Job]:
    """Return the measurements of costs, then the runs, seed by seed."""
    costs = [Job(of, arm, 100, COST) for of in BY_SET for arm in BY_SET[of] if arm != BASE]
    made = [Job(of, arm, seed) for seed in range(SEEDS) for of in BY_SET for arm in BY_SET[of]]
    return costs + made


def ready(job: Job, place: Place) -> bool:
    """Return whether study 1 has chosen the rate, and the arm's cost was measured."""
    cost = path_of(Job(job.set, job.arm, 100, COST), place.results)
    measured = bool(job.trial) or job.arm == BASE or cost.exists()
    return measured and known(job.set, FROZEN, place)


def samples_of(job: Job, place: Place, batch: int) -> int:
    """Return how many samples an arm takes for the CPU time of base's."""
    whole = SAMPLES[job.set]
    if job.arm == BASE:
        return whole
    ratio = read(path_of(Job(job.set, job.arm, 100, COST), place.results))["cost"]["ratio"]
    return whole if abs(ratio - 1) < NOISE else batch * round(whole / ratio / batch)


def work(job: Job, place: Place) -> Record:
    """Measure a cost or make a run; a run of `base` is taken from study 1 where that has made it.

    What a record has more than others: the rows that are trained against, and their bytes.
    """
    of, arm = get(job.set, place.data, place.out), ARMS[job.arm]
    folder = place.out / "models" / "what_pays" / job.name
    rate = chosen(job.set, FROZEN, place)
    seen = SAMPLES[job.set] if job.trial else samples_of(job, place, of.base.loader.batch_size)

    def config(name: str) -> RunConfig:
        return configured(ARMS[name], of, place.out, samples=seen, seed=job.seed, rate=rate)

    if job.trial:
        return cost_of(config(BASE), config(job.arm), folder)
    own = config(job.arm)
    cache = EmbeddingCache.open(own.cache)
    told = {"rows": len(cache), "row_bytes": cache.codec.bytes_per_row}
    made = frozen_run(job.set, job.seed, place, seen) if job.arm == BASE else None
    if made is not None:
        return made | told
    model, training = trained(own, folder)
    figures, judging = judged(encoder_of(model, arm, of, place.out), of.evaluations)
    return record_of(own, figures, {"training": training, "judging": judging}) | told


# --- what an arm is trained on ------------------------------------------------------------------


def configured(arm: Arm, of: Set, out: Path, **how: Any) -> RunConfig:
    """Return the config of an arm's run; rows that it needs are embedded where they are missing.

    Args:
        arm: which.
        of: the set, with one caption an image.
        out: scratch.
        how: samples, seed and rate of the run.
    """
    options = dict(arm.options)
    if codec := CODECS.get(arm.name):
        options["cache"] = str(coarse(of, codec, out))
    shown = two_captions(out) if arm.name == "several" else of
    return config_of(dataclasses.replace(arm, options=options), shown, out, **how)


def two_captions(out: Path) -> Set:
    """Return the same scenes with a second short caption each, where a scene has one to give."""
    of = scenes(Path(), out / "data" / "scenes", captions="short=2,long=0")
    return dataclasses.replace(of, name="scenes-two")  # its rows are others


def coarse(of: Set, codec: str, out: Path) -> Path:
    """Return the folder of a set's training rows in a codec, embedded where it is not there."""
    folder = out / "rows" / f"{of.name}-minilm-train-{codec}"
    with taken(out / "locks" / "rows" / f"{folder.name}.lock", wait=True):
        if not (folder / "manifest.json").exists():
            built = build_encoder(encoder("minilm", of, out), "cpu")
            writer.embed(of.texts(judged=False), built, folder, codec=codec, progress=False)
    return folder


# --- what an arm costs --------------------------------------------------------------------------


def cost_of(base: RunConfig, own: RunConfig, folder: Path) -> Record:
    """Return what a step of an arm costs beside one of base, in CPU seconds of this process.

    Both take blocks of steps in turns, so that a busy machine is busy for both; the ratio is the
    median over pairs of blocks. Reading, decoding and views are in it, as in a run.
    """
    began = time.process_time()
    with (
        threads(1),
        opened(base, folder / "base") as one,
        opened(own, folder / "own") as other,
    ):
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(-1, BLOCKS):  # the first block is to warm up
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                for _ in range(BLOCK):
                    (one, other)[which].step()
                if number >= 0:
                    seconds[which].append(time.process_time() - start)
        twins = one.twins
    ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
    images = BLOCK * base.step_samples
    return {
        "cost": {
            "ratio": statistics.median(ratios),
            "ratios": [round(ratio, 4) for ratio in ratios],
            "standard_error": statistics.stdev(ratios) / math.sqrt(len(ratios)),
            "milliseconds": [round(1000 * statistics.median(s) / images, 3) for s in seconds],
        },
        "twins": twins,
        "figures": {},
        "cpu_seconds": {"measuring": round(time.process_time() - began, 1)},
        "versions": versions(),
    }


@dataclasses.dataclass(frozen=True)
class Stepping:
    """A run whose steps are taken one by one.

    Attributes:
        step: takes the next one.
        twins: share of captions that have an equal one in their batch.
    """

    step: Callable[[], None]
    twins: float


@contextmanager
def opened(config: RunConfig, folder: Path) -> Iterator[Stepping]:
    """Open a run in a folder that is emptied first; nothing of it is saved."""
    shutil.rmtree(folder, ignore_errors=True)
    config = filled(config).resolved()
    made = open_run(folder, config, resume=False)
    run = prepare(config, made, torch.device("cpu"), ALONE, False)
    asked = run.loader.batches(0, config.steps)
    batches = moved(asked, run.device, run.loader.images)

    def step() -> None:
        number, here = run.state.step, [next(batches)]
        run.counting.add(here)
        set_rate(run.state.optimizer, learning_rate(number, config.steps, config.optim))
        run.stepper.take(here, number, tiles=config.tiles_of(number))
        run.state.step = number + 1

    try:
        run.train_mode()
        yield Stepping(step, run.loader.equal_caption_share())
    finally:
        asked.close()
        run.close()


STUDY = Study(
    name="what_pays",
    number=7,
    title="What pays at equal cost",
    jobs=jobs(),
    guess=lambda job: 20 if job.trial else 2 if job.arm == BASE else 48,
    work=work,
    ready=ready,
    smallest=Job("products", "masked", 0),
    primary=FORTH,
    hypotheses=HYPOTHESES,
    page=page,
)

if __name__ == "__main__":
    main(STUDY, __doc__ or "")
