"""What a whole training step costs over its bare tower, and against open_clip, as paired ratios.

    python benchmarks/step.py --tower B/16 --batch 16 --rounds 8 --out step.json
    python benchmarks/step.py --suite gpu --out benchmarks/results/step_gpu.json

Contenders live in one process and take turns in every round, in rotating order, on four random
inputs that rotate too. Each round gives one ratio for each pair; reported are the 10th, 50th and
90th percentile of these. On a CPU: one thread, process CPU time. On a GPU: its own events around
`--steps` steps.

    bare            the image tower, forward and backward under a fixed random gradient
    bare again      the same, whose ratio to the first is the noise floor
    LIFT            our step: uint8 pixels and stored rows on the device to moved weights, with
                    head, loss, clipping and AdamW
    CLIP            our step with a text tower of CLIP's shape (as many layers as the image tower,
                    two thirds as wide: 12 x 512 beside ViT-B) on captions of --tokens tokens
    open_clip       the step of its training loop with its own model and loss, on the weights of
                    our CLIP, given normalised float32 pixels.
                    Clipping and fused AdamW as ours (--their-optimizer: as released, not fused)
    LIFT, medium    the LIFT step with float32_matmul_precision=medium, where --medium asks for it
                    and its error against float64 allows it. It is worth it where its 10th
                    percentile says so: 2.3 times the products on an AMD with AVX-512, whose MKL
                    avoids it, but 0.6 times on an Intel with AVX-512

Before timing, LIFT's loss has to equal the same loss in float64, and open_clip's that of our CLIP,
whose weights it has. Ratios are of speed: "LIFT over
bare" 0.97 means that all but 3% of the time is the tower's. The work that is not the tower's (head,
loss, optimiser, by FLOPs) stands beside it. open_clip is used where it is installed (the
environment of `make test-parity`) or where --open-clip points; elsewhere it is missing.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _open_clip
import _work
import torch
from _checks import check, medium_error
from _contenders import (
    RESOLUTIONS,
    TOWERS,
    Contender,
    Setting,
    bare,
    described,
    our_clip,
    our_lift,
)
from _tables import slopes, table, utilisation
from _timing import (
    ceilings,
    facts,
    matmul_precision,
    quantiles,
    speed_ratio,
    take_turns,
)

from lift.config import to_dict
from lift.training.kept import kept_bytes
from lift.world import choose_device

PAIRS = (
    ("LIFT", "bare"),
    ("LIFT", "open_clip"),
    ("CLIP", "open_clip"),
    ("LIFT", "CLIP"),
    ("LIFT, medium", "LIFT"),
    ("bare", "bare again"),
)
MAKERS: dict[str, Callable[[Setting], Contender]] = {
    "bare": bare,
    "LIFT": our_lift,
    "CLIP": our_clip,
    "open_clip": _open_clip.their_clip,
}
WORK = {
    "bare": _work.bare,
    "LIFT": _work.lift,
    "CLIP": _work.clip,
    "open_clip": _work.clip,
    "LIFT, medium": _work.lift,
    "bare again": _work.bare,
}
DIMENSIONS = {"B/16": 4096}
"""Of the text rows: those of the paper; other towers get those of MiniLM, 384."""
SMALL = 0.01
"""Share of head, loss and optimiser below which goal 1 applies."""


def goals(cell: dict[str, Any], cuda: bool) -> dict[str, float]:
    """Return the least that each ratio should be (its 10th percentile), by pair."""
    setting, compiled = cell["setting"], cell["setting"]["compile"] != "off"
    found = {"CLIP over open_clip": 1.0}
    if cell["beside the tower"] < SMALL:
        found["LIFT over bare"] = 0.95 if cuda and setting["batch"] < 1024 else 0.97
    if setting["tokens"] == 77:
        found["LIFT over open_clip"] = (1.18 if compiled else 1.6) if cuda else 1.3
    return found


def measure(setting: Setting, args: argparse.Namespace) -> dict[str, Any]:
    """Return everything about one comparison."""
    cuda = setting.device.type == "cuda"
    missing: dict[str, str] = {}
    works, memory = {}, {}
    made = {**MAKERS, "open_clip": functools.partial(
        _open_clip.their_clip, fused=not args.their_optimizer
    )}  # fmt: skip
    checked: dict[str, float] = {}
    for name in args.contenders:
        if name == "open_clip" and not args.open_clip_release:
            missing[name] = "not installed"
            continue
        before = _allocated(setting)
        try:
            contender = made[name](setting)
            checked |= check(setting, name, contender, checked)
            for i in range(args.warm_up):
                contender.step(i)
            memory[name] = remembered(setting, contender, before)
            works[name] = contender.step
        except torch.OutOfMemoryError as error:
            missing[name] = _short(error)
        contender = None
        _tidy(setting)
    if "bare" in works:
        works["bare again"] = works["bare"]
    medium = medium_error(setting) if args.medium else None
    if medium is not None and medium["safe"] and "LIFT" in works:
        works["LIFT, medium"] = functools.partial(_at_medium, works["LIFT"])
        works["LIFT, medium"](0)
    rounds = in_turn(works, missing, setting, args)
    cell = {
        "setting": {**described(setting), "matmul precision": args.matmul_precision},
        "rounds": len(rounds),
        "steps a turn": args.steps,
        "missing": missing,
        "losses": checked,
        "medium": medium,
        "beside the tower": round(_work.lift(setting).beside, 5),
        "seconds": {n: quantiles([r[n] for r in rounds]) for n in works},
        "images_per_s": {
            n: round(setting.batch / quantiles([r[n] for r in rounds])["median"], 2) for n in works
        },
        "memory": memory,
        "ratios": {
            f"{a} over {b}": speed_ratio(rounds, a, b)
            for a, b in PAIRS
            if a in works and b in works
        },
    }
    if medium and "LIFT, medium over LIFT" in cell["ratios"]:
        medium["worth it"] = cell["ratios"]["LIFT, medium over LIFT"]["p10"] > 1
    cell["work"] = {n: _in_gf(WORK[n](setting)) for n in works}
    cell["goals"] = {
        pair: {"goal": goal, **cell["ratios"][pair], "reached": cell["ratios"][pair]["p10"] >= goal}
        for pair, goal in goals(cell, cuda).items()
        if pair in cell["ratios"]
    }
    return cell


def in_turn(
    works: dict[str, Callable[[int], object]],
    missing: dict[str, str],
    setting: Setting,
    args: argparse.Namespace,
) -> list[dict[str, float]]:
    """Return the rounds; where all together do not fit into memory, the last are left out."""
    while works:
        try:
            return take_turns(works, args.rounds, args.steps, setting.device, args.limit_s)
        except torch.OutOfMemoryError as error:
            why = _short(error)
        last = list(works)[-1]
        del works[last]
        missing[last] = f"beside the others {why}"
        _tidy(setting)
    return []


def _short(error: BaseException) -> str:
    return f"out of memory: {str(error).splitlines()[0][:120]}"


def _tidy(setting: Setting) -> None:
    """Give back what nobody holds; outside `except`, whose traceback would hold it."""
    gc.collect()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()


def _at_medium(step: Callable[[int], object], i: int) -> None:
    with matmul_precision("medium"):
        step(i)


def _allocated(setting: Setting) -> int:
    return torch.cuda.memory_allocated(setting.device) if setting.device.type == "cuda" else 0


def remembered(setting: Setting, contender: Contender, before: int) -> dict[str, float]:
    """Return the memory of a contender, others and its own inputs left out.

    On a GPU the peak of a step and what stays between steps; anywhere, without compilation, what
    autograd keeps for the backward pass, which is what grows with the batch.
    """
    found = {}
    inputs = sum(tensor.nbytes for tensor in contender.inputs)
    if setting.device.type == "cuda":
        torch.cuda.synchronize(setting.device)
        found["resident_gb"] = (_allocated(setting) - before - inputs) / 1e9
        torch.cuda.reset_peak_memory_stats(setting.device)
        contender.step(0)
        torch.cuda.synchronize(setting.device)
        peak = torch.cuda.max_memory_allocated(setting.device)
        found["peak_gb"] = (peak - before - inputs) / 1e9
    if setting.compile == "off" and setting.precision == "float32":  # else weights are kept too
        kept = kept_bytes(contender.graph, contender.held())
        found["kept_mb_an_image"] = kept / setting.batch / 1e6
    return {name: round(value, 3) for name, value in found.items()}


def _in_gf(work: _work.Work) -> dict[str, float]:
    parts = {name: round(value / 1e9, 4) for name, value in to_dict(work).items()}
    return {**parts, "total": round(work.total / 1e9, 3)}


def settings(args: argparse.Namespace, device: torch.device) -> list[Setting]:
    """Return what is to be compared, one after the other."""
    found = []
    for tower in args.tower:
        config = TOWERS[tower](resolution=args.resolution or RESOLUTIONS.get(tower, 224))
        for compiled in args.compile:
            for batch in args.batch:
                found.append(
                    Setting(
                        tower=config,
                        batch=batch,
                        dimensions=args.dimensions or DIMENSIONS.get(tower, 384),
                        tokens=args.tokens,
                        precision=args.precision,
                        compile=compiled,
                        device=device,
                    )
                )
    return found


def parsed() -> argparse.Namespace:
    """Return the options, those of a suite filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=["gpu"], help="S/16, B/16; 256 to 2,048; bfloat16")
    parser.add_argument("--tower", nargs="+", choices=list(TOWERS))
    parser.add_argument("--batch", nargs="+", type=int)
    parser.add_argument("--resolution", type=int, default=0, help="0: 224, or 64 for tiny64")
    parser.add_argument("--tokens", type=int, default=77, help="of every caption in CLIP")
    parser.add_argument("--dimensions", type=int, default=0, help="0: 4096 for B/16, else 384")
    parser.add_argument("--precision", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--matmul-precision", choices=["highest", "high", "medium"], default="highest"
    )
    parser.add_argument("--medium", action="store_true", help="try medium products, beside")
    parser.add_argument("--compile", nargs="*", choices=["off", "block", "side"])
    parser.add_argument("--contenders", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--their-optimizer", action="store_true", help="not fused, as released")
    parser.add_argument("--open-clip", default="", help="a folder to look for open_clip in")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0, help="a turn; 0: 10 on a GPU, else 1")
    parser.add_argument("--warm-up", type=int, default=2, help="steps")
    parser.add_argument("--limit-s", type=float, default=1e9, help="of a comparison's rounds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="JSON; comparisons found in it are not repeated")
    args = parser.parse_args()
    gpu = args.suite == "gpu"
    args.tower = args.tower or (["S/16", "B/16"] if gpu else ["tiny64"])
    args.batch = args.batch or ([256, 512, 1024, 2048] if gpu else [32])
    args.precision = args.precision or ("bfloat16" if gpu else "float32")
    args.compile = ["off", "side"] if args.compile is None and gpu else args.compile or ["off"]
    if gpu:
        args.limit_s = min(args.limit_s, 60.0)
    return args


def main() -> None:
    """Measure, print and write; after every comparison, so that what is done stays."""
    args = parsed()
    device = choose_device(args.device)
    args.steps = args.steps or (10 if device.type == "cuda" else 1)
    args.open_clip_release = _open_clip.find_open_clip(args.open_clip)
    torch.set_num_threads(1)
    made: dict[str, Any] = {"cells": []}
    if args.out and args.out.is_file():
        made = json.loads(args.out.read_text(encoding="utf-8"))
    done = [cell["setting"] for cell in made["cells"]]
    measured = ceilings(device)
    made |= {
        **facts(device),
        "open_clip": args.open_clip_release or "missing",
        "ceilings_tflops": {name: round(value / 1e12, 4) for name, value in measured.items()},
    }
    print(f"large products, TFLOP/s: {made['ceilings_tflops']}; open_clip {made['open_clip']}")
    torch.set_float32_matmul_precision(args.matmul_precision)
    for setting in settings(args, device):
        if {**described(setting), "matmul precision": args.matmul_precision} in done:
            continue
        cell = measure(setting, args)
        cell["utilisation"] = utilisation(cell, measured)
        made["cells"].append(cell)
        print(table(cell), flush=True)
        torch.compiler.reset()
        _tidy(setting)
        made["memory slopes"] = slopes(made["cells"])
        made["load_after"] = os.getloadavg() if hasattr(os, "getloadavg") else None
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    for name, slope in made["memory slopes"].items():
        print(f"  {name}: {slope}")


if __name__ == "__main__":
    main()
