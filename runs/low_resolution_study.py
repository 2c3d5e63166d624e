"""Small images first, or full ones throughout? Time to equal accuracy, in paired training runs.

    python runs/low_resolution_study.py --data FOLDER_WITH_PARQUET     # every run that is missing
    python runs/low_resolution_study.py --data FOLDER --seeds 0 --arms constant low
    python runs/low_resolution_study.py --table                        # from the JSON files alone

FOLDER holds train.parquet (14,000 products); the test products are not opened. The recipe is
`products_speedrun` with patches of 8 pixels on photos of 64, about their size in the files: 64
patches an image instead of 4, since the time of a run with few patches is not the tower's, and 4
patches of a halved photo are another task than 16 of the whole one. It trains on 13,000 products;
text-to-image R@10 over the other 1,000 is taken every 16 of 320 steps.

Two arms share seeds, batches, warm-up and decay: `constant` sees 64 px throughout; `low` sees 32 px
in the first 80% of its steps (RECLIP, 2304.06028). A third, `small`, sees 32 px throughout and is
judged at 32 px: it tells what the full-resolution end is worth, and is in no verdict.

What is compared, and was written down before any run: the process time, evaluations left out, at
which an arm's R@10 is first at or above what `constant` of the same seed ends with. `constant` may
itself be there before its end. An arm that never gets there counts as infinitely slow, hence the
median of the ratios; the smallest and the largest of eight are its 99% interval (Thompson 1936).
`low` is faster if that interval lies below 1, slower if it lies above; else nothing is shown.

Each run leaves one JSON in runs/results/low_resolution_study; one that is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from lift import evaluation, recipes
from lift.cache import writer
from lift.config import part
from lift.data.source import Captions, open_source
from lift.text.encoder import build_encoder
from lift.training import loop
from lift.training.config import LowResolutionConfig, RunConfig
from lift.training.paired import difference
from lift.world import versions

RESULTS = Path(__file__).parent / "results" / "low_resolution_study"
FULL, SMALL, PATCH = 64, 32, 8
ARMS = {
    "constant": (FULL, LowResolutionConfig()),
    "low": (FULL, LowResolutionConfig(resolution=SMALL, share=0.8)),
    "small": (SMALL, LowResolutionConfig()),
}
"""What evaluation sees, and what the first part of the run sees."""
SEEDS = 8
STEPS = 320
EVERY = 16
"""Steps between two evaluations."""
HELD_BACK = 1000
METRIC = "text_to_image/R@10"


# --- data ---------------------------------------------------------------------------------------


def split(data: Path, out: Path) -> tuple[str, str]:
    """Return what to train on and what to judge on; split by hashes of the ids, as the speed run's
    `held-back` is."""
    paths = out / "data" / "others.parquet", out / "data" / "held-back.parquet"
    if not all(path.exists() for path in paths):
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        whole = pq.read_table(data / "train.parquet")
        hashes = [hashlib.sha256(f"speedrun{k}".encode()).digest() for k in whole["id"].to_pylist()]
        order = np.array(sorted(range(len(whole)), key=hashes.__getitem__))
        for path, chosen in zip(paths, (order[HELD_BACK:], order[:HELD_BACK]), strict=True):
            aside = path.with_suffix(".partial")
            pq.write_table(whole.take(np.sort(chosen)), aside, row_group_size=1000)
            aside.replace(path)
    train, judged = (f"table:path={path},image=image,caption=title,key=id" for path in paths)
    return train, judged


def cache(specs: tuple[str, str], out: Path) -> Path:
    """Return the folder of stored rows, made where it is not there yet."""
    folder = out / "rows"
    if not (folder / "manifest.json").exists():
        encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
        captions = Captions([open_source(spec) for spec in specs])
        writer.embed(captions, encoder, folder, codec="float32", progress=False)
    return folder


# --- one run ------------------------------------------------------------------------------------


def configured(arm: str, seed: int, steps: int, specs: tuple[str, str], rows: Path) -> RunConfig:
    """Return the config of one run; arms differ in resolutions alone."""
    base = recipes.get("products_speedrun")
    side, low = ARMS[arm]
    tower = {**base.tower.options, "patch": PATCH, "resolution": side}
    return dataclasses.replace(
        base,
        data=specs[0],
        validation=specs[1],
        cache=str(rows),
        samples=steps * base.loader.batch_size,
        transform=dataclasses.replace(base.transform, resolution=side, canvas=FULL),
        tower=dataclasses.replace(base.tower, options=tower),
        low_resolution=low,
        evaluate_every=EVERY,
        checkpoint_every=0,
        device="cpu",
        threads=1,
        seed=seed,
    )


class Clock:
    """Process time of a run without its evaluations.

    Attributes:
        stops: process time before each evaluation, those before it left out.
    """

    def __init__(self) -> None:
        self.stops: list[float] = []
        self._start, self._judging = time.process_time(), 0.0

    def evaluate(self, *args: Any, **options: Any) -> Any:
        """Judge with the clock stopped."""
        began = time.process_time()
        self.stops.append(began - self._start - self._judging)
        try:
            return evaluation.evaluate(*args, **options)
        finally:
            self._judging += time.process_time() - began


def train(config: RunConfig, arm: str, folder: Path) -> dict[str, Any]:
    """Return one run's record: what was known when."""
    shutil.rmtree(folder, ignore_errors=True)
    clock = Clock()
    with mock.patch.object(loop, "evaluate", clock.evaluate):
        result = loop.run(config, folder, progress=False)
    whole = time.process_time()
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    judged = [event for event in map(json.loads, lines) if event["event"] == "eval"]
    curve = [
        {
            "step": event["step"],
            "cpu_seconds": round(seconds, 2),
            "R@10": 100 * event["results"][0]["metrics"][METRIC]["value"],
        }
        for event, seconds in zip(judged, clock.stops, strict=True)
    ]
    shutil.rmtree(folder)
    return {
        "arm": arm,
        "seed": config.seed,
        "steps": result.steps,
        "batch": config.loader.batch_size,
        "curve": curve,
        "process_seconds_at_end": round(whole, 1),
        "versions": versions(),
    }


# --- what was found -----------------------------------------------------------------------------


def time_to(record: dict[str, Any], level: float) -> float:
    """Return the seconds of the first evaluation at or above `level`; infinite for none."""
    reached = (at["cpu_seconds"] for at in record["curve"] if at["R@10"] >= level)
    return next(reached, math.inf)


def read(results: Path, steps: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Return {arm: {seed: record}} of the runs of this length that are there."""
    found: dict[str, dict[int, dict[str, Any]]] = {arm: {} for arm in ARMS}
    for path in sorted(results.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["steps"] == steps:
            found[record["arm"]][record["seed"]] = record
    return found


def verdict(ratios: list[float]) -> str:
    """Return what the ratios of times say; below eight pairs, nothing."""
    if len(ratios) < SEEDS:
        return f"{len(ratios)} of {SEEDS} seeds, no verdict"
    if max(ratios) < 1:
        return "faster"
    return "slower" if min(ratios) > 1 else "no difference shown"


def table(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Return the figures of all arms beside `constant`, seed by seed and together."""
    base = found["constant"]
    lines = [
        "| arm | seeds | R@10 at the end | difference [95%] | CPU-s to the end | "
        "time to constant's end, median ratio [least, most] | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, records in found.items():
        seeds = sorted(set(records) & set(base))
        if not seeds:
            continue
        ends = [records[s]["curve"][-1] for s in seeds]
        last = [base[s]["curve"][-1]["R@10"] for s in seeds]
        cells = [arm, str(len(seeds)), f"{statistics.fmean(e['R@10'] for e in ends):.1f}"]
        if arm == "constant":
            cells.append("-")
        else:
            more = difference(seeds, [e["R@10"] for e in ends], last)
            ends_of = f" [{more.low:+.1f}, {more.high:+.1f}]" if more.low is not None else ""
            cells.append(f"{more.mean:+.1f}{ends_of}")
        cells.append(f"{statistics.fmean(e['cpu_seconds'] for e in ends):.1f}")
        ratios = [
            time_to(records[s], level) / time_to(base[s], level)
            for s, level in zip(seeds, last, strict=True)
        ]
        span = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        compared = arm == "low"
        cells += ["-" if arm == "constant" else span, verdict(ratios) if compared else "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with train.parquet")
    parser.add_argument("--out", type=Path, default=Path("out/low_resolution_study"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="one JSON a run")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=["constant", "low"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*range(SEEDS)])
    parser.add_argument("--steps", type=int, default=STEPS, help="shorter is for trying it out")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.table:
        if args.data is None:
            parser.error("give --data, or --table for what is there")
        specs = split(args.data, args.out)
        configure = functools.partial(configured, specs=specs, rows=cache(specs, args.out))
        args.results.mkdir(parents=True, exist_ok=True)
        for seed in args.seeds:
            # Each arm goes first in every other seed: a busy machine favours neither.
            for arm in args.arms if seed % 2 == 0 else reversed(args.arms):
                path = args.results / f"{arm}-{seed}.json"
                if path.exists():
                    print(f"{path.name} is there")
                    continue
                record = train(configure(arm, seed, args.steps), arm, args.out / "run")
                aside = path.with_suffix(".partial")
                aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
                aside.replace(path)
                print(f"{path.name}: {record['curve'][-1]}", flush=True)
    print(table(read(args.results, args.steps)))


if __name__ == "__main__":
    main()
