"""How fast captions become rows, against sentence-transformers' own `encode` and a padded loop.

    python benchmarks/embed.py --captions FOLDER --out benchmarks/results/embed.json

FOLDER holds coco_captions_val2017.jsonl.gz, iiw400.jsonl.gz and iiw_docci_test.jsonl.gz, with one
object a line ("caption" in the first, "IIW" in the others). A run takes some 7 minutes of a core.

All contenders run one MiniLM with one torch thread, in one process, on the same captions. First
sentence-transformers' fastest batch size is looked for: every size once, then the three fastest
once more. Then contenders take turns in every round, in rotating order, and each round gives one
ratio for each pair; reported are the 10th, 50th and 90th percentile of these. Process CPU time is
counted on CPU, so that other work on the machine weighs less, and wall time around a device.

    ours             our `encode` in float32: tokenised once, batches under a token budget
    ours again       the same, whose ratio to the first is the noise floor
    best batch       sentence-transformers in float32 at its fastest batch size
    defaults         sentence-transformers as it comes (float32, 32 texts a batch)
    padded loop      in the order given, 100 texts a batch padded to the longest of them, float32
    ours, bfloat16   our `encode` in bfloat16, with its cosine to float32

The last two run in every fourth round only: no narrow ratio hangs on them, and they can be slow.

Captions are drawn with a seed: "mixed" is 80% COCO captions and 20% long descriptions
(ImageInWords), cut at MiniLM's 256 tokens by every contender alike; "coco" is COCO captions alone.
Padding waste is tokens computed for nothing over tokens of the texts.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.cache import planning
from lift.text.encoder import clean, default_token_budget
from lift.text.encoders import minilm
from lift.text.precision import NEAR, min_cosine
from lift.world import versions

Work = Callable[[], np.ndarray]

SIZES = (8, 16, 32, 64, 128, 256)
LOOP = 100
RARE = ("padded loop", "ours, bfloat16")
PAIRS = (
    ("ours", "best batch", "ours"),
    ("ours", "defaults", "ours"),
    ("ours", "padded loop", "padded loop"),
    ("ours, bfloat16", "ours", "ours, bfloat16"),
    ("ours, bfloat16", "defaults", "ours, bfloat16"),
    ("ours", "ours again", "ours"),
)
"""What is divided: the first is faster by the ratio; the third says in which rounds both ran."""

GOALS = {
    "ours over best batch": {"corpus": "mixed", "median": 1.05, "p10": 1.0},
    "ours over padded loop": {"corpus": "mixed", "median": 2.5},
    "padding waste of ours": {"corpus": "mixed", "at most": 0.02},
}


def corpora(folder: Path, count: int) -> dict[str, list[str]]:
    """Return the two lists of captions, shuffled."""
    coco = [line["caption"] for line in _lines(folder / "coco_captions_val2017.jsonl.gz")]
    files = ("iiw400.jsonl.gz", "iiw_docci_test.jsonl.gz")
    long = [line["IIW"] for name in files for line in _lines(folder / name)]
    draw = np.random.default_rng(0)
    fifth = count // 5
    some = [coco[i] for i in draw.choice(len(coco), count - fifth, replace=False)]
    some += [long[i] for i in draw.choice(len(long), fifth, replace=False)]
    mixed = [clean(some[i]) for i in draw.permutation(len(some))]
    return {
        "mixed": mixed,
        "coco": [clean(coco[i]) for i in draw.choice(len(coco), count, replace=False)],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def seconds(work: Work, device: str) -> float:
    """Return the seconds of one call: process CPU time on CPU, wall time around a device."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()  # what every contender returns is on the CPU: nothing is left to wait for
    return clock() - start


def padded_loop(model: Any, texts: list[str]) -> np.ndarray:
    """Return rows by the loop that most scripts have: no sorting, padded to the longest."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), LOOP):
            features = model.preprocess(texts[start : start + LOOP])
            features = {
                name: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for name, value in features.items()
            }
            rows.append(model(features)["sentence_embedding"].cpu().numpy())
    return np.concatenate(rows)


def waste(tokens: np.ndarray, order: np.ndarray, size: int) -> float:
    """Return the padding over the tokens for batches of `size` texts in an order."""
    batches = [tokens[order[start : start + size]] for start in range(0, len(order), size)]
    return sum(len(batch) * int(batch.max()) for batch in batches) / float(tokens.sum()) - 1


def measure(encoder: Any, model: Any, texts: list[str], rounds: int) -> dict[str, Any]:
    """Return all figures of one corpus."""
    device = encoder.device

    def theirs(size: int) -> Work:
        return lambda: model.encode(texts, batch_size=size, show_progress_bar=False)

    for precision in ("float32", "bfloat16"):  # first calls load code and round weights
        encoder.encode(texts[:50], precision=precision)
    search = {size: seconds(theirs(size), device) for size in SIZES}
    for size in sorted(SIZES, key=lambda size: search[size])[:3]:
        search[size] = min(search[size], seconds(theirs(size), device))
    best = min(SIZES, key=lambda size: search[size])
    ours: Work = lambda: encoder.encode(texts).rows  # noqa: E731
    calls: dict[str, Work] = {
        "ours": ours,
        "best batch": theirs(best),
        "ours again": ours,
        "defaults": lambda: model.encode(texts, show_progress_bar=False),
        "ours, bfloat16": lambda: encoder.encode(texts, precision="bfloat16").rows,
        "padded loop": lambda: padded_loop(model, texts),
    }
    times: list[dict[str, float]] = []
    for number in range(rounds):
        names = [name for name in calls if name not in RARE or number % 4 == 0]
        shift = number % len(names)
        order = names[shift:] + names[:shift]
        times.append({name: round(seconds(calls[name], device), 4) for name in order})
        sys.stderr.write(f"round {number + 1} of {rounds}\n")
    found = encoder.encode(texts)
    cut = np.minimum(found.tokens, encoder.space.max_tokens)
    by_length = np.argsort([-len(text) for text in texts])  # as sentence-transformers sorts
    return {
        "captions": len(texts),
        "tokens": int(cut.sum()),
        "captions_cut": int(found.truncated.sum()),
        "best_batch_size": best,
        "search_seconds": search,
        "captions_per_s": {
            name: round(len(texts) / statistics.median(t[name] for t in times if name in t), 1)
            for name in calls
        },
        "ratios": {
            f"{fast} over {slow}": quantiles([t[slow] / t[fast] for t in times if rare in t])
            for fast, slow, rare in PAIRS
        },
        "padding_waste": {
            "ours": found.padded / float(cut.sum()) - 1,
            "best batch": waste(cut, by_length, best),
            "defaults": waste(cut, by_length, 32),
            "padded loop": waste(cut, np.arange(len(texts)), LOOP),
        },
        "min_cosine": {
            "ours, bfloat16": min_cosine(found.rows, calls["ours, bfloat16"]()),
            "best batch": min_cosine(found.rows, calls["best batch"]()),
            "padded loop": min_cosine(found.rows, calls["padded loop"]()),
        },
        "times": times,
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the 10th, 50th and 90th percentile."""
    p10, median, p90 = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return {"p10": p10, "median": median, "p90": p90, "rounds": len(values)}


def judged(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return for each goal whether it is reached, with its numbers."""
    made: dict[str, Any] = {}
    for name, goal in GOALS.items():
        corpus = found[str(goal["corpus"])]
        if "at most" in goal:
            value = corpus["padding_waste"]["ours"]
            made[name] = {**goal, "found": value, "reached": value <= goal["at most"]}
            continue
        value = corpus["ratios"][name]
        limits = {key: goal[key] for key in ("median", "p10") if key in goal}
        reached = all(value[key] >= limit for key, limit in limits.items())
        made[name] = {"goal": limits, "found": value, "reached": reached}
    cosine = found["mixed"]["min_cosine"]["ours, bfloat16"]
    gain = found["mixed"]["ratios"]["ours, bfloat16 over ours"]["median"]
    made["bfloat16 is offered"] = {
        "cosine": cosine,
        "gain": gain,
        "offered": cosine >= NEAR and gain > 1.05,
    }
    return made


def processor() -> dict[str, Any]:
    """Return the name of the CPU and what of its instructions matters here."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
    return {
        "name": facts.get("model name", platform.processor() or platform.machine()),
        "instructions": [flag for flag in wanted if flag in facts.get("flags", "").split()],
        "cores": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, required=True, help="folder, see above")
    parser.add_argument("--count", type=int, default=250, help="captions of each corpus")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder = minilm.build(minilm.Config(), args.device)
    model = encoder.model  # the very same weights, tokenizer and cap for every contender
    before = processor()
    found = {
        name: measure(encoder, model, texts, args.rounds)
        for name, texts in corpora(args.captions, args.count).items()
    }
    made = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {**planning.versions(), **versions()},
        "processor": before,
        "device": torch.cuda.get_device_name() if encoder.device == "cuda" else encoder.device,
        "threads": torch.get_num_threads(),
        "token_budget": default_token_budget(encoder.device),
        "options": {"count": args.count, "rounds": args.rounds},
        "goals": judged(found),
        "corpora": found,
    }
    text = json.dumps(made, indent=2)
    sys.stdout.write(text + "\n")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
