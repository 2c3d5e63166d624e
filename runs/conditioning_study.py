"""Does a conditioned text space train a better image side, and what does the fold lose of it?

    python runs/conditioning_study.py text --data ../shared/data        # no training, 90 CPU-s
    python runs/conditioning_study.py train --data ../shared/data       # every run that is missing
    python runs/conditioning_study.py train --data ../shared/data --sets scenes --seeds 0
    python runs/conditioning_study.py table                             # from the JSON files alone

`text` asks MiniLM rows alone. An image is played by the mean of four of its captions, brought into
the conditioned space; the fifth asks for it. It counts how many pairs of answers change their order
when the transform is folded back (images of a text by dot product and by cosine, texts of an
image), the same without the mean direction projected out, and how many of SugarCrepe's decisions
(200 questions a kind, the image played by its other captions) turn.

`train` trains paired runs, an arm a transform: Flickr8k photos (`flickr8k_tiny`, its 156,000
samples cut to 26,000, warm-up to 60 steps) and drawn scenes (`quickstart`). The cache that a run
trains on, and that its transform is fitted on, holds training captions only. Each finished model is
judged twice: in the raw space, as users have it, and in the conditioned space, which the fold left
(the unit vector v = unit(F g) still says g). The first is the result, the second tells a transform
that does not help from one that is lost on the way back.

Each run leaves one JSON in runs/results/conditioning_study; one that is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import itertools
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from lift import bundle, recipes
from lift.cache import writer
from lift.cache.conditioned import fit_on
from lift.cache.reader import EmbeddingCache
from lift.config import part, to_dict
from lift.data.source import Captions, open_source
from lift.encoders import CachedTexts
from lift.evaluation import evaluate, parse_plan
from lift.terms import Encoder, unit
from lift.text.conditioning import Condition, ConditionConfig
from lift.text.encoder import build_encoder
from lift.training.loop import run
from lift.training.paired import difference
from lift.training.texts import CONDITION
from lift.world import threads, versions

RESULTS = Path(__file__).parent / "results" / "conditioning_study"

ARMS = {
    "none": ConditionConfig(),
    "centre": ConditionConfig(kind="centre"),
    "whiten128": ConditionConfig(kind="whiten", dimensions=128),
    "pca128": ConditionConfig(kind="pca", dimensions=128),
    "whiten128-subtract": ConditionConfig(kind="whiten", dimensions=128, mean="subtract"),
}
DEFAULT_ARMS = ["none", "centre", "whiten128", "pca128"]
SETS = ("flickr8k", "scenes")
SEEDS = 3
SAMPLES = {"flickr8k": 26_000, "scenes": 25_600}
KINDS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
QUESTIONS = 200
"""Of each kind."""
PAIRS = 400
"""Pairs of answers drawn a query."""


# --- data ---------------------------------------------------------------------------------------


def specs(name: str, data: Path) -> tuple[str, str]:
    """Return the pairs to train on and to judge on."""
    if name == "flickr8k":
        return str(data / "flickr8k" / "train-*.tar"), str(data / "flickr8k" / "val-0000.tar")
    options = "seed=1,resolution=48,short=1,long=1"
    return f"scenes:count=2400,{options}", f"scenes:count=1000,start=2400,{options}"


def cache(folder: Path, texts) -> EmbeddingCache:
    """Return the cache of some texts, embedded in float32 where it is not there yet."""
    if not (folder / "manifest.json").exists():
        encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
        writer.embed(texts, encoder, folder, codec="float32", progress=False)
    return EmbeddingCache.open(folder)


def caches(name: str, data: Path, out: Path) -> tuple[EmbeddingCache, EmbeddingCache]:
    """Return the rows that are trained on, and those that a model is judged with, foils too."""
    train, test = (open_source(spec) for spec in specs(name, data))
    own = cache(out / "rows" / f"{name}-train", Captions([train]))
    judged = [caption.text for _, captions in test.texts() for caption in captions]
    if name == "scenes":
        samples = (test.read(number) for number in range(len(test)))
        judged += [t for s in samples for foil in s.foils for t in (foil.caption, foil.foil)]
    return own, cache(out / "rows" / f"{name}-test", judged)


# --- on text alone ------------------------------------------------------------------------------


def flips(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return which percentage of pairs of a query's answers change their order; a row a query."""
    dice = torch.Generator().manual_seed(0)
    first, second = (
        torch.randint(one.shape[1], (len(one), PAIRS), generator=dice) for _ in range(2)
    )
    a = one.gather(1, first) - one.gather(1, second)
    b = other.gather(1, first) - other.gather(1, second)
    told = first != second
    return 100 * float(((a * b < 0) & told).sum() / told.sum())


def recall(scores: torch.Tensor) -> float:
    """Return R@1 in percent where answer i belongs to query i."""
    return 100 * float((scores.argmax(1) == torch.arange(len(scores))).double().mean())


def rows(stored: EmbeddingCache, texts: Sequence[str]) -> torch.Tensor:
    """Return unit rows in float64."""
    return unit(torch.from_numpy(stored.take(stored.require(texts))).double())


def played(groups: Sequence[Sequence[str]], stored: EmbeddingCache) -> torch.Tensor:
    """Return for each group of captions the unit mean of their rows."""
    return unit(torch.stack([rows(stored, group).mean(0) for group in groups]))


def questions(data: Path) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return SugarCrepe's (kind, caption, foil, other captions of the image)."""
    others: dict[int, list[str]] = {}
    with gzip.open(data / "text" / "coco_captions_val2017.jsonl.gz", "rt") as lines:
        for record in map(json.loads, lines):
            others.setdefault(record["image_id"], []).append(record["caption"])
    found = []
    for kind in KINDS:
        asked = json.loads((data / "text" / "sugarcrepe" / f"{kind}.json").read_text())
        for record in list(asked.values())[:QUESTIONS]:
            caption, foil = record["caption"], record["negative_caption"]
            captions = others.get(int(record["filename"].split(".")[0]), [])
            rest = tuple(c for c in captions if c.strip() not in (caption.strip(), foil.strip()))
            found.append((kind, caption, foil, rest))
    return [question for question in found if question[3]]


def on_text(data: Path, out: Path) -> dict:
    """Return what the fold keeps, an entry a transform."""
    fitted_on, judged = caches("flickr8k", data, out)
    captions = [
        [c.text for c in found] for _, found in open_source(specs("flickr8k", data)[1]).texts()
    ]
    asked = questions(data)
    texts = {text for _, caption, foil, rest in asked for text in (caption, foil, *rest)}
    crepe = cache(out / "rows" / "sugarcrepe", sorted(texts))
    t, image = rows(judged, [c[0] for c in captions]), played([c[1:] for c in captions], judged)
    right, wrong = rows(crepe, [q[1] for q in asked]), rows(crepe, [q[2] for q in asked])
    shown = played([q[3] for q in asked], crepe)
    lead = ((right - wrong) * shown).sum(1)
    records: dict[str, dict] = {
        "raw": {
            "text_to_image": {"R@1": recall(t @ image.T)},
            "image_to_text": {"R@1": recall(image @ t.T)},
            "sugarcrepe": {"accuracy": 100 * float((lead > 0).double().mean())},
        }
    }
    for kind, dimensions, mean in itertools.product(
        ("centre", "pca", "whiten"), (0, 128), ("project", "subtract")
    ):
        if kind == "centre" and dimensions:
            continue
        config = ConditionConfig(kind=kind, dimensions=dimensions, mean=mean)
        condition = fit_on(fitted_on, config)
        back, g = condition.fold(), unit(condition.apply(image))
        trained = unit(condition.apply(t)) @ g.T
        dot, cosine = t @ back @ g.T, t @ unit(g @ back.T).T
        bare = t @ condition.matrix.T @ g.T
        see = unit(condition.apply(shown))
        before = ((unit(condition.apply(right)) - unit(condition.apply(wrong))) * see).sum(1)
        after = ((right - wrong) * (see @ back.T)).sum(1)
        records[f"{kind}{dimensions or ''}-{mean}"] = {
            "width": condition.width,
            "gain": condition.gain,
            "text_to_image": {
                "flips by dot product, %": flips(trained, dot),
                "flips by cosine, %": flips(trained, cosine),
                "flips by cosine without projection, %": flips(
                    trained, t @ unit(g @ condition.matrix).T
                ),
                "R@1 conditioned": recall(trained),
                "R@1 by dot product": recall(dot),
                "R@1 by cosine": recall(cosine),
            },
            "image_to_text": {
                "flips, %": flips(trained.T, dot.T),
                "flips without projection, %": flips(trained.T, bare.T),
                "R@1 conditioned": recall(trained.T),
                "R@1 raw": recall(dot.T),
            },
            "sugarcrepe": {
                "questions": len(asked),
                "decisions turned, %": 100 * float((before * after < 0).double().mean()),
                "accuracy conditioned": 100 * float((before > 0).double().mean()),
                "accuracy raw": 100 * float((after > 0).double().mean()),
            },
        }
    return records


# --- training -----------------------------------------------------------------------------------


class Unfolded:
    """A folded model in the conditioned space that it was trained in: v = unit(F g) still says g.

    F has full column rank, so g is unit(F+ v) with the pseudo-inverse F+.
    """

    def __init__(self, model: Encoder, condition: Condition) -> None:
        self.name, self.saw = model.name, model.saw
        self._model, self._condition = model, condition
        self._back = torch.linalg.pinv(condition.fold())

    def encode_images(self, images) -> np.ndarray:
        """Return the images' conditioned vectors."""
        v = torch.from_numpy(self._model.encode_images(images)).double()
        return unit(v @ self._back.T).float().numpy()

    def encode_texts(self, texts) -> np.ndarray:
        """Return the texts' conditioned rows."""
        t = torch.from_numpy(self._model.encode_texts(texts)).double()
        return unit(self._condition.apply(t)).float().numpy()


def judge(encoder: Encoder, name: str, test: str) -> dict[str, float]:
    """Return the figures of an encoder, in percent."""
    words = ["retrieval"] + (["compositional"] if name == "scenes" else [])
    plans = [parse_plan(word, data=test) for word in words]
    figures: dict[str, float] = {}
    for result in evaluate(encoder, plans, progress=False):
        for metric, found in result.metrics.items():
            if "rank" not in metric:
                figures[f"{result.evaluation}/{metric}"] = 100 * found.value
    return figures


def train_and_judge(name: str, arm: str, seed: int, data: Path, out: Path, samples: int) -> dict:
    """Return one run's record."""
    (train, test), (own, judged) = specs(name, data), caches(name, data, out)
    recipe = recipes.get("flickr8k_tiny" if name == "flickr8k" else "quickstart")
    folder = out / "run"
    shutil.rmtree(folder, ignore_errors=True)
    config = dataclasses.replace(
        recipe,
        data=train,
        validation="",
        cache=str(own.folder),
        samples=samples,
        condition=ARMS[arm],
        optim=dataclasses.replace(recipe.optim, warmup_steps=min(60, recipe.optim.warmup_steps)),
        evaluations=(),
        evaluate_every=0,
        checkpoint_every=0,
        precision="float32",
        device="cpu",
        threads=1,
        seed=seed,
    )
    started = time.process_time()
    run(config, folder, progress=False)
    trained = time.process_time()
    model = CachedTexts(bundle.load(folder / "model"), judged)
    record: dict = {"set": name, "arm": arm, "seed": seed, "samples": samples}
    record["condition"] = to_dict(ARMS[arm])
    with threads(1):
        record["raw"] = judge(model, name, test)
        if ARMS[arm].kind != "none":
            found = Unfolded(model, Condition.from_tensors(load_file(folder / CONDITION)))
            record["conditioned"] = judge(found, name, test)
    record["cpu_seconds"] = {
        "training": round(trained - started, 1),
        "judging": round(time.process_time() - trained, 1),
    }
    return {**record, "versions": versions()}


# --- results ------------------------------------------------------------------------------------


def keep(path: Path, record: dict) -> None:
    """Write a record, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def table(results: Path) -> str:
    """Return the records as text: each arm against none, in pairs of seeds."""
    lines = []
    found: dict[str, dict[str, dict[int, dict]]] = {}
    for path in sorted(results.glob("*-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(record["set"], {}).setdefault(record["arm"], {})[record["seed"]] = record
    for name, arms in found.items():
        base = arms.get("none", {})
        lines += [f"## {name}", "", "| metric | arm | space | seeds | mean | to none [95%] |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        metrics = sorted({m for of in arms.values() for r in of.values() for m in r["raw"]})
        for metric, (arm, of), space in itertools.product(
            metrics, arms.items(), ("raw", "conditioned")
        ):
            seeds = sorted(
                seed for seed in of if seed in base and metric in of[seed].get(space, {})
            )
            if not seeds:
                continue
            mean = statistics.mean(of[seed][space][metric] for seed in seeds)
            against = "-"
            if arm != "none":
                theirs = [base[seed]["raw"][metric] for seed in seeds]
                found_out = difference(seeds, [of[seed][space][metric] for seed in seeds], theirs)
                against = f"{found_out.mean:+.1f}"
                if found_out.low is not None:
                    against += f" [{found_out.low:+.1f}, {found_out.high:+.1f}]"
                against += f" {found_out.verdict()}"
            cells = [metric, arm, space, str(len(seeds)), f"{mean:.1f}", against]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure on text, run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["text", "train", "table"])
    parser.add_argument("--data", type=Path, help="folder with flickr8k/ and text/")
    parser.add_argument("--out", type=Path, default=Path("out/conditioning_study"), help="scratch")
    parser.add_argument("--results", type=Path, default=RESULTS, help="one JSON a run")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[*SETS])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=DEFAULT_ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[*range(SEEDS)])
    parser.add_argument("--samples", type=int, help="images a run sees, other than the set's own")
    args = parser.parse_args()
    if args.what == "table":
        print(table(args.results))
        return
    if args.data is None:
        parser.error("give --data")
    if args.what == "text":
        records = on_text(args.data, args.out)
        keep(args.results / "text.json", {"records": records, "versions": versions()})
        print(json.dumps(records, indent=1))
        return
    for seed, name, arm in itertools.product(args.seeds, args.sets, args.arms):
        path = args.results / f"{name}-{arm}-{seed}.json"
        if path.exists():
            print(f"{path.name} is there")
            continue
        samples = args.samples or SAMPLES[name]
        record = train_and_judge(name, arm, seed, args.data, args.out, samples)
        keep(path, record)
        shown = {m: round(v, 1) for m, v in record["raw"].items() if m.endswith(("R@1", "R@10"))}
        print(f"{path.name}: {shown}, CPU {record['cpu_seconds']}", flush=True)


if __name__ == "__main__":
    main()
