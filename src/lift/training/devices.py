"""How fast a device multiplies: cards by their datasheet, this machine by a measurement."""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass

import torch

from lift.errors import ConfigError, unknown
from lift.world import choose_device

UTILISATION = 0.45
"""Share of the datasheet's rate that a good program reaches; 0.6 of a measured 790 TFLOP/s on an
H200 is 0.48 of its 989. Published CLIP trainings are at 0.09 to 0.29."""

MEASURED_UTILISATION = 0.6
"""Share of the rate of one large matrix product, as measured on this machine."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device.

    Attributes:
        name: for tables.
        tflops: peak of dense matrix products in 10^12 FLOPs a second (1 multiply-add = 2), in
            bfloat16 or, where a card has none, float16.
        utilisation: share of the peak that is reached, from 0 to 1; an assumption.
        source: where the peak comes from.
    """

    name: str
    tflops: float
    utilisation: float = UTILISATION
    source: str = "given"

    def __post_init__(self) -> None:
        if not 0 < self.tflops < float("inf"):
            raise ConfigError(f"A device's TFLOP/s must be above 0, not {self.tflops}.")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(
                f"The utilisation of a device must be above 0 and at most 1, not "
                f"{self.utilisation}."
            )

    def hours(self, flops: float) -> float:
        """Return the hours that `flops` take on one such device."""
        return flops / (self.tflops * 1e12 * self.utilisation) / 3600


CARDS = {
    name: Device(name=name, tflops=tflops, source=source)
    for name, tflops, source in (
        ("b200", 2250.0, "NVIDIA DGX B200 datasheet, an eighth, half of the rate with sparsity"),
        ("h200", 989.5, "NVIDIA H200 datasheet (SXM), half of the rate with sparsity"),
        ("h100", 989.5, "NVIDIA H100 datasheet (SXM), half of the rate with sparsity"),
        ("h100-pcie", 756.5, "NVIDIA H100 datasheet (PCIe), half of the rate with sparsity"),
        ("a100", 312.0, "NVIDIA A100 datasheet"),
        ("l40s", 362.0, "NVIDIA L40S datasheet"),
        ("l4", 121.0, "NVIDIA L4 datasheet, half of the rate with sparsity"),
        ("a10", 125.0, "NVIDIA A10 datasheet"),
        ("rtx4090", 165.2, "NVIDIA Ada whitepaper, bfloat16 with float32 sums"),
        ("rtx3090", 71.0, "NVIDIA GA102 whitepaper, bfloat16 with float32 sums"),
        ("v100", 125.0, "NVIDIA V100 datasheet (SXM2), float16"),
        ("t4", 65.0, "NVIDIA T4 datasheet, float16"),
        ("mi300x", 1307.4, "AMD MI300X datasheet"),
    )
}
"""Known cards, dense bfloat16 (float16 where the source says so)."""

THIS_MACHINE = "this-machine"


def get_device(
    name: str = THIS_MACHINE, *, tflops: float | None = None, utilisation: float | None = None
) -> Device:
    """Return a known card, this machine (measured in half a second), or any device by its rate.

    Args:
        name: of `CARDS`, "this-machine", or anything where `tflops` is given; case, spaces and
            hyphens don't count.
        tflops: peak rate in place of the known one.
        utilisation: share of it in place of the default.

    Raises:
        ConfigError: an unknown card and no rate; a rate or share that is none.
    """
    known = _bare(name)
    if tflops is not None:
        found = Device(name=name, tflops=tflops)
    elif known == _bare(THIS_MACHINE):
        found = measure()
    elif known in (cards := {_bare(card): found for card, found in CARDS.items()}):
        found = cards[known]
    else:
        error = unknown("device", name, [THIS_MACHINE, *CARDS])
        raise ConfigError(f"{error} For another one give its TFLOP/s.")
    return found if utilisation is None else dataclasses.replace(found, utilisation=utilisation)


def _bare(name: str) -> str:
    """Return a name as nobody can spell it differently: "RTX 4090", "rtx-4090"."""
    return re.sub(r"[\s_-]+", "", name).lower()


def measure(device: str = "auto", seconds: float = 0.5) -> Device:
    """Return this machine's rate: the best time of square products over about `seconds`.

    In float32 on a CPU, where bfloat16 is often slow, and in bfloat16 elsewhere. On a CPU it is
    the rate of torch's present number of threads.
    """
    where = choose_device(device)
    on_cpu = where.type == "cpu"
    size, kind = (1024, torch.float32) if on_cpu else (8192, torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(where, kind) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    for round_ in range(1_000):
        start = time.perf_counter()
        # One value is fetched, so that the product is finished on any device.
        (a @ b)[0, 0].item()
        if round_ > 0:
            best = min(best, time.perf_counter() - start)
        if round_ > 2 and time.perf_counter() > end:
            break
    if where.type == "cuda":
        what = torch.cuda.get_device_name(where)
    else:
        what = f"{torch.get_num_threads()} threads" if on_cpu else where.type
    return Device(
        name=f"this machine ({what})",
        tflops=2 * size**3 / best / 1e12,
        utilisation=MEASURED_UTILISATION,
        source=f"measured: products of {size} x {size} matrices, {str(kind).split('.')[-1]}",
    )
