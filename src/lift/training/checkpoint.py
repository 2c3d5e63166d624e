"""The state of a run on disk: saved whole or not at all, restored to the bit, without pickle."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lift.errors import CheckpointError
from lift.files import remove_partial, whole_folder
from lift.model import save_tensors

FORMAT = 2
"""Format 1 also held the states of random generators; now a step's chance has an address."""

KEEP = 2
"""Checkpoints kept: the newest, and one before it should a disk lie about having written."""

_NAME = re.compile(r"step-(\d{8})")


@dataclass
class TrainState:
    """All that a run is made of between two steps.

    Attributes:
        step: optimiser steps done; also the position in the data and in all chance, which
            depend on seed and step alone.
        model: both sides and the objective.
        optimizer: its moments.
        mean: running mean of the weights, where the run keeps one.
        counters: what was left out, by name.
        best: the sides and objective of the best evaluation so far, where the run ends early.
        best_score: its first figure.
        best_step: the steps that it had.
        waited: evaluations since then.
        given_up: whether the run has ended early.
        still: names (their beginnings) of tensors that never move and are found again without a
            checkpoint.
        unreadable: numbers of samples that could not be used and were met so far.
        seconds: wall time of the steps so far.
    """

    step: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    mean: nn.Module | None
    counters: dict[str, int]
    seconds: float = 0.0
    best: nn.Module | None = None
    best_score: float = -math.inf
    best_step: int = 0
    waited: int = 0
    given_up: bool = False
    still: tuple[str, ...] = ()
    unreadable: set[str] = field(default_factory=set)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter."""
        self.counters[what] = self.counters.get(what, 0) + number


def save(folder: Path, state: TrainState) -> Path:
    """Write `folder/step-XXXXXXXX`, then drop all but the last few.

    Raises:
        StorageError: the disk refused; older checkpoints stay.
    """
    path = folder / f"step-{state.step:08d}"
    with whole_folder(path) as aside:
        for name, module in _modules(state).items():
            save_tensors(_moving(state, module), aside / f"{name}.safetensors")
        save_tensors(_moments(state.optimizer), aside / "optimizer.safetensors")
        facts = {
            "format": FORMAT,
            "step": state.step,
            "counters": state.counters,
            "seconds": state.seconds,
            **({"best": [getattr(state, name) for name in _BEST]} if state.best_step else {}),
            "unreadable": sorted(state.unreadable),
        }
        (aside / "state.json").write_text(json.dumps(facts, indent=2) + "\n")
    for old in steps(folder)[:-KEEP]:
        shutil.rmtree(folder / f"step-{old:08d}")
    return path


def steps(folder: Path, *, clear: bool = True) -> list[int]:
    """Return the steps that have a checkpoint, ascending; what a kill left aside is cleared."""
    if not folder.is_dir():
        return []
    if clear:
        remove_partial(folder)
    found = (_NAME.fullmatch(p.name) for p in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def restore(folder: Path, state: TrainState, step: int | None = None) -> None:
    """Load a checkpoint of `folder` into `state`: that of `step`, else the newest.

    Raises:
        CheckpointError: its format is newer, or its tensors are damaged or don't fit.
    """
    step = steps(folder, clear=False)[-1] if step is None else step
    path = folder / f"step-{step:08d}"
    try:
        facts = json.loads((path / "state.json").read_text())
        if facts["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {facts['format']}, this version reads {FORMAT}: "
                "use the version of lift that wrote it."
            )
        for name, value in zip(_BEST, facts.get("best", ()), strict=False):
            setattr(state, name, value)
        for name, module in _modules(state).items():
            found = load_file(path / f"{name}.safetensors")
            whole = module.state_dict()
            if lacking := _moving(state, module).keys() - found.keys():
                raise KeyError(f"{name} lacks {min(lacking)}")
            module.load_state_dict({**whole, **found})
        _restore_moments(state.optimizer, load_file(path / "optimizer.safetensors"))
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"Checkpoint {path} can't be used ({str(error).splitlines()[0]}); "
            "remove that folder to go on from the one before it."
        ) from error
    state.step = facts["step"]
    state.counters.clear()
    state.counters.update(facts["counters"])
    state.seconds = facts["seconds"]
    state.unreadable = set(facts["unreadable"])


_BEST = ("best_score", "best_step", "waited", "given_up")


def _modules(state: TrainState) -> dict[str, nn.Module]:
    """Return what is saved, by the name of its file."""
    best = state.best if state.best_step else None  # before the first evaluation there is none
    held = {"model": state.model, "mean": state.mean, "best": best}
    return {name: module for name, module in held.items() if module is not None}


def _moving(state: TrainState, module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module that training may change."""
    return {
        name: value
        for name, value in module.state_dict().items()
        if not (state.still and name.startswith(state.still))
    }


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's tensors as `<parameter number>.<name>`."""
    flat = {}
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            flat[f"{number}.{name}"] = torch.as_tensor(value)
    return flat


def _restore_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
