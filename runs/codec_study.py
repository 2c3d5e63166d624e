"""Does a model notice how its text rows were stored? Paired training runs, one arm a codec.

    python runs/codec_study.py --data FOLDER_WITH_PARQUET            # every run that is missing
    python runs/codec_study.py --data FOLDER --seeds 0 --arms float32 int8
    python runs/codec_study.py --table docs/codecs.md                # from the JSON files alone

FOLDER holds train.parquet (14,000 products) and test.parquet (2,000): id, image, title. The recipe
is `products_tiny` with its 210,000 samples cut to 24,000 and its warm-up to 60 steps, so that a run
stays under two CPU-minutes with its evaluation. It trains on 8,000 of the training products. The
other 6,000 make three more galleries of 2,000 beside the test file: differences between models are
a few tenths of a point, and 2,000 queries alone can't tell that from luck. A run's score is the
mean, over the four galleries and both directions, of R@10, with float32 queries and rows.

Each run leaves one JSON in runs/results/codec_study; one that is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lift import bundle, recipes
from lift.cache import writer
from lift.cache.reader import EmbeddingCache
from lift.config import part, to_dict
from lift.data.source import Captions, open_source
from lift.encoders import CachedTexts
from lift.evaluation import evaluate, parse_plan
from lift.text.encoder import build_encoder
from lift.training.loop import run
from lift.world import threads, versions

RESULTS = Path(__file__).parent / "results" / "codec_study"
ARMS = {
    "float32": part("cache/codecs", "float32"),
    "int8": part("cache/codecs", "int8"),
    "int4": part("cache/codecs", "int4"),
    "prefix8": part("cache/codecs", "prefix", dimensions=8, force=True),
}
"""`prefix8` keeps 8 of 384 numbers: what is meant to fail, so that the study shows it could."""

SEEDS = 8
SAMPLES = 24_000
TRAINED_ON = 8_000
GALLERY = 2_000
MARGIN = 1.0
"""Points of R@10 within which two arms count as equal."""

T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, 97.5%, by degrees of freedom (seeds - 1)."""


def table_spec(path: Path) -> str:
    """Return a file of products as `open_source` takes it."""
    return f"table:path={path},image=image,caption=title,key=id"


def prepare(data: Path, out: Path) -> tuple[str, list[str]]:
    """Return the training pairs and the galleries, split by a fixed shuffle; make them once."""
    names = ["train", *(f"gallery-{n}" for n in (1, 2, 3))]
    paths = [out / "data" / f"{name}.parquet" for name in names]
    if not paths[-1].exists():
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        whole = pq.read_table(data / "train.parquet")
        order = np.random.default_rng(0).permutation(len(whole))
        starts = [0, *range(TRAINED_ON, TRAINED_ON + 3 * GALLERY + 1, GALLERY)]
        for path, (start, stop) in zip(paths, itertools.pairwise(starts), strict=True):
            chosen = whole.take(np.sort(order[start:stop]))
            aside = path.with_suffix(".partial")
            pq.write_table(chosen, aside, row_group_size=500)
            aside.replace(path)
    galleries = [data / "test.parquet", *paths[1:]]
    return table_spec(paths[0]), [table_spec(path) for path in galleries]


def cache_of(arm: str, specs: list[str], out: Path) -> EmbeddingCache:
    """Return the cache of an arm, embedded in float32 where it is not there yet."""
    folder = out / "rows" / arm
    if not (folder / "manifest.json").exists():
        encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
        captions = Captions([open_source(spec) for spec in specs])
        writer.embed(captions, encoder, folder, codec=ARMS[arm], precision="float32")
    return EmbeddingCache.open(folder)


def train_and_judge(
    arm: str, seed: int, trained_on: str, galleries: list[str], out: Path, samples: int
) -> dict:
    """Return one run's record."""
    specs = [trained_on, *galleries]
    stored, exact = cache_of(arm, specs, out), cache_of("float32", specs, out)
    folder = out / "run"
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    recipe = recipes.get("products_tiny")
    config = dataclasses.replace(
        recipe,
        data=trained_on,
        cache=str(stored.folder),
        samples=samples,
        optim=dataclasses.replace(recipe.optim, warmup_steps=60),
        evaluations=(),
        evaluate_every=0,
        checkpoint_every=0,
        precision="float32",
        device="cpu",
        threads=1,
        seed=seed,
    )
    run(config, folder, progress=False)
    trained = time.process_time()
    judged = CachedTexts(bundle.load(folder / "model"), exact)
    figures = {}
    with threads(1):
        for number, spec in enumerate(galleries):
            (result,) = evaluate(judged, [parse_plan("retrieval", data=spec)], progress=False)
            figures[f"gallery-{number}"] = {
                name: 100 * result.metrics[f"{name}/R@10"].value
                for name in ("text_to_image", "image_to_text")
            }
    return {
        "arm": arm,
        "codec": to_dict(ARMS[arm]),
        "seed": seed,
        "score": statistics.mean(v for found in figures.values() for v in found.values()),
        "galleries": figures,
        "samples": samples,
        "cpu_seconds": {
            "training": round(trained - started, 1),
            "judging": round(time.process_time() - trained, 1),
        },
        "fidelity": to_dict(stored.manifest.fidelity),
        "versions": versions(),
    }


def read_scores(results: Path, samples: int | None = None) -> dict[str, dict[int, float]]:
    """Return {arm: {seed: score}} of the runs that are there."""
    scores: dict[str, dict[int, float]] = {arm: {} for arm in ARMS}
    for path in sorted(results.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if samples in (None, record["samples"]):
            scores[record["arm"]][record["seed"]] = record["score"]
    return scores


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Return mean and 95% t-interval of paired differences."""
    mean = statistics.mean(differences)
    half = T[len(differences) - 1] * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def verdict(low: float, high: float, margin: float = MARGIN) -> str:
    """Return what an interval says of an arm against float32."""
    if -margin < low and high < margin:
        return "equivalent"
    if high < -margin:
        return "worse"
    return "better" if low > margin else "inconclusive"


def study_table(scores: dict[str, dict[int, float]]) -> str:
    """Return the section of the document."""
    base = scores["float32"]
    lines = [
        "| arm | seeds | R@10, mean | difference to float32 [95%] | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm, found in scores.items():
        seeds = sorted(set(found) & set(base))
        if not seeds:
            lines.append(f"| {arm} | 0 | - | - | not run |")
            continue
        mean = statistics.mean(found[seed] for seed in seeds)
        cells = [arm, str(len(seeds)), f"{mean:.2f}"]
        if arm == "float32":
            cells += ["-", "-"]
        elif len(seeds) < 2:
            cells += [f"{found[seeds[0]] - base[seeds[0]]:+.2f}", "one seed says nothing"]
        else:
            middle, low, high = interval([found[seed] - base[seed] for seed in seeds])
            cells += [f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]", verdict(low, high)]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        f"R@10 in points: mean over four galleries of {GALLERY:,} products and both directions. "
        f"Equivalent: the whole interval lies within {MARGIN:g} point; worse: all of it lies "
        "below that; anything else is inconclusive."
    )
    return "\n".join([note, "", *lines])


def write_section(path: Path, name: str, command: str, text: str) -> None:
    """Replace what stands between the markers of a section; the rest of the file stays."""
    start, end = f"<!-- {name}: made by `{command}` -->", f"<!-- end of {name} -->"
    before = path.read_text(encoding="utf-8")
    begin = before.index(f"<!-- {name}: made by")
    stop = before.index(end)
    path.write_text(f"{before[:begin]}{start}\n\n{text}\n\n{before[stop:]}", encoding="utf-8")


def main() -> None:
    """Run what is missing, or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, default=Path("out/codec_study"), help="scratch folder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="one JSON a run")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*range(SEEDS)])
    parser.add_argument("--samples", type=int, default=SAMPLES, help="images a run sees")
    parser.add_argument("--table", type=Path, help="document whose section is replaced")
    args = parser.parse_args()
    if args.table:
        text = study_table(read_scores(args.results, args.samples))
        print(text)
        write_section(args.table, "study", f"python runs/codec_study.py --table {args.table}", text)
        return
    if args.data is None:
        parser.error("give --data, or --table for what is there")
    trained_on, galleries = prepare(args.data, args.out)
    args.results.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for arm in args.arms:
            path = args.results / f"{arm}-{seed}.json"
            if path.exists():
                print(f"{path.name} is there")
                continue
            record = train_and_judge(arm, seed, trained_on, galleries, args.out, args.samples)
            aside = path.with_suffix(".partial")
            aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            aside.replace(path)
            print(f"{path.name}: R@10 {record['score']:.2f}, CPU {record['cpu_seconds']}")


if __name__ == "__main__":
    main()
