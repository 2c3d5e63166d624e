"""Rates, groups, layers, frozen blocks and the mean of weights against their formulas."""

from __future__ import annotations

import copy
import itertools
import math
import re

import pytest
import torch
from torch import nn

from lift import plugins
from lift.config import part
from lift.errors import ConfigError
from lift.training.config import OptimConfig
from lift.training.optim import (
    freeze_but_last,
    learning_rate,
    make_optimizer,
    parameter_groups,
    rest_frozen,
    update_mean,
)


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


# --- layers --------------------------------------------------------------------------------------

SMALL = {"width": 16, "depth": 3, "heads": 2, "patch": 8, "resolution": 16}


class Foreign(nn.Module):
    """A network as other libraries have them, in a tower that names its blocks or doesn't."""

    def __init__(self, *, named: bool, behind: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(4))
        self.projection = nn.Parameter(torch.zeros(4, 4))
        self.network = nn.Module()
        self.network.embeddings = nn.Linear(4, 4)
        self.network.encoder = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.network.adapter = nn.ModuleList([nn.Linear(4, 1)])
        self.pool = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.behind = behind
        if named:
            self.blocks = [*self.network.encoder]  # no second registration: a plain list


def rates(model: nn.Module, decay: float = 0.5) -> dict[str, float]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, decay)
    return {names[id(p)]: group["scale"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("named", [False, True])
def test_towers_of_other_libraries_have_layers_too(named: bool) -> None:
    tower = Foreign(named=named, behind=("projection",))
    found = rates(nn.ModuleDict({"tower": tower, "head": nn.Linear(4, 2)}))
    expected = {
        "tower.position": 0.5**4,
        "tower.projection": 1.0,
        "tower.network.embeddings.weight": 0.5**4,
        "tower.network.encoder.0.weight": 0.5**3,
        "tower.network.encoder.2.bias": 0.5,
        "tower.network.adapter.0.weight": 1.0,
        "tower.pool.0.weight": 1.0,
        "head.weight": 1.0,
    }
    assert {name: found[name] for name in expected} == expected
    assert len(found) == len([*tower.parameters()]) + 2
    unsaid = rates(nn.ModuleDict({"tower": Foreign(named=named)}))
    assert unsaid["tower.projection"] == 0.5**4


def test_layers_of_the_own_towers_are_what_they_were() -> None:
    """Against the names that said it before towers did."""
    shape = {**SMALL, "pooling": "attention", "class_token": True, "pre_norm": True}
    text = {"width": 16, "depth": 2, "heads": 2, "context": 8, "vocabulary": 300}
    both = nn.ModuleDict(
        {
            "image": nn.ModuleDict({"tower": plugins.build(part("towers", "vit", **shape))}),
            "text": nn.ModuleDict(
                {"tower": plugins.build(part("text_towers", "transformer", **text))}
            ),
        }
    )
    for name, scale in rates(both).items():
        side, _, inner = name.partition(".tower.")
        depth = 3 if side == "image" else 2
        block = re.match(r"blocks\.(\d+)\.", inner)
        is_input = re.match(r"(patch|position|class_token|norm_pre|token)\b", inner)
        above = depth - int(block[1]) if block else depth + 1 if is_input else 0
        assert scale == 0.5**above, name


def test_layers_of_a_pretrained_text_tower() -> None:
    network = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2}
    more = {"num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    tower = plugins.build(part("text_towers", "pretrained", context=8, network={**network, **more}))
    found = rates(nn.ModuleDict({"tower": tower}))
    layers = {name.split("network.")[1]: scale for name, scale in found.items()}
    assert layers["embeddings.word_embeddings.weight"] == 0.5**3
    assert layers["embeddings.LayerNorm.weight"] == 0.5**3
    assert layers["encoder.layer.0.output.dense.weight"] == 0.5**2
    assert layers["encoder.layer.1.output.dense.bias"] == 0.5


def test_a_tower_without_blocks_has_one_rate() -> None:
    model = nn.ModuleDict({"tower": nn.Linear(3, 3)})
    assert set(rates(model).values()) == {1.0}


# --- the last blocks -----------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_only_the_last_blocks_are_trained(blocks: int) -> None:
    torch.manual_seed(0)
    shape = {**SMALL, "pooling": "attention", "class_token": True, "pre_norm": True}
    tower = plugins.build(part("towers", "vit", **shape))
    names = freeze_but_last(tower, blocks)
    trained = {name.rpartition(".")[0].split(".")[0] for name in names}
    assert trained == {"blocks", "norm", "pool"}
    numbers = {int(name.split(".")[1]) for name in names if name.startswith("blocks")}
    assert numbers == set(range(3 - blocks, 3))
    kept = {name: value.clone() for name, value in tower.state_dict().items()}
    optimizer = make_optimizer(nn.ModuleDict({"tower": tower}), OptimConfig(lr=0.01))
    tower(torch.randn(2, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    moved = {n for n, value in tower.state_dict().items() if not torch.equal(value, kept[n])}
    assert moved <= {*names} and {n.split(".")[0] for n in moved} == trained


def test_what_was_frozen_before_stays_frozen() -> None:
    tower = Foreign(named=True)
    tower.pool.requires_grad_(False)
    names = freeze_but_last(tower, 2)
    assert names == [f"network.encoder.{n}.{k}" for n in (1, 2) for k in ("weight", "bias")] + [
        "network.adapter.0.weight",
        "network.adapter.0.bias",
    ]


def test_what_is_frozen_is_at_rest() -> None:
    tower = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)),
                          nn.Linear(4, 4), nn.Dropout(0.5)).train()  # fmt: skip
    tower[0].requires_grad_(False)
    rest_frozen(tower)
    assert [part.training for part in tower] == [False, True, True]
    assert not any(module.training for module in tower[0].modules()) and tower.training
    before = tower[0][1].running_mean.clone()
    tower(torch.randn(8, 4))
    assert torch.equal(tower[0][1].running_mean, before)


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        (4, "last_blocks=4, but the tower has 3 blocks: lower it"),
        (0, "last_blocks must be at least 1, not 0"),
        (-2, "last_blocks must be at least 1, not -2"),
    ],
)
def test_blocks_that_are_not_there(blocks: int, sentence: str) -> None:
    tower = plugins.build(part("towers", "vit", **SMALL))
    with pytest.raises(ConfigError, match=sentence):
        freeze_but_last(tower, blocks)
    assert all(parameter.requires_grad for parameter in tower.parameters())


def test_towers_without_blocks_say_so() -> None:
    with pytest.raises(ConfigError, match="The tower Linear has no blocks"):
        freeze_but_last(nn.Linear(3, 3), 1)
