"""Do LIFT's patch tokens serve a language model better than CLIP's? LLaVA-1.5 in miniature.

    python runs/llava_mini.py                  # every seed that is missing, on one core
    python runs/llava_mini.py --seeds 100 --results out/pilot    # a pilot, not reported
    python runs/llava_mini.py --table          # from the JSON file alone

A tower of recipe `quickstart` (LIFT) and of `quickstart+clip` (its matched CLIP) is trained for
each seed on the same 2,400 drawn scenes. Patch tokens of layer -2 go through LLaVA's connector into
a Llama of two blocks (width 128) that was trained on text alone: captions of scenes, and questions
behind captions. It is the same one in all runs, as everybody's LLaVA has the same Vicuna. Stage 1
trains the connector on captions, stage 2 connector and language model on questions (recipe
`lift.vlm.recipes.miniature`), about scenes that no tower saw. 1,000 further scenes are judged, each
question asked for itself, answers of one word: existence (yes or no, chance 50%), attribute (nine
colours, 11%), relation (yes or no, 50%) and count (one to three, 33%). Answers are balanced, so
that who sees nothing has chance (`lift.vlm.questions`). Controls: a tower with random weights, and
`blind`, tuned on the same questions without an image.

Hypotheses, written before any reported run (a pilot with seed 100 chose the sizes):
 H1. LIFT's tower is better than CLIP's in the mean of the four kinds. The paper has it ahead on
     five of six LLaVA tasks with short captions and on six with long ones.
 H2. ... and in attribute and relation taken alone: the paper's reason is composition, which a
     frozen text space keeps and CLIP's own text side need not learn.
 H3. Both are better than the random tower in the mean. If not, this says nothing of towers.
 H4. Blind is at chance: its interval holds 50, 11, 50 and 33%.
Each is judged by the 95% interval of the paired difference over scenes and seeds
(`lift.bootstrap.paired`): above 0 shown, below 0 refuted, else not shown. Nothing else is claimed.

Every seed and arm leaves one JSON in --results; one that is there is not run again. Killed at any
moment and started again it goes on. The whole is written to runs/results/llava_mini.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lift import bundle, plugins, recipes
from lift.bootstrap import paired, pooled
from lift.bundle import Bundle
from lift.cache import writer
from lift.config import part
from lift.convert.layouts import arguments
from lift.convert.weights import to_layout
from lift.data.source import Captions, open_source
from lift.files import whole_folder, write_text
from lift.terms import Outcomes
from lift.text.encoder import build_encoder
from lift.training import loop
from lift.vlm import assembly, conversations, small, training
from lift.vlm.answering import accuracy, answers
from lift.vlm.conversations import Conversation, Listed
from lift.vlm.questions import CHANCE, KINDS, Question, questions
from lift.vlm.recipes import Template, miniature
from lift.world import versions

RESULT = Path(__file__).parent / "results" / "llava_mini.json"
SEEDS = tuple(range(8))
SEEDS_OF = {"lift": SEEDS, "clip": SEEDS, "random": SEEDS[:4], "blind": SEEDS[:2]}
"""What is compared is run with all seeds, controls with fewer."""
ARMS = tuple(SEEDS_OF)
RECIPES = {"lift": "quickstart", "clip": "quickstart+clip"}
DRAWN = "resolution=48,short=1,long=1"
SHOWN = {"connector": 3000, "tuning": 8000}
"""Scenes of stages 1 and 2."""
JUDGED = 1000
TEXTS = 48_000
"""Texts that the language model is made from."""
MINUTES = {"language model": 4, "towers of a seed": 3.3, "an arm of a seed": 1.1}
"""CPU-minutes on one core (AVX-512, 2.1 GHz), from the pilot."""


# --- questions ----------------------------------------------------------------------------------


def scenes(seed: int, count: int, start: int = 0) -> list[tuple[Any, list[Question]]]:
    """Return scenes with their questions."""
    source = open_source(f"scenes:count={count},seed={seed},start={start},{DRAWN}")
    return list(questions((source.read(i) for i in range(len(source))), seed))


def captioned(shown: list[tuple[Any, list[Question]]]) -> Listed:
    """Return what stage 1 learns from: each image with its long caption."""
    return Listed(
        Conversation(s.key, s.image, (("", next(c.text for c in s.captions if c.role == "long")),))
        for s, _ in shown
    )


def asked(shown: list[tuple[Any, list[Question]]], blind: bool) -> Listed:
    """Return what stage 2 learns from: each image with its questions, in one conversation."""
    return Listed(
        Conversation(s.key, None if blind else s.image, tuple((q.text, q.answer) for q in found))
        for s, found in shown
    )


# --- the language model -------------------------------------------------------------------------


def language(out: Path) -> Path:
    """Return the folder of the language model, trained on text alone where it is not there yet."""
    folder = out / "language"
    if (folder / "config.json").exists():
        return folder
    from transformers import LlamaForCausalLM

    texts = list(told(TEXTS))
    words = small.small_tokenizer(f"{c.turns[0][0]} {c.turns[0][1]}" for c in texts[:4000])
    raw = small.small_llama(out / "untrained", words)
    model = LlamaForCausalLM.from_pretrained(raw)
    rows = [conversations.encode(one, Template(), words, 0, 256) for one in texts]
    size, lr = 16, 1e-3
    steps = len(rows) // size
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    for step in range(steps):
        rate = min((step + 1) / 50, 0.5 * (1 + np.cos(np.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        ids, labels, mask = conversations.padded(rows[step * size : (step + 1) * size], 3)
        logits, ahead = model(input_ids=ids, attention_mask=mask).logits[:, :-1], ids[:, 1:]
        learned = labels[:, 1:] != conversations.IGNORED
        others = (mask[:, 1:] == 1) & ~learned
        # Answers are a word in twelve: alike they would hardly be learned.
        of_answers = F.cross_entropy(logits[learned], ahead[learned])
        loss = of_answers + F.cross_entropy(logits[others], ahead[others])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0:
            print(
                f"language model: step {step} of {steps}, loss {of_answers.item():.3f}", flush=True
            )
    with whole_folder(folder) as aside:
        model.save_pretrained(aside)
        words.save_pretrained(aside)
    return folder


def told(count: int) -> Iterator[Conversation]:
    """Yield texts: a long caption in the image's place, then questions about it."""
    source = open_source(f"scenes:count={count},seed=4,{DRAWN}")
    bare = (dataclasses.replace(source.read(i), image=b"") for i in range(count))
    for sample, found in questions(bare, 4):
        caption = next(c.text for c in sample.captions if c.role == "long")
        turns = [(q.text, q.answer) for q in found]
        yield Conversation(
            sample.key, None, ((f"{caption} {turns[0][0]}", turns[0][1]), *turns[1:])
        )


# --- towers -------------------------------------------------------------------------------------


def rows(out: Path) -> Path:
    """Return the folder of stored rows of the towers' captions."""
    folder = out / "rows"
    if not (folder / "manifest.json").exists():
        base = recipes.get("quickstart")
        captions = Captions([open_source(spec) for spec in (base.data, base.validation)])
        encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
        writer.embed(captions, encoder, folder, codec="float32", progress=False)
    return folder


def tower(arm: str, seed: int, out: Path, stored: Path) -> Path:
    """Return the folder of an arm's tower as transformers takes it, trained if it is not there."""
    folder = out / f"{arm}-{seed}" / "tower"
    if (folder / "config.json").exists():
        return folder
    base = recipes.get(RECIPES.get(arm, "quickstart"))
    if arm == "random":
        torch.manual_seed(seed)
        export(plugins.build(base.tower), base.transform, folder)
        return folder
    config = dataclasses.replace(
        base,
        cache=str(stored) if arm == "lift" else "",
        seed=seed,
        device="cpu",
        threads=1,
        evaluations=(),
        checkpoint_every=100,
    )
    run = loop.run(config, out / f"{arm}-{seed}" / "run", progress=False)
    model: Bundle = bundle.load(run.folder)
    export(model.side.tower, model.transform, folder)
    return folder


def export(made: Any, transform: Any, folder: Path) -> None:
    """Write a tower of ours as a `SiglipVisionModel` with its image processor."""
    from transformers import SiglipVisionConfig, SiglipVisionModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    theirs = SiglipVisionModel(SiglipVisionConfig(**arguments(made.config, "transformers_siglip")))
    theirs.load_state_dict(to_layout(made.config, made.state_dict(), "transformers_siglip"))
    side = transform.resolution
    processor = SiglipImageProcessorPil(
        size={"height": side, "width": side},
        image_mean=list(transform.mean),
        image_std=list(transform.std),
    )
    with whole_folder(folder) as aside:
        theirs.save_pretrained(aside)
        processor.save_pretrained(aside)


# --- one arm of one seed ------------------------------------------------------------------------


def judged(arm: str, seed: int, out: Path, shown: Any, held_out: Any) -> dict[str, Any]:
    """Return what an arm of a seed answers rightly, its stages trained where they are not."""
    began, home, plan = time.process_time(), out / f"{arm}-{seed}", miniature()
    seen = tower("random" if arm == "blind" else arm, seed, out, rows(out))
    start = home / "llava"
    if not (start / "config.json").exists():
        assembly.assemble(seen, language(out), start, seed=seed, template=plan.tuning.template)
    losses = {}
    if arm != "blind":
        data = captioned(shown[: SHOWN["connector"]])
        made = training.train(start, data, home / "stage1", plan.connector, seed=seed, device="cpu")
        start, losses["connector"] = made.folder, made.loss
    data = asked(shown[: SHOWN["tuning"]], arm == "blind")
    made = training.train(start, data, home / "stage2", plan.tuning, seed=seed, device="cpu")
    losses["tuning"] = made.loss
    seeing = assembly.open_llava(made.folder)
    every = [(None if arm == "blind" else s.image, q) for s, found in held_out for q in found]
    said = answers(
        seeing, [(image, q.text) for image, q in every], plan.tuning.template, max_new_tokens=2
    )
    figures = accuracy([q for _, q in every], said)
    shutil.rmtree(home)
    return {
        "arm": arm,
        "seed": seed,
        "steps": made.steps,
        "losses": losses,
        "accuracy": {name: round(m.value, 4) for name, m in figures.items()},
        "right": "".join(str(int(a == q.answer)) for a, (_, q) in zip(said, every, strict=True)),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


# --- what was found -----------------------------------------------------------------------------


def outcomes(record: dict[str, Any], held_out: Sequence[Question]) -> dict[str, Outcomes]:
    """Return what each question scored, by kind; in the mean each kind counts alike."""
    right = np.array([*record["right"]], np.float32)
    kinds = np.array([q.kind for q in held_out])
    keys = np.unique([q.key for q in held_out], return_inverse=True)[1].astype(np.int64)
    found = {k: Outcomes(right[kinds == k], None, keys[kinds == k]) for k in KINDS}
    weights = np.array([1 / (kinds == k).sum() for k in kinds], np.float32)
    found["mean"] = Outcomes(right, weights * len(right) / weights.sum(), keys)
    return found


def summary(results: Path, held_out: Sequence[Question]) -> dict[str, Any]:
    """Return the figures of every arm, and the differences, with intervals, in percent."""
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*-*.json"))]
    whole = {(r["arm"], r["seed"]): outcomes(r, held_out) for r in records}
    seeds = {a: sorted(s for arm, s in whole if arm == a) for a in ARMS}

    def told(spread: Any) -> dict[str, float]:
        return {n: round(100 * getattr(spread, n), 2) for n in ("mean", "low", "high")}

    names = (*KINDS, "mean")
    arms = {
        a: {n: told(pooled([whole[a, s][n] for s in seeds[a]])) for n in names}
        for a in ARMS
        if seeds[a]
    }
    differences = {}
    for a, b in (("lift", "clip"), ("lift", "random"), ("clip", "random"), ("random", "blind")):
        both = [s for s in seeds[a] if s in seeds[b]]
        if both:
            differences[f"{a} - {b}"] = {
                n: told(paired([whole[a, s][n] for s in both], [whole[b, s][n] for s in both]))
                for n in names
            }
    return {
        "seeds": seeds,
        "judged": {"scenes": JUDGED, **{k: sum(q.kind == k for q in held_out) for k in KINDS}},
        "chance": {kind: round(100 * share, 1) for kind, share in CHANCE.items()},
        "arms": arms,
        "differences": differences,
        "runs": [{k: v for k, v in r.items() if k != "right"} for r in records],
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as Markdown, in percent with 95% intervals over scenes and seeds."""
    lines = [f"| | {' | '.join((*KINDS, 'mean'))} |", "| --- |" + " --- |" * (len(KINDS) + 1)]
    for name, figures in {**found["arms"], **found["differences"]}.items():
        sign = "+" if " - " in name else ""
        cells = [
            f"{f['mean']:{sign}.1f} [{f['low']:{sign}.1f}, {f['high']:{sign}.1f}]"
            for f in figures.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    seeds = ", ".join(f"{arm} {len(own)}" for arm, own in found["seeds"].items())
    return "\n".join([f"seeds: {seeds}; judged {found['judged']}", "", *lines])


def budget(missing: list[tuple[str, int]], out: Path) -> str:
    """Return what is still to be spent, in words."""
    trained = sum(arm in RECIPES for arm, _ in missing) / 2
    minutes = MINUTES["towers of a seed"] * trained + MINUTES["an arm of a seed"] * len(missing)
    if missing and not (out / "language" / "config.json").exists():
        minutes += MINUTES["language model"]
    return f"{len(missing)} runs are missing: about {minutes:.0f} CPU-minutes on one core."


def main() -> None:
    """Run what is missing, then print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/llava_mini"))
    parser.add_argument("--results", type=Path, help="one JSON a run; default OUT/results")
    parser.add_argument("--json", type=Path, help=f"default {RESULT} for all seeds")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: those of each arm")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads((args.json or RESULT).read_text())))
        return
    torch.set_num_threads(1)
    results = args.results or args.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    held_out = scenes(3, JUDGED)
    each = args.seeds or SEEDS
    wanted = [(a, s) for s in each for a in args.arms if args.seeds or s in SEEDS_OF[a]]
    missing = [(a, s) for a, s in wanted if not (results / f"{a}-{s}.json").exists()]
    print(budget(missing, args.out), flush=True)
    shown = scenes(2, max(SHOWN.values())) if missing else []
    for arm, seed in missing:
        record = judged(arm, seed, args.out, shown, held_out)
        write_text(results / f"{arm}-{seed}.json", json.dumps(record, indent=1) + "\n")
        print(f"{arm}-{seed}: {record['accuracy']} {record['cpu_seconds']} CPU-s", flush=True)
    found = summary(results, [q for _, own in held_out for q in own])
    print(table(found))
    whole = all(set(own) <= set(found["seeds"][arm]) for arm, own in SEEDS_OF.items())
    goal = args.json or (RESULT if whole else None)
    if goal is not None:
        import transformers

        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        made_with = {**versions(), "transformers": transformers.__version__}
        told = {"date": now, "command": " ".join(sys.argv), "versions": made_with, **found}
        goal.parent.mkdir(parents=True, exist_ok=True)
        write_text(goal, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
