"""What one of several real processes does: every objective, and the anchor, on its share of steps.

`python rank_program.py RANK SIZE RENDEZVOUS_FILE ANSWERS_FILE`; the first rank writes the answers.
"""

from __future__ import annotations

import dataclasses
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from lift import plugins
from lift.config import part
from lift.objectives import _tiles
from lift.ranks import ALONE, Ranks
from lift.training.anchor import AnchorConfig, References, anchor_loss
from lift.world import Worker
from objectives.naive import CASES, step

IMAGES = 11
SHARES = {1: [11], 2: [7, 4], 3: [6, 0, 5], 4: [5, 0, 2, 4]}
"""How many of the images each rank has; nothing says that they are alike, or that there are any."""


def moved(name: str, options: dict, dtype: torch.dtype) -> torch.nn.Module:
    """Return the objective, with numbers that make every direction matter."""
    if "of" in options:
        options = {**options, "of": part("objectives", options["of"])}
    objective = plugins.build(part("objectives", name, **options)).to(dtype)
    with torch.no_grad():
        for which, value in objective.named_parameters():
            value.fill_(1.7 if which.endswith("scale") else -1.3)
    return objective


def answers(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return the loss and all gradients of every case, of the whole step."""
    found = {}
    start = sum(SHARES[ranks.size][: ranks.worker.rank])
    stop = start + SHARES[ranks.size][ranks.worker.rank]
    for dtype in (torch.float64, torch.float32):
        for number, (name, options) in enumerate(CASES):
            for kind in ("plain", "weights") if dtype == torch.float64 else ("weights",):
                more = {"weights": True, "zeros": True, "further": 6} if kind == "weights" else {}
                z_image, texts = step(IMAGES, 9, 24, number, sort=True, dtype=dtype, **more)
                own = (texts.owner >= start) & (texts.owner < stop)
                z_own = texts.z[own].clone().requires_grad_()
                z_image = z_image[start:stop].clone().requires_grad_()
                z = ranks.gather_with_gradient(z_own)
                texts = dataclasses.replace(texts, z=z, first=start, ranks=ranks)
                objective = moved(name, options, dtype)
                loss = objective(z_image, texts)
                loss.backward()
                assert z_image.grad is not None and z_own.grad is not None
                label = f"{number} {name} {options} {kind} {str(dtype)[6:]}"
                found[f"{label}: loss"] = ranks.sum(loss)
                found[f"{label}: image"] = ranks.gather(z_image.grad)
                found[f"{label}: text"] = ranks.gather(z_own.grad)
                for which, value in objective.named_parameters():
                    assert value.grad is not None
                    found[f"{label}: {which}"] = ranks.sum(value.grad)
                # Fixed texts, as LIFT has them: the image gradient without any of texts.
                fixed = dataclasses.replace(texts, z=z.detach())
                (image,) = torch.autograd.grad(objective(z_image, fixed), z_image)
                assert torch.equal(image, z_image.grad)
    return {**found, **anchored(ranks, start, stop)}


def anchored(ranks: Ranks, start: int, stop: int) -> dict[str, torch.Tensor]:
    """Return the loss and the gradient of an anchor on the own images of a step."""
    found = {}
    draw = torch.Generator().manual_seed(0)
    a, r = torch.randn(2, IMAGES, 8, generator=draw, dtype=torch.float64)
    known = torch.arange(IMAGES) % 4 != 3
    own = a[start:stop].clone().requires_grad_()
    for name in ("instance", "structure"):
        config = AnchorConfig(**{name: 1.5})
        here = References.gather(r[start:stop], known[start:stop], ranks, config)
        half = (stop - start) // 2
        parts = [anchor_loss(own[:half], here, config)]
        parts.append(anchor_loss(own[half:], here.after(half), config))
        (slope,) = torch.autograd.grad(sum(parts), own)
        found[f"anchor {name}: loss"] = ranks.sum(sum(parts).detach())
        found[f"anchor {name}: image"] = ranks.gather(slope)
    return found


def main() -> None:
    rank, size = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    _tiles.CELLS["cpu"] = 60  # several tiles a rank
    dist.init_process_group(
        "gloo",
        init_method=f"file://{sys.argv[3]}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    ranks = Ranks(Worker(rank, size, rank)) if size > 1 else ALONE
    try:
        found = answers(ranks)
        ranks.wait()
    finally:
        dist.destroy_process_group()
    if rank == 0:
        save_file({name: value.detach().clone() for name, value in found.items()}, sys.argv[4])


if __name__ == "__main__":
    main()
