"""Every row compared, usearch and faiss: speed paired by round, recall, memory, filters.

    python benchmarks/search.py --json benchmarks/results/search-cpu.json

Rows are made: 1,000 clusters whose members differ in 40 directions and a little in all, the queries
lie at a cosine of about 0.8 from a row. All engines search the same mapped file in turns, by the
process's CPU time; a ratio is the median of the rounds' own ratios, with the 10th and 90th
percentile. Memory is what a fresh process holds of its own (RssAnon) after opening the engine and
64 questions, less what it held before; maps of files are not in it. Recall is the share of the true
ten nearest among ten found; equal cosines count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import facts, quantiles, speed_ratio, take_turns

from lift import plugins
from lift.config import part
from lift.search.engines import Engine

ENGINES = ("exact", "usearch", "faiss")
SHARES = {"all": None, "50%": 0.5, "10%": 0.1, "1%": 0.01}
BATCHES = (1, 8, 64)
ASKED = 512
TOP = 10


def made(path: Path, rows: int, width: int) -> np.ndarray:
    """Write unit rows in clusters into a file, and return unit questions."""
    dice = np.random.default_rng(0)
    middles = dice.standard_normal((1_000, width), np.float32) / width**0.5
    ways = dice.standard_normal((40, width), np.float32) / (40 * width) ** 0.5
    questions = []
    with path.open("wb") as file:
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            some = middles[dice.integers(0, len(middles), count)]
            some = some + dice.standard_normal((count, 40), np.float32) @ ways
            some += 0.3 * dice.standard_normal((count, width), np.float32) / width**0.5
            some /= np.linalg.norm(some, axis=1, keepdims=True)
            file.write(some.tobytes())
            questions.append(some[:: max(1, rows // (2 * ASKED))])
    z = np.concatenate(questions)[:ASKED]
    z = z + 0.7 * dice.standard_normal(z.shape, np.float32) / width**0.5
    return np.ascontiguousarray(z / np.linalg.norm(z, axis=1, keepdims=True), np.float32)


def opened(name: str, vectors: np.ndarray, folder: Path, *, writes: bool) -> Engine:
    """Return an engine with its default options."""
    maker = plugins.build(part("search/engines", name))
    return maker.open(vectors, folder / name, writes=writes)


def anonymous() -> int:
    """Return the bytes that this process holds of its own."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) * 1024


def probe(name: str, file: Path, rows: int, width: int) -> None:
    """Print what a fresh process takes: bytes of its own, and seconds to open."""
    vectors = np.memmap(file, np.float32, "r", shape=(rows, width))
    z = np.ascontiguousarray(vectors[:64])
    opened("exact", vectors[:1_000], file.parent, writes=False).nearest(z, TOP)
    plugins.load("search/engines", name)
    if name != "exact":
        __import__("usearch.index" if name == "usearch" else name)
    before, began = anonymous(), time.perf_counter()
    engine = opened(name, vectors, file.parent, writes=False)
    took = time.perf_counter() - began
    engine.nearest(z, TOP)
    print(json.dumps({"bytes": anonymous() - before, "open_s": round(took, 3)}))


def recalled(engine: Engine, z: np.ndarray, best: np.ndarray, allowed: Any) -> float:
    """Return the share of the true nearest that are found."""
    found = engine.nearest(z, TOP, allowed)[1]
    return round(float(np.mean(found >= best[:, -1:] - 1e-6)), 4)


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    file = folder / "vectors.f32"
    z = made(file, args.rows, args.width)
    vectors = np.memmap(file, np.float32, "r", shape=(args.rows, args.width))
    engines: dict[str, Engine] = {}
    found: dict[str, Any] = {"engines": {}, "speed": [], "recall@10": {}}
    for name in ENGINES:
        engines[name] = opened(name, vectors, folder, writes=True)
        began = time.process_time()
        engines[name].build()
        took = time.process_time() - began
        assert not engines[name].complaint, engines[name].complaint
        command = [sys.executable, __file__, "--probe", name, "--file", str(file)]
        command += ["--rows", str(args.rows), "--width", str(args.width)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        files = (path for path in (folder / name).rglob("*") if path.is_file())
        found["engines"][name] = {
            "build_s": round(took, 2),
            "disk_bytes": sum(path.stat().st_size for path in files),
            "declared_recall": engines[name].recall,
            **json.loads(told),
        }
        print(name, found["engines"][name], flush=True)
    dice = np.random.default_rng(1)
    for share_name, share in SHARES.items():
        allowed = None if share is None else dice.random(args.rows) < share
        best = engines["exact"].nearest(z, TOP, allowed)[1]
        found["recall@10"][share_name] = {
            name: recalled(engine, z, best, allowed) for name, engine in engines.items()
        }
        for batch in BATCHES if share is None else (1,):
            found["speed"].append(paired(engines, z, batch, share_name, allowed, args))
            print(json.dumps(found["speed"][-1]), flush=True)
    return found


def paired(
    engines: dict[str, Engine],
    z: np.ndarray,
    batch: int,
    share: str,
    allowed: Any,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Return how fast each engine answers `batch` questions at once, and the ratios to exact."""

    def asks(engine: Engine):
        def work(number: int) -> object:
            start = number * batch % (len(z) - batch + 1)
            return engine.nearest(z[start : start + batch], TOP, allowed)

        return work

    works = {name: asks(engine) for name, engine in engines.items()}
    for work in works.values():
        work(0)
    rounds = take_turns(works, args.rounds, max(2, 16 // batch), torch.device("cpu"), 60)
    return {
        "batch": batch,
        "allowed": share,
        "rounds": len(rounds),
        "queries_per_s": {name: quantiles([batch / r[name] for r in rounds]) for name in works},
        "times_exact": {
            name: speed_ratio(rounds, name, "exact") for name in works if name != "exact"
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--probe", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.probe:
        probe(args.probe, args.file, args.rows, args.width)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args, Path(folder))
    found |= {
        "rows": args.rows,
        "width": args.width,
        "questions": ASKED,
        "machine": facts(torch.device("cpu")),
    }
    found["libraries"] = {
        "usearch": version("usearch"),
        "faiss": version("faiss-cpu"),
        "numpy": np.__version__,
    }
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
