"""How much memory a step of an objective takes beyond its inputs and the image gradient.

`python memory_program.py NAME OPTIONS_AS_JSON IMAGES WIDTH [EXTRA]` prints, in MiB, the most that
was held during the step, and what lay between its forward and its backward pass. An image's
caption has three equal ones, or by `"equal": true` all are equal.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import torch

from lift import plugins
from lift.candidates import Candidates, Extra
from lift.config import part
from lift.terms import unit

MIB = 1 << 20


def held(which: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    raise LookupError(which)


def settled() -> float:
    """Return what is held when nothing that can be given back is."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return held("RssAnon:")


def main() -> None:
    torch.set_num_threads(1)
    name, images, width = sys.argv[1], int(sys.argv[3]), int(sys.argv[4])
    options = json.loads(sys.argv[2])
    equal = options.pop("equal", False)
    objective = plugins.build(part("objectives", name, **options))
    extra = None
    if len(sys.argv) > 5:
        count = int(sys.argv[5])
        extra = Extra(
            torch.arange(count) + images - count // 2,
            lambda start, stop: unit(torch.randn(stop - start, width)),
        )

    def take(images: int) -> tuple[float, float]:
        z_image = torch.nn.functional.normalize(torch.randn(images, width)).requires_grad_()
        z_text = torch.nn.functional.normalize(torch.randn(images, width))
        row = torch.zeros(images, dtype=torch.int64) if equal else torch.arange(images) // 3
        texts = Candidates.alone(z_text, row=row, extra=extra)
        before = settled()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
        loss = objective(z_image, texts)
        kept = settled() - before
        loss.backward()
        assert z_image.grad is not None
        beside = held("RssFile:") + held("RssShmem:")
        most = held("VmHWM:") - beside - before - z_image.grad.nbytes / MIB
        assert torch.isfinite(z_image.grad).all()
        return most, kept

    take(64)  # what libraries allocate once
    start = time.process_time()
    most, kept = take(images)
    json.dump({"most": most, "kept": kept, "seconds": time.process_time() - start}, sys.stdout)


if __name__ == "__main__":
    main()
