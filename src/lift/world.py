"""Where a run computes: device, threads, precision. One process for now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch

from lift.errors import ConfigError

Precision = Literal["float32", "bfloat16"]


def choose_device(name: str = "auto") -> torch.device:
    """Return the device to compute on: cuda, else mps, else cpu, unless one is named.

    Raises:
        ConfigError: the named device is not usable here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"Device {name!r} can't be used here ({str(error).splitlines()[0]}); "
            "use device=auto, cpu, cuda or mps."
        ) from error
    return device


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with `count` torch threads: sums over threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(device: torch.device, precision: Precision):
    """Return the context in which towers run: bfloat16 products, or float32 as it is."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def probe_precision(
    step: Callable[[], object], device: torch.device, rounds: int = 3
) -> tuple[Precision, dict[str, float]]:
    """Time `step` in float32 and in bfloat16 and return the faster, with the seconds.

    bfloat16 has to be 5% faster: on CPUs without native bfloat16 it is up to 80x slower, so it is
    measured and never assumed. The rounds alternate, and each precision keeps its best time.
    """
    best: dict[Precision, float] = {"float32": float("inf"), "bfloat16": float("inf")}
    for round_ in range(rounds + 1):  # the first is warm-up
        for precision in best:
            start = time.perf_counter()
            with autocast(device, precision):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            elapsed = time.perf_counter() - start
            if round_ > 0:
                best[precision] = min(best[precision], elapsed)
            elif precision == "bfloat16" and elapsed > 10 * best["float32"] > 0:
                return "float32", {"float32": best["float32"], "bfloat16": elapsed}
            elif round_ == 0 and precision == "float32":
                best["float32"] = elapsed  # stands until a warm round replaces it
    chosen: Precision = "bfloat16" if best["bfloat16"] < best["float32"] / 1.05 else "float32"
    return chosen, {str(name): seconds for name, seconds in best.items()}
