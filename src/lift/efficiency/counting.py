"""What torch computes while something runs, which weights it reads, and what memory it takes."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


_UNKNOWN = {"_scaled_dot_product_flash_attention_for_cpu": _cpu_attention}
"""Products that torch's counter (2.13) does not know by name."""


class Counted(NamedTuple):
    """What one run took: numbers in the weights that it read, operations of its products."""

    parameters: int
    flops: int


def count(run: Callable[[], object], weights: Sequence[nn.Module] = ()) -> Counted:
    """Return what torch computes while something runs, by its real forward pass.

    Attention that torch would compute in one fused kernel without a formula takes its plain way.

    Args:
        run: what runs, in this thread.
        weights: networks of which those weights count that it reads: half of a model of two towers.
    """
    aten = torch.ops.aten
    known = {getattr(aten, k): v for k, v in _UNKNOWN.items() if hasattr(aten, k)}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    trained = [p for network in weights for p in network.parameters() if p.requires_grad]
    try:
        # torch's counter asks what goes into a layer for its gradient, and a weight that does (the
        # query of a pooling) has none in inference mode.
        for parameter in trained:
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False, custom_mapping=known) as counter:
            with _Reads(weights) as reads:
                run()
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        torch.backends.mha.set_fastpath_enabled(fused)
    return Counted(reads.total(), int(counter.get_total_flops()))


class _Reads(TorchDispatchMode):
    """Notes which parameters operations read."""

    def __init__(self, weights: Sequence[nn.Module]) -> None:
        super().__init__()
        self._sizes = {id(p): p.numel() for m in weights for p in m.parameters()}
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._seen.update(id(leaf) for leaf in tree_leaves((args, kwargs or {})))
        return func(*args, **(kwargs or {}))

    def total(self) -> int:
        return sum(size for each, size in self._sizes.items() if each in self._seen)


def networks_of(encoder: object) -> list[nn.Module] | None:
    """Return the networks that an encoder holds; None where it holds none."""
    return [value for value in vars(encoder).values() if isinstance(value, nn.Module)] or None


def peak_memory(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the bytes that a block takes at most; see `Work.memory`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if device.type != "cpu" or not status.is_file():
        run()
        return None
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):  # the kernel's high-water mark starts anew
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident(status, "VmRSS")
    run()
    return max(0, _resident(status, "VmHWM") - before)


def _resident(status: Path, name: str) -> int:
    lines: Iterator[str] = iter(status.read_text().splitlines())
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
