"""What a run takes of memory: reported while it runs, and advice where there was not enough."""

from __future__ import annotations

import os
import resource
import sys

import torch

from lift.errors import NotEnoughMemory
from lift.training.budget import Budget
from lift.training.config import RunConfig

_SAID = ("can't allocate memory", "not enough memory", "out of memory")


def peak_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: of the GPU's, else of this process (workers apart)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def total_bytes(device: torch.device) -> int:
    """Return what the device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _SAID)


def shortage(
    config: RunConfig, needs: Budget, checkpointed: Budget, device: torch.device, ranks: int
) -> NotEnoughMemory:
    """Return what to raise where memory ran out: what to change, with numbers.

    Args:
        config: of the run.
        needs: of the run as it is.
        checkpointed: of the same run with `tower.checkpoint_activations=true`.
        device: that had too little.
        ranks: how many share a batch.
    """
    batch = -(-config.loader.batch_size // ranks)
    total = total_bytes(device)
    one, slim = (_each(budget, config, device) for budget in (needs, checkpointed))
    spare = max(0.0, 0.9 * total - needs.weight_bytes)
    fits = max(1, int(spare / max(one, 1)))
    pieces = min(2, batch)  # it did not fit, whatever is told here: others may hold memory too
    while batch / pieces > fits and pieces < batch:
        pieces *= 2
    smaller = config.loader.batch_size // pieces
    steps = config.optim.accumulate * pieces
    say = [
        f"Out of memory on {device} ({_gb(total)}): {batch:,} images keep about "
        f"{_gb(one * batch)} for the backward pass, weights and moments take "
        f"{_gb(needs.weight_bytes)}."
    ]
    if pieces > 1 and smaller:
        say.append(
            f"Say --set loader.batch_size={smaller} optim.accumulate={steps}: about "
            f"{_gb(one * batch // pieces)}, and every image still meets all texts of the step;"
        )
    else:
        say.append("Say --set loader.batch_size=N with a smaller N;")
    if slim < one:
        towers = ("tower", "text_tower") if config.text_tower else ("tower",)
        words = " ".join(f"{tower}.checkpoint_activations=true" for tower in towers)
        say.append(f"or --set {words}: about {_gb(slim * batch)}, a third slower.")
    say.append(
        "The last checkpoint is whole, but those options begin another run: give another --out."
    )
    return NotEnoughMemory(" ".join(say))


def _each(budget: Budget, config: RunConfig, device: torch.device) -> int:
    """Return what an image and its captions add in the precision of the run, as far as known."""
    if config.precision == "float64":
        return 2 * budget.activation_bytes
    narrow = config.precision == "bfloat16" or (
        config.precision == "auto" and device.type == "cuda"
    )
    return budget.bfloat16_bytes if narrow else budget.activation_bytes


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
