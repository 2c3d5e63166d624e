"""AdamW's groups, the learning rate of a step, the mean of weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lift.training.config import OptimConfig


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return groups of the trained parameters by weight decay and rate.

    Tensors of two axes or more have decay; vectors and scalars have none. Position tables count as
    matrices, as in OpenCLIP and the paper's code.

    Args:
        model: what is trained.
        weight_decay: of matrices.
        layer_decay: `scale` of a group is `layer_decay ** layers above it` (Bao et al. 2021,
            BEiT): a tower's input is layer 0, its blocks follow, what comes after is the last.
    """
    depths = _depths(model)
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        scale = layer_decay ** _layers_above(name, depths)
        found.setdefault((decay, scale), []).append(parameter)
    # With decay first, then from the top layer down: without layer decay, two groups.
    ordered = sorted(found.items(), key=lambda group: (-group[0][0], -group[0][1]))
    return [
        {"params": parameters, "weight_decay": decay, "scale": scale}
        for (decay, scale), parameters in ordered
    ]


_BLOCK = re.compile(r"((?:.*\.)?tower)\.(?:blocks|.*\.layers?)\.(\d+)\.")
_INPUT = re.compile(
    r"((?:.*\.)?tower)\.(?:patch|position|class_token|norm_pre|token|.*\bembeddings)\b"
)


def _depths(model: nn.Module) -> dict[str, int]:
    """Return the number of blocks of each tower, by its name."""
    found: dict[str, int] = {}
    for name, _ in model.named_parameters():
        if match := _BLOCK.match(name):
            found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return found


def _layers_above(name: str, depths: Mapping[str, int]) -> int:
    if match := _BLOCK.match(name):
        return depths[match[1]] - int(match[2])
    if (match := _INPUT.match(name)) and match[1] in depths:
        return depths[match[1]] + 1
    return 0


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW (fused: one pass over the weights, on CPU too) over the trained parameters."""
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay, config.layer_decay),
        lr=config.lr,
        betas=(beta1, beta2),
        eps=config.eps,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate, scaled as its layer says."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Return the rate of optimiser step `step` (0-based): linear warm-up, then half a cosine."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.lr * (config.final_lr + (1 - config.final_lr) * cosine)


@torch.no_grad()
def update_mean(mean: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the running mean of weights towards the model's: `mean += (1 - decay) * difference`.

    Early steps use the smaller decay (1 + step) / (10 + step), so that the mean does not carry
    the random start around. What the mean lacks of the model (the objective) has no mean.
    """
    rate = 1 - min(decay, (1 + step) / (10 + step))
    new = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, held in mean.named_parameters():
        held.lerp_(new[name], rate)
    for name, held in mean.named_buffers():
        held.copy_(new[name])
