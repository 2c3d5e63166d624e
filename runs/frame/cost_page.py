"""The page of study 8: what R@10 costs, and where LIFT costs more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from freezing import ARMS as TITLES

from frame.bills import KINDS, RUNS, Costs, compared, embedding, less
from frame.cost_claims import ARMS, HYPOTHESES, PAPER, SETS, all_costs, runs_of, targets
from frame.curves import Drawn, between, number, split
from frame.found import Found
from frame.page import commands, curves, made_of, opening, percent, table
from lift.bootstrap import Spread
from lift.config import part
from lift.training.encoder_cost import encoder_size

TRAINING = ("samples", "training flops", "training seconds")
"""Costs in which no embedding is."""
HELP = (
    "python runs/cost.py --seeds 0 1 --most 12800",
    "python runs/cost.py",
    "python runs/scaling.py",
)
HOW = f"""Products: shop photos with their titles, 64 px, 12,872 to train on and seen as often as
the samples say. Scenes: drawn, 48 px, one short caption each, each seen once, runs of
[study 9](scaling.md). Arms and rates are those of [study 1](freezing.md): `frozen` is LIFT, `tuned`
starts its text side from MiniLM and trains it, `scratch` is CLIP. Each size is a run of its own
with its whole schedule.

FLOPs are counted in closed form (a multiply-add is 2; loss, optimiser, data and evaluation are left
out); CPU-seconds are those of the process, start-up, images and optimiser in them. Embedding: the
FLOPs of MiniLM on each distinct caption, nothing padded, and CPU-seconds measured by embedding the
set anew, MiniLM's loading in them. For scenes, captions are as many as the run has scenes; for
products all titles are embedded, however short the run. "Each of {RUNS} runs" has a {RUNS}th of it,
for runs that see the same captions: seeds, towers, trials of rates. Between two sizes R@10 is
interpolated along the logarithm of samples. Intervals: 95%, over test items and seeds; the spread
of measured seconds is not in them.

The pre-training of MiniLM is counted for no arm: it is there, for `frozen` and `tuned` alike.
Trials of rates, five for each arm (ten on scenes), are not counted either."""
LIMITS = """## Limits

The image tower is tiny and captions are short, so the text side weighs otherwise than beside a
ViT-B/16: with a larger image tower both the embedding and CLIP's text tower are a smaller part. A
larger text encoder weighs more. CPU-seconds were measured while other runs shared the two cores of
one machine, and on one implementation; FLOPs that run at other speeds (a MiniLM forward pass in
large batches, a text tower in small ones) make the two columns differ. Rates were chosen at one
size."""


def page(results: Path, folder: Path) -> str:
    """Return the page from the records in `results` and beside it; plots go into `folder`."""
    found = Found(results)
    parts = [opening(HYPOTHESES, found), _dearer(found)]
    for of in SETS:
        parts.append(_of_set(found, of, folder))
    parts += [
        "## Visits to break even\n\n" + _visits(found),
        "## What was done\n\n" + _done(found),
        HOW,
        LIMITS,
        commands("cost", "cost", HELP),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# --- tables -------------------------------------------------------------------------------------


def _dearer(found: Found) -> str:
    """Say where LIFT takes more than another arm."""
    lines = []
    for of in SETS:
        known = all_costs(found, of)
        for other in ("scratch", "tuned"):
            if not {"frozen", other} <= known.keys():
                continue
            for words, target in targets(known).items():
                ratios = compared(known["frozen"], known[other], target) or {}
                own = [
                    f"{_of_kind(kind)} {between(ratio, lambda v: f'{v:.2f}')}"
                    for kind, ratio in ratios.items()
                    if less(ratio) is False
                ]
                if own:
                    lines.append(f"- {of}, against `{other}`, R@10 of {words}: {', '.join(own)}")
    if not lines:
        return ""
    return (
        "LIFT costs more than another arm (times as much; the whole interval is above 1):\n\n"
        + "\n".join(lines)
    )


def _of_kind(kind: str) -> str:
    """Return a kind of cost in words that need no table."""
    first, _, unit = kind.partition(" ")
    unit = {"flops": "FLOPs", "seconds": "CPU-seconds"}.get(unit, "")
    words = {"training": "of training alone", "one": "with embedding, one run"}
    return f"{unit} {words.get(first, 'with a tenth of the embedding')}" if unit else kind


def _of_set(found: Found, of: str, folder: Path) -> str:
    """Return a set's plots and tables."""
    known = all_costs(found, of)
    if not known:
        return f"## {of.capitalize()}\n\nNo runs with two sizes are there yet."
    parts = [f"## {of.capitalize()}", *_near_guessing(known)]
    for unit, words in (("flops", "FLOPs"), ("seconds", "CPU-seconds")):
        name = f"cost-{of}-{unit}.png"
        _plot(known, unit, folder / name)
        parts.append(f"![R@10 over {words}, {of}]({name})")
    rows = []
    for target, drawn in targets(known).items():
        if all(one.curve.needed(drawn)[0] <= one.curve.sizes[0] for one in known.values()):
            continue
        for arm, own in known.items():
            rows.append([_target(target, drawn), f"`{arm}`", *_row(own, drawn)])
    parts += [
        "What it takes (in brackets 95%):",
        table(["R@10 of", "arm", *KINDS.values()], rows),
        *_ratios(known),
        _curve_table(known),
    ]
    return "\n\n".join(parts)


def _near_guessing(known: Mapping[str, Costs]) -> list[str]:
    """Warn where CLIP's largest run finds little more than guessing does."""
    if "scratch" not in known:
        return []
    own = known["scratch"].curve
    if own.at(own.most)[0] >= 3 * own.chance:
        return []
    return [
        f"CLIP's largest run ({own.most:,} samples) finds {percent(own.spread(own.most))}, where "
        f"guessing finds {100 * own.chance:.1f}%: it has hardly begun to learn, and what it costs "
        "to find so little says little of what finding costs."
    ]


def _target(words: str, drawn: Drawn) -> str:
    return words if words.endswith("%") else f"{words}: {100 * drawn[0]:.1f}%"


def _row(own: Costs, target: Drawn) -> list[str]:
    """Return what an arm takes to find so much."""
    needed = own.curve.needed(target)
    if not np.isfinite(needed[0]):
        return [f"not by {own.curve.most:,}", *["-"] * (len(KINDS) - 1)]
    if needed[0] <= own.curve.sizes[0]:
        return [f"{own.curve.sizes[0]:,} or fewer", *["-"] * (len(KINDS) - 1)]
    bill = own.bill(needed)
    if own.embedding is None:
        return [between(drawn) if kind in TRAINING else "same" for kind, drawn in bill.items()]
    return [between(drawn) for drawn in bill.values()]


def _ratios(known: Mapping[str, Costs]) -> list[str]:
    """Return what LIFT takes of what other arms take."""
    parts = []
    for other in ("scratch", "tuned"):
        if not {"frozen", other} <= known.keys():
            continue
        rows = []
        for target, drawn in targets(known).items():
            ratios = compared(known["frozen"], known[other], drawn)
            if ratios is not None:
                told = (between(ratio, lambda v: f"{v:.2f}") for ratio in ratios.values())
                rows.append([_target(target, drawn), *told])
        if rows:
            words = f"LIFT's cost over that of `{other}` ({TITLES[other].title}); below 1 is less:"
            parts += [words, table(["R@10 of", *KINDS.values()], rows)]
    return parts


def _curve_table(known: Mapping[str, Costs]) -> str:
    """Return the runs that the curves are made of."""
    header = ["arm", "samples", "R@10", "training FLOPs", "training CPU-s", "seeds"]
    rows = [
        [
            f"`{arm}`",
            f"{size:,}",
            percent(own.curve.spread(size)),
            number(size * own.flops),
            f"{seconds:.0f}",
            f"{seeds}",
        ]
        for arm, own in known.items()
        for size, seconds, seeds in zip(own.curve.sizes, own.seconds, own.curve.seeds, strict=True)
    ]
    return "The runs:\n\n" + table(header, rows)


def _visits(found: Found) -> str:
    """Say after how many visits a caption's embedding has paid."""
    big = encoder_size(part("text/encoders", "nv_embed"))
    rows = []
    for of in SETS:
        known = all_costs(found, of)
        made = known["frozen"].embedding if "frozen" in known else None
        if made is None:
            continue
        lift = known["frozen"]
        for other in ("scratch", "tuned"):
            if other not in known:
                continue
            saved = known[other].flops - lift.flops
            saved_seconds = known[other].each - lift.each
            heavy = big.flops(made.tokens)
            rows.append(
                [
                    of,
                    f"`{other}`",
                    f"{made.tokens:.1f}",
                    f"{100 * saved / known[other].flops:.1f}%",
                    _visited(made.flops, saved),
                    f"{100 * saved_seconds / known[other].each:.1f}%",
                    _visited(made.seconds, saved_seconds),
                    _visited(heavy, saved) if heavy else "-",
                ]
            )
    if not rows:
        return "No records yet."
    told = " and ".join(f"{100 * share:.1f}% ({words})" for words, share in PAPER.items())
    return (
        f"The paper tells that LIFT needs {told} fewer FLOPs than CLIP at as many samples; the "
        "embedding is not in these. Beside ours: what a sample of LIFT saves of one of the other "
        "arm, and how often a caption has to be seen, in all runs together, until its embedding is "
        "paid back by that (at equal samples, whatever is found). The last column puts "
        f"{big.name} in MiniLM's place.\n\n"
        + table(
            [
                "set",
                "against",
                "tokens a caption",
                "FLOPs saved",
                "visits",
                "CPU-s saved",
                "visits",
                "visits, 7 B encoder",
            ],
            rows,
        )
    )


def _visited(paid: float, saved: float) -> str:
    return number(paid / saved) if saved > 0 else "never"


def _done(found: Found) -> str:
    """Say what ran: of this study, and of study 9."""
    parts = [
        made_of(
            found,
            intervals="a bootstrap over items and the spread between seeds of all sizes of an arm",
        )
    ]
    beside = runs_of(found, "scenes")
    own = [name for name in beside.arms("scenes") if split(name)[0] in ARMS]
    if own:
        parts.append(f"Scenes: {len(beside.records)} runs of study 9.")
    for of in SETS:
        if made := embedding(found, of):
            parts.append(
                f"Embedding {of}: {1000 * made.seconds:.2f} CPU-ms and {number(made.flops)} FLOPs "
                f"a caption of {made.tokens:.1f} tokens."
            )
    return " ".join(parts)


def _plot(known: Mapping[str, Costs], unit: str, path: Path) -> None:
    """Draw what is found over what it takes, with and without embedding."""
    series: dict[str, list[tuple[float, Spread]]] = {}
    for arm, own in known.items():
        kinds = {"training": TITLES[arm].title}
        if own.embedding is not None:
            kinds = {
                "training": "LIFT, embedding not counted",
                "ten": f"LIFT, each of {RUNS} runs",
                "one": "LIFT, one run with its embedding",
            }
        sizes = own.curve.sizes
        bill = own.bill(np.asarray(sizes, np.float64))
        for kind, title in kinds.items():
            spreads = map(own.curve.spread, sizes)
            series[title] = [
                (float(x), s) for x, s in zip(bill[f"{kind} {unit}"], spreads, strict=True)
            ]
    words = {"flops": "FLOPs", "seconds": "CPU-seconds"}[unit]
    curves(path, series, x=words, y="text-to-image R@10, %")
