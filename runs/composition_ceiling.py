"""Study 5: composition's ceiling. Is a null result on swaps the text space's, the tower's, or the
loss's fault?

    python runs/composition_ceiling.py --dry-run            # what it would take
    python runs/composition_ceiling.py                      # every run that is missing
    python runs/composition_ceiling.py --arms lift --seeds 0    # some of them
    python runs/results.py pages composition_ceiling        # its page, from the JSON files alone

Scenes, and one list of questions: a true caption against a foil that is wrong in one way. `lift`
is LIFT with MiniLM's stored rows; `long` the same with a short and a long caption a scene;
`more...` the same as `lift` from so many images. Where study 1 has the run that `lift` is, it is
taken from there. Beside it stand:

- `space-minilm`, `space-tfidf`, `space-random`, `space-layer2`: no model. The oracle puts the mean
  of a scene's other captions (two or three short ones and two long ones) in the place of its image;
  blind is a guess from the texts alone. Both need no seed.
- `told`, `told-tfidf`: LIFT's head and loss on the facts of the scenes instead of pixels. What it
  can't answer is not the tower's fault.
- `control...`: the same tower with one matrix, taught the facts by their likelihood, no text, from
  so many images. A text's score is the sum of the log-probabilities of its claims. A text that
  claims more is never likelier, so its answers where something was added are right by logic, and
  say nothing. `shown...` is the same control, also taught which shape lies in which patch.

For each kind of swap the fault is named by this rule, written before the runs. A result is null
where `lift` is not certainly above 60%. Nothing is concluded unless a control reaches 95%. Then the
tower can; if the control needs more images than `lift` saw, those were too few, and the `more` with
at least as many is asked instead. Where `told` gets less than half of the way from chance to 100%,
the fault is not sight: it is the text space's if its oracle gets less than half of the way too,
else the loss's. Where `told` gets further, the loss did not make the tower see what the control
sees.

Written before the first run, but for trials of the control alone, of one seed: without places it
does not learn shapes from 51,200 images, with them it has 97% of swapped attributes right. Its
numbers of images, its batches and `shown` were set by that, on the test questions, which flatters
it and nothing else. What is expected:

1. The control reaches 95% on swapped attributes, with the most images.
2. It reaches 95% on swapped objects and replaced relations too.
3. LIFT stays below 60% on both kinds of swaps.
4. MiniLM's oracle stays below 75% on both.
5. LIFT stays more than 5 points below MiniLM's oracle on both.
6. Told the facts, LIFT still stays below 75% on both.
7. TF-IDF's oracle is above MiniLM's on swapped attributes: pairs of words hold them.
8. The oracle of MiniLM's second layer is above that of its last on swapped objects.
9. Blind, no space gets above 55% on swaps.
10. With long captions LIFT gets more swapped attributes right.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from frame.ceiling_page import HYPOTHESES, written
from frame.frozen import frozen_run
from frame.rates import chosen, known
from frame.runs import QUIET, Arm, config_of, encoder_of, judged, packed, record_of, trained
from frame.sets import SCENE, SCENES_ASKED, SCENES_TRAINED, TEST, Set, get, rows, scenes
from frame.study import Job, Place, Record, Study, main
from frame.supervised import FactsEncoder, facts_found, taught
from frame.told import ToldEncoder, told
from jaxtyping import Float32

from lift.data.source import open_source
from lift.encoders import CachedTexts
from lift.evals._metrics import share
from lift.terms import ImageLike
from lift.training.config import RunConfig
from lift.world import threads, versions

SAMPLES = 12_800
MORE = {"more51200": 51_200, "more204800": 204_800}
"""LIFT with as many images as controls."""
DRAWN = 51_200
"""Different scenes that LIFT sees at most: captions are embedded. The control's all differ."""
SPACES = ("minilm", "tfidf", "random", "layer2")
CONTROLS = {
    **{f"control{count}": count for count in (SAMPLES, 51_200)},
    **{f"shown{count}": count for count in (SAMPLES, 51_200, 204_800)},
}
SECONDS = {"lift": 48, "long": 52, "told": 15, "told-tfidf": 15}
SEEDS, FEW = 4, 2
"""Of most arms; of those that take ten minutes and more."""
SUPERVISED = {"batch_size": 16, "lr": 1e-3}
"""Without negatives small batches learn more from as many images."""
OWN = "short=1,long=0"
OTHERS = SCENE.replace(OWN, "short=3,long=2")


def jobs() -> list[Job]:
    """Return the runs: what is cheap seed by seed, then what is dear."""
    found = [Job("scenes", f"space-{name}", 0) for name in SPACES]
    whole = ("lift", "told", "shown51200", "long", "told-tfidf")
    found += [Job("scenes", arm, seed) for seed in range(SEEDS) for arm in whole]
    beside = ("more51200", "shown12800", "control12800", "control51200")
    dear = ("shown204800", "more204800")
    for arms in (beside, dear):
        found += [Job("scenes", arm, seed) for seed in range(FEW) for arm in arms]
    return found


def guess(job: Job) -> float:
    """Return the CPU seconds of a run."""
    if job.arm in CONTROLS:
        return 10 + 0.0045 * CONTROLS[job.arm]
    if job.arm in MORE:
        return 10 + 0.0033 * MORE[job.arm]
    return SECONDS.get(job.arm, 8)


def ready(job: Job, place: Place) -> bool:
    """Return whether the rate that a run takes is chosen."""
    return job.arm not in ("lift", "long", *MORE) or known("scenes", "frozen", place)


def work(job: Job, place: Place) -> Record:
    """Make a run."""
    of = get("scenes", place.data, place.out)
    folder = place.out / "models" / "composition_ceiling" / job.name
    kind = job.arm.partition("-")[0]
    if kind == "space":
        return of_space(job.arm.partition("-")[2], of, place.out)
    if kind == "told":
        return of_told(job.arm.partition("-")[2] or "minilm", of, place, job.seed)
    if job.arm in CONTROLS:
        return of_control(of, CONTROLS[job.arm], job.seed, shown=job.arm.startswith("shown"))
    before = frozen_run("scenes", job.seed, place, SAMPLES) if job.arm == "lift" else None
    return before or of_lift(job.arm, of, place, folder, job.seed)


# --- LIFT ---------------------------------------------------------------------------------------


def trained_on(arm: str, of: Set, place: Place) -> Set:
    """Return the scenes that an arm of LIFT is trained on."""
    if arm == "lift":
        return of
    count, captions = (SCENES_TRAINED, "short=1,long=1") if arm == "long" else (DRAWN, OWN)
    other = scenes(place.data, place.out / "data" / "scenes", trained=count, captions=captions)
    return dataclasses.replace(other, name="scenes-long" if arm == "long" else "scenes-more")


def of_lift(arm: str, of: Set, place: Place, folder: Path, seed: int) -> Record:
    """Train LIFT on its captions, and ask the questions that all arms are asked."""
    lift = Arm(arm, "LIFT")
    config = config_of(
        lift, trained_on(arm, of, place), place.out, seed=seed,
        samples=MORE.get(arm, SAMPLES), rate=chosen("scenes", "frozen", place),
    )  # fmt: skip
    model, training = trained(config, folder)
    figures, judging = judged(encoder_of(model, lift, of, place.out), asked(of))
    return record_of(config, figures, {"training": training, "judging": judging})


def asked(of: Set) -> dict[str, str]:
    """Return what all arms are judged on."""
    return {name: of.evaluations[name] for name in ("retrieval", "composition")}


# --- beside it ----------------------------------------------------------------------------------


class Blindfolded:
    """An `Encoder` that sees nothing: what stands beside its figures is the text space's own."""

    name = "no image"
    saw: tuple[str, ...] = ()

    def __init__(self, dimensions: int) -> None:
        self._row = np.eye(1, dimensions, dtype=np.float32)

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one and the same row for each image."""
        return self._row.repeat(len(images), axis=0)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Raise: every text has a stored row."""
        raise ValueError(f"No stored row of {texts[0]!r}.")


def of_space(name: str, of: Set, out: Path) -> Record:
    """Return how far the texts get without an image: blind, and by other captions of it."""
    data = f"scenes:count={SCENES_ASKED},start={TEST},{OTHERS}"
    words = f"compositional:blind=true,oracle=true,data=[{data}]"
    others = dataclasses.replace(
        of, name="scenes-others", choose=data, evaluations={"composition": words}
    )
    cache = rows(others, name, out, judged=True)
    encoder = CachedTexts(Blindfolded(cache.dimensions), cache)
    figures, judging = judged(encoder, others.evaluations)
    kept = {name: told for name, told in figures.items() if name.endswith(")")}
    return plain(kept, {"judging": judging})


def of_told(space: str, of: Set, place: Place, seed: int) -> Record:
    """Train LIFT's head on facts, and ask."""
    config = config_of(
        Arm("told", "", space), of, place.out, samples=SAMPLES, seed=seed,
        rate=1.0,
    )  # fmt: skip
    began = time.process_time()
    with threads(1):
        head = told(config)
    training = time.process_time() - began
    data = of.evaluations["composition"].partition("data=[")[2].rpartition("]")[0]
    source = open_source(data)
    samples = [source.read(number) for number in range(len(source))]
    encoder = CachedTexts(ToldEncoder(head, samples), rows(of, space, place.out, judged=True))
    figures, judging = judged(encoder, {"composition": of.evaluations["composition"]})
    seconds = {"training": training, "judging": judging}
    return plain(figures, seconds, samples=config.samples, rate=config.optim.lr)


def of_control(of: Set, count: int, seed: int, *, shown: bool) -> Record:
    """Teach the control the facts, and ask; its facts are judged too."""
    config = supervised(of, count, seed, shown=shown)
    began = time.process_time()
    with threads(1):
        encoder = FactsEncoder(taught(config, shown=shown))
    training = time.process_time() - began
    figures, judging = judged(encoder, {"composition": of.evaluations["composition"]})
    source = open_source(of.test)
    samples = [source.read(number) for number in range(len(source))]
    for name, (outcomes, commonest) in facts_found(encoder, samples).items():
        found = share(outcomes.values, None, outcomes.clusters)
        figures[f"facts: {name}"] = {
            "value": found.value, "low": found.low, "high": found.high, "items": found.items,
            "protocol": "facts of test scenes v1", "data": source.name, "chance": commonest,
            "outcomes": packed(outcomes),
        }  # fmt: skip
    seconds = {"training": training, "judging": judging}
    return plain(figures, seconds, samples=config.samples, rate=config.optim.lr)


def supervised(of: Set, count: int, seed: int, *, shown: bool) -> RunConfig:
    """Return the config of a control."""
    base = of.base
    steps = count // SUPERVISED["batch_size"]
    optim = dataclasses.replace(
        base.optim, lr=SUPERVISED["lr"], warmup_steps=min(100, int(steps) // 8)
    )
    loader = dataclasses.replace(base.loader, batch_size=int(SUPERVISED["batch_size"]))
    data = f"scenes:count={count},start=0,{SCENE}" + ",masks=true" * shown
    return dataclasses.replace(
        base, data=data, samples=count, seed=seed, optim=optim, loader=loader, **QUIET
    )


def plain(
    figures: Record, seconds: dict[str, float], *, samples: int = 0, rate: float = 0.0
) -> Record:
    """Return the record of what is no run of lift's."""
    return {
        "samples": samples,
        "rate": rate,
        "cpu_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "figures": figures,
        "versions": versions(),
    }


STUDY = Study(
    name="composition_ceiling",
    number=5,
    title="Composition's ceiling",
    jobs=jobs(),
    guess=guess,
    work=work,
    ready=ready,
    smallest=Job("scenes", "space-tfidf", 0),
    primary="composition: accuracy/mean of kinds (oracle)",
    hypotheses=HYPOTHESES,
    page=written,
)

if __name__ == "__main__":
    main(STUDY, __doc__ or "")
