"""A checkpoint gives back the state to the bit, or says in one sentence why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lift.errors import CheckpointError
from lift.training.checkpoint import TrainState, restore, save, steps
from lift.training.config import OptimConfig
from lift.training.optim import make_optimizer


def state(seed: int, trained: int = 0) -> TrainState:
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    optimizer = make_optimizer(model, OptimConfig(lr=1e-2))
    for _ in range(trained):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return TrainState(trained, model, optimizer, nn.Linear(4, 3), {"dropped": seed}, 1.5)


def test_a_restored_state_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    saved = state(1, trained=3)
    save(tmp_path, saved)
    fresh = state(2)
    restore(tmp_path, fresh)
    assert (fresh.step, fresh.counters, fresh.seconds) == (3, {"dropped": 1}, 1.5)
    data = torch.randn(5, 4)
    for each in (saved, fresh):
        each.optimizer.zero_grad()
        each.model(data).square().sum().backward()
        each.optimizer.step()
    for a, b in zip(saved.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(saved.mean.parameters(), fresh.mean.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        one = state(1)
        one.step = step
        save(tmp_path, one)
    (tmp_path / ".partial-step-00000020").mkdir()
    assert steps(tmp_path) == [10, 15]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, state(1, trained=1))
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"step-00000001 can't be used .* remove that folder"):
        restore(tmp_path, state(2))


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, state(1, trained=1)) / "state.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 9'))
    with pytest.raises(CheckpointError, match="has format 9, this version reads 2"):
        restore(tmp_path, state(2))
