"""Train arms over seeds on the same data in the same order, and record how they compare."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lift.config import to_dict
from lift.errors import CheckpointError, ConfigError, DataError, LiftError
from lift.files import is_ours_or_empty, sole_writer
from lift.training.before import before, require_possible
from lift.training.compared import (
    FILE,
    ArmRecord,
    Comparison,
    Failed,
    Ran,
    figures,
    is_comparison,
    read_comparison,
    scores_of,
)
from lift.training.config import RunConfig
from lift.training.cpu import measured
from lift.training.effort import Effort, effort
from lift.training.folder import read_facts
from lift.training.loop import RunResult, run
from lift.training.matching import differences, is_of_method
from lift.training.merged import going_on, is_finished, with_run, without_run
from lift.world import choose_device, versions, worker

Budget = Literal["samples", "flops"]


@dataclass(frozen=True)
class Arm:
    """One of the runs' kinds: a name, which is a folder too, and a config without its seed."""

    name: str
    config: RunConfig

    @property
    def folder(self) -> str:
        """Its runs' folder, in that of the comparison."""
        plain = re.sub(r"[^A-Za-z0-9+._=,-]+", "-", self.name).strip("-.") or "arm"
        if len(plain) > 100 or plain != self.name.replace(":", "-"):
            plain = f"{plain[:90]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"
        return plain


def compare(
    arms: Sequence[Arm],
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    budget: Budget = "samples",
    progress: bool = True,
) -> Comparison:
    """Train every arm with every seed into OUT/ARM/seed-N and return how they compare.

    The same call goes on: runs that are finished are taken as they are. A run that fails is in
    `failed`, and the others are trained all the same. What an earlier call found into the same
    folder, of more seeds or other arms, stays. `precision="auto"` becomes one precision for
    all: bfloat16 on CUDA, else float32.

    Args:
        arms: the others are compared with the first.
        out: the comparison's folder; `comparison.json` is written after every run.
        seeds: of weights, order and views; arms are paired by them.
        budget: "samples": every arm sees the same images. "flops": every other arm's samples are
            scaled to the FLOPs of the first one's training, in whole steps.
        progress: draw progress bars.

    Raises:
        LiftError: arms that can't be compared, or bad input; nothing was trained.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    _require_comparable(arms, seeds)
    first = worker().rank == 0
    if not is_ours_or_empty(out, FILE):
        raise CheckpointError(f"{out} holds something else; choose another folder with --out.")
    arms = [Arm(arm.name, _pinned(arm.config)) for arm in arms]
    efforts = [_effort(arm, needed=budget == "flops") for arm in arms]
    if budget == "flops":
        arms, efforts = _scaled(arms, efforts)
    found = Comparison(  # of this call
        date="",
        versions=versions(),
        budget=budget,
        seeds=tuple(seeds),
        arms=tuple(
            _record(arm, arms[0], cost, budget) for arm, cost in zip(arms, efforts, strict=True)
        ),
    )
    found = going_on(found, out)
    with sole_writer(out) if first else contextlib.nullcontext():
        if first and not is_comparison(out):
            _saved(found, out)  # a comparison from now on, however it ends
        for seed in seeds:
            for number, arm in enumerate(arms):
                known = is_finished(out / arm.folder / f"seed-{seed}")
                found = _with_run(found, number, arm, seed, out, progress)
                figures(found)  # raises for results that do not compare
                if first and not known:
                    _saved(found, out)
        return _saved(found, out) if first else found


def _with_run(
    found: Comparison, number: int, arm: Arm, seed: int, out: Path, progress: bool
) -> Comparison:
    """Return the comparison with one more run in it, or with why there is none."""
    arms = [*found.arms]
    place = f"{arm.folder}/seed-{seed}"
    try:
        with measured(out / place) as meter:
            result = run(dataclasses.replace(arm.config, seed=seed), out / place, progress=progress)
    except LiftError as error:
        failed = Failed(arm=arm.name, seed=seed, why=str(error))
        arms[number] = without_run(arms[number], seed)
        return dataclasses.replace(found, arms=tuple(arms), failed=(*found.failed, failed))
    facts = read_facts(out / place)
    _require_same_pairs(found, out, facts, arm.name)
    ran = _ran(result, facts, seed, place, meter)
    arms[number] = with_run(arms[number], ran)
    return dataclasses.replace(found, arms=tuple(arms))


def _ran(
    result: RunResult, facts: Mapping[str, Any], seed: int, place: str, meter: dict[str, Any]
) -> Ran:
    return Ran(
        seed=seed,
        folder=place,
        steps=result.steps,
        parameters={name: int(n) for name, n in facts.get("parameters", {}).items()},
        seconds=round(result.seconds, 3),
        cpu_seconds=None if meter["lost"] else round(meter["cpu_seconds"], 2),
        precision=str(facts.get("precision", "")),
        device=str(facts.get("device", "")),
        scores=scores_of(result.results),
        notes=tuple(dict.fromkeys(note for r in result.results for note in r.notes)),
        versions=facts.get("versions", {}),
    )


def _saved(found: Comparison, out: Path) -> Comparison:
    """Write the comparison; one that says nothing new keeps its date."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if is_comparison(out):
        with contextlib.suppress(DataError):  # damaged: to be mended
            old = read_comparison(out)
            if to_dict(dataclasses.replace(found, date=old.date)) == to_dict(old):
                date = old.date
    found = dataclasses.replace(found, date=date)
    found.save(out)
    return found


# --- what compares with what --------------------------------------------------------------------


def _require_comparable(arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    """Raise ConfigError for arms, seeds or data between which nothing can be compared."""
    if len(arms) < 2:
        raise ConfigError("A comparison needs two arms or more: `lift compare A B --data ...`.")
    for what in ("name", "folder"):
        names = [getattr(arm, what) for arm in arms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"Two arms have the {what} {twice}; name each arm once.")
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds must be different numbers from 0 on, not {[*seeds]}.")
    for arm in arms:
        _require_trainable(arm)
        for name in ("data", "validation", "evaluations"):
            ours, theirs = getattr(arm.config, name), getattr(arms[0].config, name)
            if ours != theirs:
                raise ConfigError(
                    f"Arm {arm.name} has {name}={ours!r}, arm {arms[0].name} {theirs!r}: only arms "
                    "with the same data and the same evaluations compare."
                )


def _require_trainable(arm: Arm) -> None:
    """Raise LiftError for an arm that lacks something, or that nothing judges."""
    config = arm.config
    if not config.data:
        raise ConfigError(f"Arm {arm.name} has no pairs to train on: give them with --data.")
    if not config.validation or not config.evaluations:
        lacks = "validation" if not config.validation else "evaluations"
        how = {"validation": "--validation", "evaluations": "--set evaluations=retrieval"}
        raise ConfigError(
            f"Nothing judges arm {arm.name}, its {lacks} are empty: give {how[lacks]}."
        )
    if config.text_tower is None and not config.cache:
        raise ConfigError(
            f"Arm {arm.name} trains against stored rows: make them with `lift embed` and give "
            "their folder with --cache."
        )
    require_possible(config)


def _require_same_pairs(found: Comparison, out: Path, facts: Mapping[str, Any], arm: str) -> None:
    """Raise DataError where a run was not trained on the pairs of the run before it."""
    earlier = next((ran for record in found.arms for ran in record.runs), None)
    if earlier is None:
        return
    theirs, ours = (f.get("pairs", {}) for f in (read_facts(out / earlier.folder), facts))
    for name in ("samples", "digest"):
        if theirs.get(name) != ours.get(name):
            raise DataError(
                f"Arm {arm} was trained on other pairs than {earlier.folder} ({name} "
                f"{ours.get(name)}, not {theirs.get(name)}): only arms on the same data compare; "
                "choose another --out."
            )


def _pinned(config: RunConfig) -> RunConfig:
    """Return the config with a precision that no stopwatch chooses."""
    if config.precision != "auto":
        return config
    cuda = choose_device(config.device).type == "cuda"
    return dataclasses.replace(config, precision="bfloat16" if cuda else "float32")


# --- budgets ------------------------------------------------------------------------------------


def _effort(arm: Arm, *, needed: bool) -> Effort | None:
    """Return what an arm costs; None where it has no closed forms and nobody needs them."""
    try:
        return effort(arm.config)
    except ConfigError:
        if needed:
            raise
        return None


def _scaled(
    arms: Sequence[Arm], efforts: Sequence[Effort | None]
) -> tuple[list[Arm], list[Effort | None]]:
    """Return the arms with the samples that spend what the first arm spends, in whole steps."""
    whole = efforts[0]
    scaled: list[Arm] = []
    costs: list[Effort | None] = []
    for arm, cost in zip(arms, efforts, strict=True):
        assert cost is not None and whole is not None
        step = arm.config.step_samples
        steps = max(1, round(whole.run_flops / cost.sample_flops / step))
        samples = arm.config.samples if cost is whole else steps * step
        scaled.append(Arm(arm.name, dataclasses.replace(arm.config, samples=samples)))
        costs.append(dataclasses.replace(cost, samples=samples // step * step))
    return scaled, costs


def _record(arm: Arm, first: Arm, cost: Effort | None, budget: Budget) -> ArmRecord:
    config = {
        name: value for name, value in to_dict(arm.config.resolved()).items() if name != "seed"
    }
    found = [] if arm is first else [*differences(first.config, arm.config)]
    if budget == "flops":
        found = [one for one in found if one.option != "samples"]
    of_method = [is_of_method(one) for one in found]
    return ArmRecord(
        name=arm.name,
        folder=arm.folder,
        config=config,
        method=tuple(one for one, is_one in zip(found, of_method, strict=True) if is_one),
        not_matched=tuple(one for one, is_one in zip(found, of_method, strict=True) if not is_one),
        effort=cost,
        before=tuple(before(arm.config)),
    )
