"""One run of a study: train what a config says, judge it, and return what is kept of it."""

from __future__ import annotations

import base64
import dataclasses
import platform
import shutil
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frame.sets import Set, rows
from frame.study import Record
from lift import bundle
from lift.config import to_dict
from lift.encoders import CachedTexts
from lift.evaluation import evaluate, parse_plan
from lift.terms import Encoder, EvalResult, Outcomes
from lift.training import methods
from lift.training.config import RunConfig
from lift.training.effort import effort
from lift.training.loop import run
from lift.world import threads, versions

KEPT = ("text_to_image/R@1", "text_to_image/R@10", "image_to_text/R@1", "image_to_text/R@10")
"""Of a retrieval; of a composition all kinds are kept."""
QUIET = {
    "validation": "",
    "evaluations": (),
    "evaluate_every": 0,
    "checkpoint_every": 0,
    "precision": "float32",
    "device": "cpu",
    "threads": 1,
}
"""What all runs of studies have alike."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """What is compared with others.

    Attributes:
        name: in file names and tables.
        title: in words.
        space: the text space it is trained against; "" where it makes one of its own.
        method: of `lift.training.methods`, "" for LIFT.
        options: what it changes of the recipe.
    """

    name: str
    title: str
    space: str = "minilm"
    method: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def config_of(arm: Arm, of: Set, out: Path, *, samples: int, seed: int, rate: float) -> RunConfig:
    """Return the config of a run.

    Args:
        arm: which.
        of: the set it is trained on.
        out: scratch.
        samples: images seen.
        seed: of weights, order and views.
        rate: what the recipe's learning rate is multiplied by.
    """
    config = dataclasses.replace(of.base, data=of.train, samples=samples, seed=seed, **QUIET)
    if arm.space:
        stored = rows(of, arm.space, out, judged=False)
        config = dataclasses.replace(config, cache=str(stored.folder), encoder=None)
    else:
        config = methods.apply(arm.method, config)
    options = dict(arm.options)
    optim = dataclasses.replace(
        config.optim,
        lr=config.optim.lr * rate,
        warmup_steps=min(config.optim.warmup_steps, config.steps // 8),
        **options.pop("optim", {}),
    )
    return dataclasses.replace(config, optim=optim, **options)


def trained(config: RunConfig, folder: Path) -> tuple[Path, float]:
    """Train into a folder that is emptied first; return the model's folder and CPU seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.process_time()
    with threads(1):
        run(config, folder, progress=False)
    seconds = time.process_time() - began
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # three times the model's size
    return folder / "model", seconds


def encoder_of(model: Path, arm: Arm, of: Set, out: Path) -> Encoder:
    """Return a trained model; where its text space is a stored one, with the rows of that."""
    found = bundle.load(model)
    if not arm.space:
        return found
    return CachedTexts(found, rows(of, arm.space, out, judged=True))


def judged(found: Encoder, evaluations: Mapping[str, str]) -> tuple[dict[str, Any], float]:
    """Return figures by "EVALUATION: METRIC", and CPU seconds.

    Args:
        found: what is judged.
        evaluations: in the words of `lift eval --on`, by their short names.
    """
    began = time.process_time()
    with threads(1):
        results = evaluate(found, [parse_plan(w) for w in evaluations.values()], progress=False)
    figures: dict[str, Any] = {}
    for name, result in zip(evaluations, results, strict=True):
        figures |= {f"{name}: {metric}": found for metric, found in kept(result)}
    return figures, time.process_time() - began


def kept(result: EvalResult) -> list[tuple[str, dict[str, Any]]]:
    """Return the figures of a result that a record keeps."""
    found = []
    for metric, value in result.metrics.items():
        if result.evaluation == "retrieval" and metric not in KEPT:
            continue
        if metric == "accuracy/all items":  # the mean of kinds is told
            continue
        told: dict[str, Any] = {
            "value": value.value,
            "low": value.low,
            "high": value.high,
            "items": value.items,
            "protocol": f"{result.evaluation} v{result.version}, {result.protocol}",
            "data": Path(result.data).name if "/" in result.data else result.data,
            "digest": result.digest,
        }
        if metric == result.primary and result.chance is not None:
            told["chance"] = result.chance
        if value.outcomes is not None:
            told["outcomes"] = packed(value.outcomes)
        found.append((metric, told))
    return found


def packed(outcomes: Outcomes) -> dict[str, str]:
    """Return what every item scored as text: base64 of zlib of little-endian numbers.

    `halves` are uint8, twice the credit (0, a half, 1); `values` float32 where there are others;
    `weights` float32; `clusters` int32, left out where no two items belong together.
    """
    values = np.asarray(outcomes.values, "<f4")
    halves = (2 * values).astype(np.uint8)
    exact = np.array_equal(halves, 2 * values)
    told = {"halves": _text(halves)} if exact else {"values": _text(values)}
    if outcomes.weights is not None:
        told["weights"] = _text(np.asarray(outcomes.weights, "<f4"))
    if outcomes.clusters is not None:
        distinct, own = np.unique(outcomes.clusters, return_inverse=True)
        if len(distinct) < len(values):
            told["clusters"] = _text(np.asarray(own, "<i4"))
    return told


def unpacked(told: Mapping[str, str]) -> Outcomes:
    """Return what `packed` was given."""
    kinds = {"halves": np.uint8, "values": "<f4", "weights": "<f4", "clusters": "<i4"}
    found = {
        name: np.frombuffer(zlib.decompress(base64.b64decode(text)), kinds[name])
        for name, text in told.items()
    }
    values = found["halves"] / np.float32(2) if "halves" in found else found["values"]
    clusters = found["clusters"].astype(np.int64) if "clusters" in found else None
    return Outcomes(values, found.get("weights"), clusters)


def _text(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")


def record_of(config: RunConfig, figures: dict[str, Any], seconds: Mapping[str, float]) -> Record:
    """Return what is kept of a run.

    Args:
        config: of the run.
        figures: see `judged`.
        seconds: CPU seconds by what they went into.
    """
    cost = effort(config)
    return {
        "samples": config.samples,
        "rate": config.optim.lr,
        "recipe": config.recipe,
        "objective": to_dict(config.objective),
        "effort": {
            "training_flops": cost.run_flops,
            "embedding_flops": cost.embedding_flops,
            "embedding": cost.embedding,
        },
        "cpu_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "figures": figures,
        **made_by(),
    }


def made_by() -> Record:
    """Return the versions and the machine that a record was made with."""
    return {"versions": versions(), "machine": platform.processor() or platform.machine()}


def ran(
    arm: Arm,
    of: Set,
    out: Path,
    folder: Path,
    *,
    samples: int,
    seed: int,
    rate: float,
    evaluations: Mapping[str, str] | None = None,
) -> Record:
    """Train and judge one arm; return its record. The model stays in `folder`."""
    config = config_of(arm, of, out, samples=samples, seed=seed, rate=rate)
    model, training = trained(config, folder)
    asked = of.evaluations if evaluations is None else evaluations
    figures, judging = judged(encoder_of(model, arm, of, out), asked)
    return record_of(config, figures, {"training": training, "judging": judging})
