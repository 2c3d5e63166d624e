"""What LIFT's step costs beside CLIP's with the same image tower: the paper's efficiency table.

    python benchmarks/efficiency.py --out benchmarks/results/efficiency.json
    python benchmarks/efficiency.py --recipe products_tiny --lengths 20 77 --measure

The table goes over the longest caption of a batch, to which a text tower pads the others (the
paper's variable), and over captions padded to a fixed context (what its configurations do). FLOPs
of a pair, forward and backward, are counted by torch from the recipe's own modules and have to
agree with the closed form within 1%; a multiply-add is 2. Memory is what autograd keeps of a pair
for the backward pass, in float32 and under bfloat16 autocast (the stream stays float32).
Checkpointing computes every block of the towers twice: "executed" counts that too; torch stops a
recomputation at the last tensor that it needs, so the last product of a block is not repeated.
Loss and optimiser are left out of the saving, and stand beside it.

CLIP has the recipe's image tower with a matrix after each tower, into a space as wide as its text
tower (12 x 512 beside ViT-B); --matched keeps LIFT's head and width. --measure takes real steps on
the device at hand: images/s and peak memory, contenders in turn.

LIFT's captions pass through a large text encoder once, offline. What that costs stands in the last
table: per caption, and the epochs after which it is paid for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from _contenders import Contender, Setting, our_clip, our_lift
from _counting import closed_flops, counted_flops, loss_flops
from _timing import facts, peak_of_steps, quantiles, take_turns

from lift import plugins, recipes
from lift.config import part
from lift.towers import vit
from lift.training.config import RunConfig
from lift.training.cost import clip_beside
from lift.training.encoder_cost import encoder_size
from lift.training.kept import kept_of_a_pair
from lift.world import choose_device

LENGTHS = (20, 77, 128, 150, 240, 323, 1024)
FIXED = (77, 323)
"""Contexts to which the released configurations pad: captions of DataComp, longer rewrites."""
CLAIMED = {"short captions": 0.255, "long captions": 0.357}
"""Savings that the paper's abstract states (2506.04209)."""
MODELS = (
    "nvidia/NV-Embed-v2",
    "Qwen/Qwen3-Embedding-0.6B",
    "sentence-transformers/all-MiniLM-L6-v2",
)
MEAN_TOKENS = {"short": 16, "long": 66}
"""Of a caption: ten words, and the paper's rewrites of 49.4 words."""
MINILM = 384
"""Dimensions of the rows that recipes for small data are used with."""
WITHIN = 0.01


def counted(config: RunConfig) -> dict[str, float]:
    """Return what a pair costs: FLOPs both ways of counting, and memory.

    Raises:
        SystemExit: the two ways differ by 1% or more.
    """
    again = config.with_checkpointing()
    found = {"gf": counted_flops(config) / 1e9, "gf_closed": closed_flops(config) / 1e9}
    if abs(found["gf"] / found["gf_closed"] - 1) >= WITHIN:
        raise SystemExit(f"{config.recipe}: counter and closed form differ: {found}.")
    found["gf_executed_checkpointed"] = counted_flops(again) / 1e9
    for precision in ("float32", "bfloat16"):
        found[f"mb_{precision}"] = kept_of_a_pair(config, config.dimensions, precision).kept / 1e6
        slim = kept_of_a_pair(again, config.dimensions, precision)
        found[f"mb_{precision}_checkpointed"] = slim.kept / 1e6
        found[f"mb_{precision}_checkpointed_at_once"] = slim.most / 1e6
    found["gf_loss"] = loss_flops(config) / 1e9
    return {name: round(value, 4) for name, value in found.items()}


def rows(base: RunConfig, lengths: list[int], matched: bool) -> dict[str, Any]:
    """Return LIFT's costs, CLIP's at every length, and the saving."""
    lift = counted(base)
    clip = {}
    for tokens in sorted({*lengths, *FIXED}):
        found = counted(clip_beside(base, context=tokens, matched=matched))
        found["saving"] = round(1 - lift["gf"] / found["gf"], 4)
        found["saving_with_loss"] = round(
            1 - (lift["gf"] + lift["gf_loss"]) / (found["gf"] + found["gf_loss"]), 4
        )
        clip[str(tokens)] = found
    return {"LIFT": lift, "CLIP": clip}


def reached_at(base: RunConfig, saving: float, matched: bool) -> float:
    """Return the length of captions from which on LIFT saves so much, by the closed form."""
    lift = closed_flops(base)
    low, high = 3, 1 << 16

    def saved(tokens: int) -> float:
        return 1 - lift / closed_flops(clip_beside(base, context=tokens, matched=matched))

    if saved(high) < saving:
        return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if saved(middle) < saving else (low, middle)
    return high


def offline(base: RunConfig, matched: bool) -> list[dict[str, Any]]:
    """Return what the captions' embedding costs and when it is paid for, by text encoder.

    Epochs are of all models on these rows together, a caption a pair and epoch. `lift budget`
    prints the same for the user's own captions, with hours, money and storage.
    """
    found = []
    lift = closed_flops(base)
    epochs = base.samples / base.pairs if base.pairs else math.nan
    for model in MODELS:
        name = "minilm" if model.endswith("MiniLM-L6-v2") else "nv_embed"
        options = {} if name == "minilm" else {"model": model}
        size = encoder_size(part("text/encoders", name, **options))
        for kind, mean in MEAN_TOKENS.items():
            flops = size.flops(mean)
            if flops is None:
                continue
            feeds = {f"padded to {n}": n for n in FIXED} | {"not padded": mean}
            clip = {
                feed: closed_flops(clip_beside(base, context=n, matched=matched))
                for feed, n in feeds.items()
            }
            found.append(
                {
                    "encoder": model,
                    "captions": f"{kind}, {mean} tokens on average",
                    "gf_a_caption": round(flops / 1e9, 2),
                    "training_steps": round(flops / lift, 3),
                    "break_even_epochs": {
                        feed: round(flops / (c - lift), 2) if c > lift else math.inf
                        for feed, c in clip.items()
                    },
                    "times_clip": {
                        feed: round((lift * epochs + flops) / (c * epochs), 3)
                        for feed, c in clip.items()
                    },
                    "epochs_of_the_recipe": round(epochs, 2),
                }
            )
    return found


def measured(base: RunConfig, args: argparse.Namespace) -> dict[str, Any]:
    """Return images/s and peak memory of real steps, with and without checkpointing."""
    device = choose_device(args.device)
    batch = args.batch or (256 if device.type == "cuda" else 4)
    found: dict[str, Any] = {"batch": batch, "precision": args.precision}
    works, peaks = {}, {}
    lengths = args.measure_lengths or ([77, 323] if device.type == "cuda" else [77])
    for again in (False, True):
        tower = plugins.configure((base.with_checkpointing() if again else base).tower)
        assert isinstance(tower, vit.Config), "recipes' towers are ViTs"
        for tokens in (0, *lengths):
            name = f"CLIP, {tokens} tokens" if tokens else "LIFT"
            name += ", checkpointed" if again else ""
            setting = Setting(
                tower=tower,
                batch=batch,
                tokens=tokens or 77,
                dimensions=base.dimensions,
                precision=args.precision,
                device=device,
            )
            built: list[Contender] = []

            def build(setting: Setting = setting, tokens: int = tokens, built=built) -> Any:
                built.append((our_clip if tokens else our_lift)(setting))
                return built[0].step

            peaks[name] = round(peak_of_steps(build, device) / 1e9, 3)
            works[name] = built[0].step
    times = 10 if device.type == "cuda" else 1
    rounds = take_turns(works, args.rounds, times, device, args.limit_s)
    found["rounds"] = len(rounds)
    found["images_per_s"] = {
        name: round(batch / quantiles([r[name] for r in rounds])["median"], 2) for name in works
    }
    found["LIFT over it"] = {
        name: quantiles([r[name] / r["LIFT"] for r in rounds]) for name in works
    }
    found["peak_gb"] = peaks
    return found


def markdown(made: dict[str, Any]) -> str:
    """Return the tables."""
    lift, clip = made["LIFT"], made["CLIP"]
    head = [
        "captions",
        "CLIP, GF a pair",
        "LIFT saves",
        "with loss",
        "kept, MB a pair, bf16 (fp32)",
        "LIFT keeps",
        "checkpointed: GF executed",
        "kept, MB, bf16 (with the block at hand)",
    ]
    lines = [
        f"Recipe {made['recipe']}: LIFT {lift['gf']:.2f} GF a pair forward and backward "
        f"({lift['gf_executed_checkpointed']:.2f} executed with checkpointing), "
        f"{lift['gf_loss']:.2f} GF of loss at batch {made['batch']:,}; keeps "
        f"{lift['mb_bfloat16']:.1f} MB a pair in bfloat16, {lift['mb_float32']:.1f} in float32, "
        f"{lift['mb_bfloat16_checkpointed']:.1f} checkpointed in bfloat16 "
        f"({lift['mb_bfloat16_checkpointed_at_once']:.1f} with the block that is computed again).",
        "",
        "| " + " | ".join(head) + " |",
        "| --- " + "| ---: " * (len(head) - 1) + "|",
    ]
    names = {tokens: f"longest of the batch {tokens}" for tokens in made["lengths"]}
    feeds = [(name, str(tokens)) for tokens, name in names.items()]
    feeds += [(f"all padded to {tokens}", str(tokens)) for tokens in FIXED]
    for name, tokens in feeds:
        row = clip[tokens]
        cells = [
            name,
            f"{row['gf']:.2f}",
            f"{row['saving']:.1%}",
            f"{row['saving_with_loss']:.1%}",
            f"{row['mb_bfloat16']:.1f} ({row['mb_float32']:.1f})",
            f"{1 - lift['mb_bfloat16'] / row['mb_bfloat16']:.1%} less",
            f"{row['gf_executed_checkpointed']:.2f}",
            f"{row['mb_bfloat16_checkpointed']:.1f} "
            f"({row['mb_bfloat16_checkpointed_at_once']:.1f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for kind, found in made["claimed"].items():
        lines.append(
            f"The paper states {found['saving']:.1%} for {kind}; LIFT saves as much against a "
            f"text tower that reads {found['tokens_needed']:,} tokens of each caption."
        )
    return "\n".join([*lines, "", *_offline_lines(made["offline"]), *_measured_lines(made)])


def _offline_lines(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return []
    feeds = list(dict.fromkeys(name for row in found for name in row["break_even_epochs"]))
    head = ["text encoder", "captions", "GF a caption", "LIFT steps", *feeds]
    lines = [
        "Offline: embedding each caption once, and after how many epochs of training (of all "
        "models on these rows together) LIFT with it is cheaper than CLIP, by how CLIP is fed:",
        "",
        "| " + " | ".join(head) + " |",
        "| --- | --- " + "| ---: " * (len(head) - 2) + "|",
    ]
    for row in found:
        epochs = [row["break_even_epochs"].get(name) for name in feeds]
        words = [_epochs(e) for e in epochs]
        numbers = f"{row['gf_a_caption']:g}", f"{row['training_steps']:g}"
        lines.append("| " + " | ".join([row["encoder"], row["captions"], *numbers, *words]) + " |")
    return [*lines, ""]


def _epochs(number: float | None) -> str:
    if number is None:
        return ""
    if math.isinf(number):
        return "never"
    return "under 0.1" if number < 0.1 else f"{number:,.1f}"


def _measured_lines(made: dict[str, Any]) -> list[str]:
    found = made.get("measured")
    if not found:
        return []
    lines = [
        f"Measured on {made['device']} ({made.get('card', {}).get('name', made['processor'])}, "
        f"{made['clock']}), batch {found['batch']}, {found['precision']}, {found['rounds']} "
        "rounds in turn:",
        "",
        "| step | images/s | LIFT's speed over it | peak, GB |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, speed in found["images_per_s"].items():
        r = found["LIFT over it"][name]
        ratio = f"{r['median']:.2f} [{r['p10']:.2f}, {r['p90']:.2f}]"
        lines.append(f"| {name} | {speed:,.2f} | {ratio} | {found['peak_gb'][name]:.2f} |")
    return lines


def main() -> None:
    """Count, measure if asked, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="lift_b16_512m")
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--dimensions", type=int, default=0, help="0: the recipe's, else 384")
    parser.add_argument("--matched", action="store_true", help="CLIP with LIFT's head and width")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument(
        "--measure-lengths", nargs="+", type=int, help="of CLIP's captions; 77, on a GPU 323 too"
    )
    parser.add_argument("--batch", type=int, default=0, help="measured; 0: 256 on a GPU, else 4")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit-s", type=float, default=300.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="JSON; the tables go beside it, as .md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = recipes.get(args.recipe)
    base = dataclasses.replace(base, dimensions=args.dimensions or base.dimensions or MINILM)
    made: dict[str, Any] = {
        **facts(choose_device(args.device)),
        "recipe": args.recipe,
        "matched": args.matched,
        "batch": base.step_samples,
        "lengths": args.lengths,
        **rows(base, args.lengths, args.matched),
        "claimed": {
            kind: {"saving": saving, "tokens_needed": reached_at(base, saving, args.matched)}
            for kind, saving in CLAIMED.items()
        },
        "offline": offline(base, args.matched),
    }
    if args.measure:
        made["measured"] = measured(base, args)
    text = markdown(made)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        args.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
