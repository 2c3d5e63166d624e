"""AdamW's groups, the learning rate of a step, gradient clipping, the mean of weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from lift.training.config import OptimConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Return two groups: tensors of two axes or more with decay; vectors and scalars without.

    Position tables count as matrices, as in OpenCLIP and the paper's code.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW (fused: one pass over the weights, on CPU too) over the trained parameters."""
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.lr,
        betas=(beta1, beta2),
        eps=config.eps,
        fused=True,
    )


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
    the random start around.
    """
    rate = 1 - min(decay, (1 + step) / (10 + step))
    for held, new in zip(mean.parameters(), model.parameters(), strict=True):
        held.lerp_(new, rate)
    for held, new in zip(mean.buffers(), model.buffers(), strict=True):
        held.copy_(new)
