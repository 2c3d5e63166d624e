"""What is trained and how fast: AdamW's groups, frozen blocks, a step's rate, mean weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lift.errors import ConfigError
from lift.training.config import OptimConfig


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0, text_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Return groups of the trained parameters by weight decay and rate.

    Tensors of two axes or more have decay; vectors and scalars have none. Position tables count as
    matrices, as in OpenCLIP and the paper's code.

    Args:
        model: what is trained.
        weight_decay: of matrices.
        layer_decay: `scale` of a group is `layer_decay ** layers above it` (Bao et al. 2021,
            BEiT): a tower's input is layer 0, its blocks follow, what comes after is the last.
        text_rate: `scale` of the text tower's groups, besides.
    """
    above = _layers_above(model)
    text = getattr(getattr(model, "text", None), "tower", None)
    of_text = {id(parameter) for parameter in text.parameters()} if text is not None else set()
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        scale = layer_decay ** above.get(id(parameter), 0)
        scale *= text_rate if id(parameter) in of_text else 1.0
        found.setdefault((decay, scale), []).append(parameter)
    # With decay first, then from the top layer down: without layer decay, two groups.
    ordered = sorted(found.items(), key=lambda group: (-group[0][0], -group[0][1]))
    return [
        {"params": parameters, "weight_decay": decay, "scale": scale}
        for (decay, scale), parameters in ordered
    ]


def freeze_but_last(tower: nn.Module, blocks: int) -> list[str]:
    """Hold a tower still but for its last blocks and what comes after them; name what is trained.

    Nothing that was held still before is trained because of it.

    Args:
        tower: with `blocks`, or blocks in a `ModuleList`.
        blocks: how many are trained; what comes after them (final norm, pooling) is, too.

    Raises:
        ConfigError: fewer than 1, more than there are, or a tower that has none.
    """
    if blocks < 1:
        raise ConfigError(
            f"last_blocks must be at least 1, not {blocks}; to train no block at all, freeze the "
            "tower."
        )
    above = _of_tower(tower)
    depth = len(_blocks(tower))
    if not depth:
        raise ConfigError(
            f"The tower {type(tower).__name__} has no blocks of which the last could be trained: "
            "leave out last_blocks, or freeze the tower."
        )
    if blocks > depth:
        raise ConfigError(
            f"last_blocks={blocks}, but the tower has {depth} block{'s' * (depth > 1)}: lower it, "
            "or leave it out to train the whole tower."
        )
    for parameter in tower.parameters():
        if above[id(parameter)] > blocks:
            parameter.requires_grad_(False)
    return [name for name, parameter in tower.named_parameters() if parameter.requires_grad]


def rest_frozen(module: nn.Module) -> None:
    """Put all parts of which nothing is trained at rest; called after `module.train()`.

    What is held still drops nothing, and its running means (of batch norms) stay as they are.
    """
    for part in module.modules():
        held = [*part.parameters()]
        if held and not any(parameter.requires_grad for parameter in held):
            part.eval()


def _layers_above(model: nn.Module) -> dict[int, int]:
    """Return how many layers lie above each parameter of a tower, by the parameter's id."""
    found: dict[int, int] = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "tower":
            # A tower may be made of another one: the outer one knows its blocks.
            found = {**_of_tower(module), **found}
    return found


def _of_tower(tower: nn.Module) -> dict[int, int]:
    """Return the same of one tower.

    What is registered before the blocks, and what the tower itself holds, is its input; what is
    registered after them comes after them. A tower in which that is otherwise names what comes
    after its blocks in `behind` (open_clip's projection).
    """
    blocks = _blocks(tower)
    depth = len(blocks)
    found = {id(p): depth - n for n, block in enumerate(blocks) for p in block.parameters()}
    behind = tuple(getattr(tower, "behind", ()))
    seen = not blocks
    for name, parameter in tower.named_parameters():
        if id(parameter) in found:
            seen = True
            continue
        last = seen or any(name == one or name.startswith(f"{one}.") for one in behind)
        found[id(parameter)] = 0 if last else depth + 1
    return found


def _blocks(tower: nn.Module) -> list[nn.Module]:
    """Return a tower's blocks from the first to the last, empty where it has none.

    They are what its `blocks` says, else the `ModuleList` that holds most of its weights.
    """
    said = getattr(tower, "blocks", None)
    if said is not None:
        return list(said)
    lists = [module for module in tower.modules() if isinstance(module, nn.ModuleList)]
    sizes = [sum(p.numel() for p in module.parameters()) for module in lists]
    return list(lists[sizes.index(max(sizes))]) if lists else []


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW (fused: one pass over the weights, on CPU too) over the trained parameters."""
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay, config.layer_decay, config.text_rate),
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
