"""FLOPs of a recipe's step: as torch counts them, in closed form, and those of the loss."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from lift import plugins
from lift.training.config import RunConfig
from lift.training.effort import image_flops, text_flops
from lift.training.kept import sides


def counted_flops(config: RunConfig) -> float:
    """Return FLOPs of a pair, forward and backward, as torch counts what is executed."""
    total = 0
    with torch.device("meta"):  # where attention is spelled out, and counted
        for computed in sides(config, config.dimensions):
            with FlopCounterMode(display=False) as counter:
                computed.side(computed.batch(2)).sum().backward()
            total += counter.get_total_flops() / 2
    return total


def closed_flops(config: RunConfig) -> float:
    """Return FLOPs of a pair, forward and backward, in closed form; nothing counts twice."""
    total = image_flops(config, config.dimensions)
    if config.text_tower is not None:
        context = plugins.configure(config.text_tower).context
        total += text_flops(config, config.text_tower, context)
    return total


def loss_flops(config: RunConfig) -> float:
    """Return FLOPs of the loss for one pair, over all the step's texts.

    Forward, forward again where tiles are not kept, and the images' gradient; where texts are
    trained, theirs too.
    """
    products = 3 if config.text_tower is None else 4
    return products * 2.0 * config.step_samples * config.dimensions
