"""Learning rate, groups and the mean of weights against their formulas."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from lift import plugins
from lift.config import part
from lift.training.config import OptimConfig
from lift.training.optim import learning_rate, make_optimizer, parameter_groups, update_mean


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine() -> None:
    config = OptimConfig(lr=2.0, warmup_steps=10, final_lr=0.1)
    rates = [learning_rate(step, 110, config) for step in range(110)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(0.2 + 1.8 * 0.5)
    assert rates[35] == pytest.approx(0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert rates[-1] < 0.21
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_only_matrices_decay() -> None:
    tower = plugins.build(
        part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=16, pre_norm=True)
    )
    objective = plugins.build(part("objectives", "sigmoid"))
    both = nn.ModuleDict({"tower": tower, "objective": objective})
    decayed, free = parameter_groups(both, 0.2)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.2, 0.0)
    names = {id(p): name for name, p in both.named_parameters()}
    assert all("weight" in names[id(p)] or p.ndim >= 2 for p in decayed["params"])
    kept = {names[id(p)] for p in free["params"]}
    assert all(names[id(p)] in kept for p in objective.parameters())
    assert all(n in kept for n in names.values() if n.endswith("bias"))
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_adamw_takes_the_step_of_its_formula() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    config = OptimConfig(lr=0.1, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    optimizer = make_optimizer(layer, config)
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    layer(torch.randn(4, 3)).square().sum().backward()
    grads = layer.weight.grad.double(), layer.bias.grad.double()
    optimizer.step()
    # First step: both moments are bias-corrected to the gradient and its square.
    for new, old, grad, decay in (
        (layer.weight, weight, grads[0], 0.2),
        (layer.bias, bias, grads[1], 0.0),
    ):
        expected = old * (1 - 0.1 * decay) - 0.1 * grad / (grad.abs() + 1e-6)
        assert torch.allclose(new.detach().double(), expected, atol=1e-6)


def test_the_mean_of_weights_follows() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    mean = copy.deepcopy(layer)
    expected = layer.weight.detach().double().clone()
    for step in range(30):
        with torch.no_grad():
            layer.weight.add_(torch.randn(2, 3))
        update_mean(mean, layer, 0.9, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach().double()
    assert torch.allclose(mean.weight.double(), expected, atol=1e-5)
