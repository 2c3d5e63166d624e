"""What the ONNX export costs and saves: speed of onnxruntime against torch, and what int8 loses.

    python benchmarks/export.py --write benchmarks/results/export.json
    python benchmarks/export.py --judge RUN DATA --judge RUN DATA

Speeds are the paper's B/16 at 224 pixels with its head into 4,096 numbers and random weights, one
thread, CPU time, each round one call of everyone in turn; ratios are paired by round. A judged
model's recall is `retrieval`, all captions, paired query by query.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import quantiles, speed_ratio, take_turns

import lift
from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import Part, part
from lift.data.transform import Transform
from lift.export import _onnx_graph as graphs
from lift.export import _onnx_judged, _pictures
from lift.export.onnx import session
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.towers import vit
from lift.world import versions

WIDE = 4096
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def paper_model() -> Bundle:
    """Return the paper's image side with random weights."""
    texts = plugins.build(part("text/encoders", "hashing", dimensions=WIDE))
    tower = plugins.resolve(Part("towers", "vit", vars(vit.clip_size("B/16"))))
    image = SideConfig(tower=tower, head=HeadConfig(layers=2))
    record = BundleRecord(
        image=image,
        transform=Transform(),
        space=texts.space,
        encoder=plugins.resolve(texts.part),
    )
    torch.manual_seed(0)
    return Bundle(build_side(image, None, WIDE), record, name="B/16")


def sizes_and_runs(bundle: Bundle, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Export, and return megabytes of the files, and what runs each by name."""
    graphs.write_side(bundle, folder / "float32.onnx")
    graphs.write_int8(folder / "float32.onnx", folder / "int8.onnx")
    names = ("float32", "int8")
    sizes = {name: round((folder / f"{name}.onnx").stat().st_size / 1e6, 1) for name in names}
    runs: dict[str, Any] = {}
    for name in names:
        running = session(folder / f"{name}.onnx")
        runs[f"onnxruntime {name}"] = lambda x, r=running: r.run(None, {graphs.PIXELS: x})[0]

    @torch.inference_mode()
    def by_torch(x: np.ndarray) -> np.ndarray:
        return bundle.side(bundle.transform.normalise(torch.from_numpy(x))).numpy()

    runs["torch"] = by_torch
    return sizes, runs


def speeds(rounds: int, batch: int, limit_s: float) -> dict[str, Any]:
    """Return speeds, ratios, sizes and distances of the paper's B/16."""
    bundle = paper_model()
    bundle.side.eval()
    with tempfile.TemporaryDirectory() as aside:
        sizes, runs = sizes_and_runs(bundle, Path(aside))
        pictures = (_pictures.made() * batch)[:batch]
        pixels = np.stack([bundle.transform.evaluate(p).numpy() for p in pictures])
        ours = runs["torch"](pixels)
        apart = {name: run(pixels) for name, run in runs.items() if name != "torch"}
        works = {name: lambda _, run=run: run(pixels) for name, run in runs.items()}
        taken = take_turns(works, rounds, 1, torch.device("cpu"), limit_s)
    return {
        "model": "vit B/16 at 224 pixels, head 768-4096-4096, random weights",
        "batch": batch,
        "rounds": len(taken),
        "threads": torch.get_num_threads(),
        "megabytes": sizes,
        "images a second": {n: quantiles([batch / r[n] for r in taken]) for n in runs},
        "times torch's speed": {name: speed_ratio(taken, name, "torch") for name in apart},
        "largest difference": {n: float(np.abs(z - ours).max()) for n, z in apart.items()},
        "lowest cosine": {n: float((z * ours).sum(1).min()) for n, z in apart.items()},
    }


def judged(run: str, data: str) -> dict[str, Any]:
    """Return what int8 loses on a trained model."""
    bundle = lift.load(run, device="cpu")
    with tempfile.TemporaryDirectory() as aside:
        sizes, runs = sizes_and_runs(bundle, Path(aside))
        words = _onnx_judged.losses(bundle, runs["onnxruntime int8"], data)
    return {"model": bundle.name, "run": run, "megabytes": sizes, "found": words}


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", nargs=2, action="append", default=[], metavar=("RUN", "DATA"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--limit-s", type=float, default=240.0)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "date": datetime.date.today().isoformat(),
        "versions": {**versions(), **{p: importlib.metadata.version(p) for p in _PACKAGES}},
        "speed": speeds(given.rounds, given.batch, given.limit_s),
        "int8": [judged(run, data) for run, data in given.judge],
    }
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    if given.write:
        given.write.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
