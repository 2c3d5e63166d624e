"""How much a whole LIFT step costs over its bare tower, as paired ratios in one run.

    python benchmarks/step.py --rounds 20 --out step.json

Contenders take turns in every round: U, the bare tower forward and backward under a fixed random
upstream gradient; O, our whole step (pixels from uint8, head, loss, clipping, AdamW); U again,
whose spread against the first is the noise floor. CPU time is counted on CPU, events on GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lift import plugins
from lift.config import part
from lift.data.transform import Transform
from lift.model import HeadConfig, SideConfig, TwoSided, build_side
from lift.terms import Batch
from lift.training.config import OptimConfig
from lift.training.folder import versions
from lift.training.optim import make_optimizer
from lift.training.step import train_step
from lift.world import autocast, choose_device


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call: process CPU time on CPU, wall time around a device."""
    if device.type != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def contenders(args: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return the calls that take turns."""
    torch.manual_seed(0)
    tower = part(
        "towers",
        "vit",
        width=args.width,
        depth=args.depth,
        heads=args.width // 64,
        patch=args.patch,
        resolution=args.resolution,
    )
    image = SideConfig(tower=tower, head=HeadConfig(layers=2))
    model = TwoSided(
        build_side(image, None, args.dimensions),
        build_side(SideConfig(), args.dimensions, args.dimensions),
        plugins.build(part("objectives", "softmax")),
    ).to(device)
    bare = plugins.build(tower).to(device)
    optimizer = make_optimizer(model, OptimConfig())
    transform = Transform(resolution=args.resolution)
    shape = (args.batch, 3, args.resolution, args.resolution)
    batches = [
        Batch(
            images=torch.randint(0, 256, shape, dtype=torch.uint8),
            texts=torch.randn(args.batch, args.dimensions),
            owner=torch.arange(args.batch),
            row=torch.arange(args.batch),
            index=torch.arange(args.batch),
        )
        for _ in range(4)
    ]
    pixels = [transform.normalise(batch.images.to(device)) for batch in batches]
    upstream = torch.randn(args.batch, args.width, device=device)
    turn = iter(range(10**9))

    def run_bare() -> None:
        bare.zero_grad(set_to_none=True)
        with autocast(device, args.precision):
            h = bare(pixels[next(turn) % 4])
        h.backward(upstream.to(h.dtype))

    def run_step() -> None:
        train_step(
            model,
            optimizer,
            [batches[next(turn) % 4]],
            transform,
            clip_norm=1.0,
            device=device,
            precision=args.precision,
        )

    return {"bare": run_bare, "step": run_step, "bare again": run_bare}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = choose_device(args.device)
    torch.set_num_threads(1)
    calls = contenders(args, device)
    for call in calls.values():
        call()
    rounds = []
    for number in range(args.rounds):
        names = list(calls)
        order = names[number % 3 :] + names[: number % 3]
        rounds.append({name: seconds(calls[name], device) for name in order})
    found = {
        "img_per_s": args.batch / statistics.median(r["step"] for r in rounds),
        "bare over step": quantiles([r["bare"] / r["step"] for r in rounds]),
        "noise floor": quantiles([r["bare"] / r["bare again"] for r in rounds]),
    }
    options = {name: str(value) for name, value in vars(args).items() if name != "out"}
    made = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "options": options,
        "device": str(device),
        **found,
    }
    text = json.dumps(made, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the 10th, 50th and 90th percentile."""
    deciles = statistics.quantiles(values, n=10)
    return {"p10": deciles[0], "median": statistics.median(values), "p90": deciles[-1]}


if __name__ == "__main__":
    main()
