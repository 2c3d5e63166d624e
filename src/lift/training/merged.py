"""A comparison that goes on: what an earlier call found stays, also where a later one asks less."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lift.errors import CheckpointError, DataError
from lift.training.compared import (
    ArmRecord,
    Comparison,
    Failed,
    Ran,
    is_comparison,
    read_comparison,
)
from lift.training.folder import MARKER, MAY_CHANGE, read_facts


def is_finished(folder: Path) -> bool:
    """Return whether a run is."""
    return (folder / MARKER).exists() and read_facts(folder).get("status") == "finished"


def going_on(found: Comparison, out: Path) -> Comparison:
    """Return a comparison that is about to run, with what is in its folder already.

    Kept are finished runs of other seeds and of other arms. A damaged record is as none.

    Args:
        found: arms and seeds of this call, without runs.
        out: the folder.

    Raises:
        CheckpointError: finished runs there are compared with another arm, at another budget, or
            are of other options.
    """
    old = None
    if is_comparison(out):
        with contextlib.suppress(DataError):  # damaged: to be mended
            old = read_comparison(out)
    if old is None:
        return found
    arms = [_with_finished(arm, out) for arm in old.arms]
    if not any(arm.runs for arm in arms):
        return found
    _require_same(old, arms, found, out)
    known = {arm.name: arm for arm in arms}
    asked = [
        dataclasses.replace(arm, runs=known[arm.name].runs) if arm.name in known else arm
        for arm in found.arms
    ]
    names = {arm.name for arm in asked}
    kept = [*asked, *(arm for arm in arms if arm.runs and arm.name not in names)]
    failed = [one for one in old.failed if _is_still_so(one, found, {arm.name for arm in kept})]
    ran = {run.seed for arm in kept for run in arm.runs} | {one.seed for one in failed}
    seeds = [seed for seed in old.seeds if seed in ran or seed in found.seeds]
    return dataclasses.replace(
        found,
        arms=tuple(kept),
        failed=tuple(failed),
        seeds=tuple(dict.fromkeys((*seeds, *found.seeds))),
    )


def with_run(arm: ArmRecord, ran: Ran) -> ArmRecord:
    """Return an arm with one more run in its place among its seeds, or with it anew."""
    runs = [*without_run(arm, ran.seed).runs, ran]
    return dataclasses.replace(arm, runs=tuple(sorted(runs, key=lambda run: run.seed)))


def without_run(arm: ArmRecord, seed: int) -> ArmRecord:
    """Return an arm without the run of a seed."""
    return dataclasses.replace(arm, runs=tuple(run for run in arm.runs if run.seed != seed))


def _with_finished(arm: ArmRecord, out: Path) -> ArmRecord:
    return dataclasses.replace(
        arm, runs=tuple(run for run in arm.runs if is_finished(out / run.folder))
    )


def _is_still_so(one: Failed, found: Comparison, kept: set[str]) -> bool:
    """Return whether a run that failed is not asked for again."""
    asked = one.seed in found.seeds and one.arm in {arm.name for arm in found.arms}
    return one.arm in kept and not asked


def _require_same(old: Comparison, arms: list[ArmRecord], found: Comparison, out: Path) -> None:
    if old.arms[0].name != found.arms[0].name:
        raise CheckpointError(
            f"{out} compares with {old.arms[0].name}, not with {found.arms[0].name}: name "
            f"{old.arms[0].name} first, or give another --out."
        )
    if old.budget != found.budget:
        raise CheckpointError(
            f"{out} compares at equal {old.budget}, not {found.budget}: give --budget "
            f"{old.budget}, or another --out."
        )
    known = {arm.name: arm for arm in arms if arm.runs}
    for arm in found.arms:
        was = known[arm.name].config if arm.name in known else arm.config
        for where, theirs, ours in _differences(was, arm.config, ""):
            raise CheckpointError(
                f"{out} holds arm {arm.name} with {where}={theirs!r}, not {ours!r}: give the same "
                "options to go on with it, or another --out."
            )


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any, Any]]:
    """Yield options that both know and that differ; the run itself says what one lacks."""
    for name in old.keys() & new.keys():
        path, one, other = f"{where}{name}", old[name], new[name]
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{path}.")
        elif one != other and path not in MAY_CHANGE:
            yield path, one, other
