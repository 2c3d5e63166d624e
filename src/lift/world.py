"""Where a run computes: device, threads, precision, and which of several processes it is."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from lift import __version__
from lift.errors import ConfigError

Precision = Literal["float32", "bfloat16", "float64"]
"""Of the towers' products; float64 is for checks, at twice the memory."""


@dataclass(frozen=True)
class Worker:
    """One of the processes that `torchrun` started; alone where nothing did.

    Attributes:
        rank: number among all processes, from 0.
        size: how many there are.
        local: number among those of this machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local: int = 0


def worker() -> Worker:
    """Return which process this is, from the variables that `torchrun` sets.

    Raises:
        ConfigError: they contradict each other.
    """
    words = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not words["WORLD_SIZE"]:
        return Worker()
    try:
        rank, size = int(words["RANK"]), int(words["WORLD_SIZE"])
        found = Worker(rank, size, int(words["LOCAL_RANK"] or rank))
    except ValueError:
        found = Worker(-1)
    if not 0 <= found.rank < found.size or found.local < 0:
        told = ", ".join(f"{name}={value!r}" for name, value in words.items())
        raise ConfigError(f"{told} name no process of a group; start with torchrun, or unset them.")
    return found


def choose_device(name: str = "auto") -> torch.device:
    """Return the device to compute on: cuda, else mps, else cpu, unless one is named.

    Of several GPUs each process of `torchrun` takes its own, also where `cuda` is named.

    Raises:
        ConfigError: the named device is not usable here.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available() and worker().size > 1:
        return torch.device("cuda", worker().local)
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
    """Return the context in which towers run: bfloat16 products, or as the weights are."""
    if precision != "bfloat16":
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
                torch.cuda.synchronize(device)
            elapsed = time.perf_counter() - start
            if round_ > 0:
                best[precision] = min(best[precision], elapsed)
            elif precision == "bfloat16" and elapsed > 10 * best["float32"] > 0:
                return "float32", {"float32": best["float32"], "bfloat16": elapsed}
            elif round_ == 0 and precision == "float32":
                best["float32"] = elapsed  # stands until a warm round replaces it
    chosen: Precision = "bfloat16" if best["bfloat16"] < best["float32"] / 1.05 else "float32"
    return chosen, {str(name): seconds for name, seconds in best.items()}


Products = Literal["highest", "medium"]
"""How float32 products are computed: torch's `set_float32_matmul_precision`."""


@contextlib.contextmanager
def products(how: Products) -> Iterator[None]:
    """Run a block with float32 products computed so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(how)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def probe_products(
    step: Callable[[], object], device: torch.device, rounds: int = 3
) -> tuple[Products, dict[str, float]]:
    """Return how float32 products are fastest without being less exact, with what was measured.

    On CPU "medium" hands products to oneDNN: twice as fast on some AMD cores, half as fast on some
    Intel cores, and where there are bfloat16 units it may really round to them. So its error is
    compared with float64 and its time is taken; it has to be 5% faster. GPUs keep full float32.
    """
    if device.type != "cpu":
        return "highest", {}
    a, b = (torch.randn(256, 256, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    exact = a.double() @ b.double()
    error: dict[str, float] = {}
    best = {"highest": float("inf"), "medium": float("inf")}
    modes: tuple[Products, ...] = ("highest", "medium")
    for how in modes:
        with products(how):
            error[how] = float(((a @ b).double() - exact).abs().max() / exact.abs().max())
    measured = {"error, highest": error["highest"], "error, medium": error["medium"]}
    if error["medium"] > 2 * error["highest"]:
        return "highest", measured
    for round_ in range(rounds + 1):  # the first is warm-up
        for how in modes:
            with products(how):
                start = time.perf_counter()
                step()
                elapsed = time.perf_counter() - start
            if round_:
                best[how] = min(best[how], elapsed)
    chosen: Products = "medium" if best["medium"] < best["highest"] / 1.05 else "highest"
    return chosen, {**measured, **best}


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"lift-align": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "pillow", "pyarrow", "sentence-transformers"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["cpu"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    return found
