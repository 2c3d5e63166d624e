"""How the benchmarks of this folder time things: turns, percentiles, memory, what it ran on."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lift.world import versions

Work = Callable[[int], object]
"""Does one thing; the number says with which of its inputs."""


def seconds(work: Work, first: int, times: int, device: torch.device) -> float:
    """Return the seconds of one of `times` calls in a row.

    On a CPU process time, so that other work on the machine weighs less; on a GPU the time
    between two of its own events.
    """
    if device.type != "cuda":
        start = time.process_time()
        for i in range(first, first + times):
            work(i)
        return (time.process_time() - start) / times
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    for i in range(first, first + times):
        work(i)
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3 / times


def take_turns(
    works: Mapping[str, Work], rounds: int, times: int, device: torch.device, limit_s: float
) -> list[dict[str, float]]:
    """Return for each round the seconds of a call of everyone, who starts changing each round.

    Args:
        works: by name.
        rounds: as many, unless the limit is reached before; 5 at least.
        times: calls in a row of one turn.
        device: where they run.
        limit_s: wall seconds.
    """
    names, found, began = list(works), [], time.perf_counter()
    gc.collect()
    gc.disable()  # else some contender pays for the garbage of all
    try:
        for number in range(rounds):
            lead = number % len(names)
            order = names[lead:] + names[:lead]
            took = {name: seconds(works[name], number * times, times, device) for name in order}
            found.append({name: took[name] for name in names})
            if number >= 4 and time.perf_counter() - began > limit_s:
                break
    finally:
        gc.enable()
    return found


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the 10th, 50th and 90th percentile."""
    if len(values) < 2:
        return dict.fromkeys(("p10", "median", "p90"), round(values[0], 4))
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return {
        "p10": round(deciles[0], 4),
        "median": round(statistics.median(values), 4),
        "p90": round(deciles[-1], 4),
    }


def speed_ratio(rounds: list[dict[str, float]], fast: str, slow: str) -> dict[str, float]:
    """Return how many times the speed of `slow` the speed of `fast` is, paired by round."""
    return quantiles([r[slow] / r[fast] for r in rounds])


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Run a block with another precision of float32 products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def peak_of_steps(build: Callable[[], Work], device: torch.device, steps: int = 2) -> int:
    """Return the most bytes that something built now takes over `steps` steps, all of it its own.

    On a GPU what torch allocates. On Linux resident memory, after free memory was given back, as
    the kernel's own high-water mark tells it; 0 elsewhere.
    """
    gc.collect()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident("VmRSS", forget=True)
    work = build()
    for i in range(steps):
        work(i)
    if cuda:
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return max(0, _resident("VmHWM") - before)


def _resident(field: str, *, forget: bool = False) -> int:
    """Return a line of /proc/self/status in bytes; `forget` starts the high-water mark anew."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return 0
    if forget:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    line = next(x for x in path.read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def ceilings(device: torch.device) -> dict[str, float]:
    """Return the FLOPs a second of large matrix products, by precision, as measured now.

    On a GPU 8192 cubed; on a CPU 1536 cubed, in process time. float32 is measured at every
    `float32_matmul_precision`.
    """
    cuda = device.type == "cuda"
    size, times = (8192, 20) if cuda else (1536, 3)
    found = {}
    for name, dtype in (
        ("bfloat16", torch.bfloat16),
        ("float32 highest", torch.float32),
        ("float32 high", torch.float32),
        ("float32 medium", torch.float32),
    ):
        if not cuda and dtype == torch.bfloat16 and not _quick_in_bfloat16():
            continue  # one product would take minutes
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        with matmul_precision(name.partition(" ")[2] or "highest"):
            seconds(lambda _, a=a, b=b: a @ b, 0, 2, device)
            taken = [seconds(lambda _, a=a, b=b: a @ b, 0, times, device) for _ in range(3)]
        found[name] = 2 * size**3 / min(taken)
    return found


def _quick_in_bfloat16() -> bool:
    """Whether a small product takes no more than ten times as long as in float32."""
    a = torch.randn(256, 256)
    taken = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = a.to(dtype)
        taken[dtype] = min(
            seconds(lambda _, x=x: x @ x, 0, 2, torch.device("cpu")) for _ in range(3)
        )
    return taken[torch.bfloat16] < 10 * taken[torch.float32]


def facts(device: torch.device) -> dict[str, Any]:
    """Return what the numbers depend on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    found = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "processor": models[0] if models else platform.machine(),
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "instruction sets": [name for name in wanted if name in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "clock": "events of the GPU" if device.type == "cuda" else "process CPU time",
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["card"] = {
            "name": card.name,
            "memory_gb": round(card.total_memory / 1e9, 1),
            "multiprocessors": card.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            **_clocks(),
        }
    return found


def _clocks() -> dict[str, str]:
    """Return clocks and power as the driver's own tool tells them, where it is there."""
    import shutil
    import subprocess

    if shutil.which("nvidia-smi") is None:
        return {}
    fields = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = told.stdout.strip().splitlines()
    if told.returncode or not lines:
        return {}
    return dict(zip(fields.split(","), (v.strip() for v in lines[0].split(",")), strict=False))
