"""What a run would cost, before it is run: parameters, FLOPs, memory, steps, cache.

Everything is counted on torch's meta device from the modules that would run; nothing is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lift.model import Side, build_side, count_parameters
from lift.training.config import RunConfig

BYTES_PER_PARAMETER = 16
"""float32 weight, gradient and AdamW's two moments."""


@dataclass(frozen=True)
class Budget:
    """What a run would cost.

    Attributes:
        tower_parameters, head_parameters: numbers trained.
        forward_flops, step_flops: of one sample, forward, and forward plus backward
            (1 multiply-add = 2 FLOPs); tower and head.
        weight_bytes: weights, gradients and moments.
        activation_bytes: kept for the backward pass, float32, one sample.
        batch: images of a step; `accumulate` batches of `batch / accumulate` in turn.
        accumulate: see `OptimConfig`.
        steps: optimiser steps.
        samples: images seen.
        cache_rows, cache_bytes: float16 rows for one caption a pair (0: pairs unknown).
        dimensions: of the text space.
    """

    tower_parameters: int
    head_parameters: int
    forward_flops: int
    step_flops: int
    weight_bytes: int
    activation_bytes: int
    batch: int
    accumulate: int
    steps: int
    samples: int
    cache_rows: int
    cache_bytes: int
    dimensions: int

    def table(self) -> str:
        """Return the budget as aligned text."""
        memory = self.weight_bytes + self.activation_bytes * self.batch // self.accumulate
        per_batch = self.batch // self.accumulate
        half = self.weight_bytes + self.activation_bytes * per_batch // 2
        rows = [
            ("parameters", f"{self.tower_parameters + self.head_parameters:,}"),
            ("  tower", f"{self.tower_parameters:,}"),
            ("  head", f"{self.head_parameters:,}"),
            ("FLOPs a sample, forward", f"{self.forward_flops / 1e9:.2f} GF"),
            ("FLOPs a sample, forward and backward", f"{self.step_flops / 1e9:.1f} GF"),
            ("FLOPs of the run", f"{self.step_flops * self.samples:.3g}"),
            ("steps", f"{self.steps:,} of {self.batch:,} images ({self.samples:,} seen)"),
            ("weights, gradients, moments", _bytes(self.weight_bytes)),
            ("activations a sample, float32", _bytes(self.activation_bytes)),
            (f"memory at batch {per_batch:,}, float32", _bytes(memory)),
            (f"memory at batch {per_batch:,}, bfloat16 (about)", _bytes(half)),
            ("text space", f"{self.dimensions} dimensions"),
        ]
        if self.cache_rows:
            size = _bytes(self.cache_bytes)
            rows.append(("cache, float16", f"{size} for {self.cache_rows:,} captions"))
        wide = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows)


def budget(config: RunConfig, dimensions: int, pairs: int = 0) -> Budget:
    """Count what `config` would cost in a text space of `dimensions`.

    Args:
        config: the run.
        dimensions: width of the text space.
        pairs: distinct captions to store; 0 takes the recipe's own figure.
    """
    with torch.device("meta"):
        side = build_side(config.image, None, dimensions)
        pixels = torch.empty(2, 3, config.transform.resolution, config.transform.resolution)
    side.eval()  # every patch and path counts
    forward, both = _flops(side, pixels)
    rows = pairs or config.pairs
    return Budget(
        tower_parameters=count_parameters(side.tower) if side.tower else 0,
        head_parameters=count_parameters(side.head) if side.head else 0,
        forward_flops=forward // len(pixels),
        step_flops=both // len(pixels),
        weight_bytes=BYTES_PER_PARAMETER * count_parameters(side),
        activation_bytes=_saved_bytes(side, pixels) // len(pixels),
        batch=config.step_samples,
        accumulate=config.optim.accumulate,
        steps=config.steps,
        samples=config.steps * config.step_samples,
        cache_rows=rows,
        cache_bytes=rows * dimensions * 2,
        dimensions=dimensions,
    )


def _flops(side: Side, pixels: Tensor) -> tuple[int, int]:
    """Return counted FLOPs of the batch: forward, and forward plus backward."""
    with FlopCounterMode(display=False) as counter:
        z = side(pixels)
        forward = counter.get_total_flops()
        z.sum().backward()
        return forward, counter.get_total_flops()


def _saved_bytes(side: nn.Module, pixels: Tensor) -> int:
    """Return the bytes of distinct tensors that autograd keeps for the backward pass."""
    weights = {id(p) for p in side.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in weights:
            kept[id(base)] = base  # held, so that no id is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        side(pixels)
    return sum(tensor.nbytes for tensor in kept.values())


def _bytes(count: int) -> str:
    for name, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.2f} {name}"
    return f"{count / 1e3:.1f} kB"
