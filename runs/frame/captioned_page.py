"""What the pages of both studies of captioned scenes tell alike."""

from __future__ import annotations

from collections.abc import Mapping

from frame.composition import COMPOSED, WORDS
from frame.edges import Pair
from frame.found import Found
from frame.page import table
from frame.study import Record

SET = "scenes"
BY_SHORT, BY_LONG = (f"{said}: text_to_image/R@10" for said in ("short", "long"))
JUDGED: Mapping[str, str] = {
    "found by short captions": BY_SHORT,
    "found by long captions": BY_LONG,
    "composition": COMPOSED,
}
"""The figures that are reported, in words."""


def items(found: Found) -> str:
    """Return a sentence a judgement: how many items, which protocol, what chance is."""
    told = [f"R@10 of the two retrievals; {WORDS}."]
    for words, figure in JUDGED.items():
        known = [r["figures"][figure] for r in found.records.values() if figure in r["figures"]]
        if known:
            one = known[0]
            told.append(
                f"{words.capitalize()}: {one['items']:,} items ({one['protocol']}), chance "
                f"{100 * one.get('chance', 0.5):.0f}%."
            )
    return " ".join(told)


def floor(found: Found, arms: list[str]) -> str:
    """Say how near to guessing some arms are: an arm there has nothing to lose.

    Args:
        found: the records.
        arms: of CLIP.
    """
    spreads = [found.spread(SET, arm, BY_SHORT) for arm in arms]
    values = [100 * spread.mean for spread in spreads if spread is not None]
    if not values:
        return "No run of CLIP is finished yet."
    one = next(r["figures"][BY_SHORT] for r in found.records.values())
    chance = 100 * one.get("chance", 0.01)
    near = [value for value in values if value < 3 * chance]
    told = (
        f"By short captions CLIP's arms find {min(values):.1f} to {max(values):.1f}%, where "
        f"chance is {chance:.1f}%."
    )
    if not near:
        return told
    return (
        f"{told} {len(near)} of {len(values)} arms are below three times chance: what they could "
        "lose by their captions is small in points, and a difference between them hard to find."
    )


def captions(found: Found, pairs: Mapping[str, Pair]) -> str:
    """Return a table of what captions are like, and what a run on them takes.

    Args:
        found: the records.
        pairs: arms of LIFT and CLIP by what the captions are called.
    """
    rows = []
    for words, pair in pairs.items():
        both = [found.of(SET, arm) for arm in pair]
        known = next((records for records in both if records), None)
        if known is None:
            continue
        said = known[0]["captions"]
        row = [words, f"{said['words']:.1f}", f"{100 * said['distinct']:.0f}%"]
        rows.append([*row, *map(_training, both)])
    if not rows:
        return "## Captions and cost\n\nNo run is finished yet."
    header = ["captions", "words of one", "distinct", "LIFT, CPU-s of training", "CLIP"]
    return "## Captions and cost\n\n" + table(header, rows)


def power(found: Found, pairs: Mapping[str, Pair]) -> str:
    """Say what the seeds at hand can find by short captions, and how many 3 points want.

    Args:
        found: the records.
        pairs: of arms that are compared, in words.
    """
    lines = []
    for words, pair in pairs.items():
        spread = found.difference(SET, *pair, BY_SHORT)
        needed = found.seeds_needed(SET, *pair, BY_SHORT)
        if spread is None or needed is None:
            lines.append(f"- {words}: too few seeds for an estimate.")
            continue
        wide = 100 * (spread.high - spread.low) / 2
        lines.append(
            f"- {words}: {spread.seeds} seeds tell it to within {wide:.1f} points; {needed} "
            "paired seeds find a difference of 3 points in 80 of 100 cases."
        )
    told = "From the spread between the seeds at hand, found by short captions:"
    return "\n\n".join(("## Power", told, "\n".join(lines)))


def seen(found: Found) -> str:
    """Return how many pictures a run saw."""
    counts = sorted({record["samples"] for record in found.records.values()})
    return (" and ".join(f"{count:,}" for count in counts) or "No") + " pictures a run."


def peak(records: list[Record]) -> str:
    """Return the learning rate of an arm's runs."""
    return f"{records[0]['rate']:.2g}" if records else "-"


def _training(records: list[Record]) -> str:
    if not records:
        return "-"
    seconds = sum(record["cpu_seconds"]["training"] for record in records) / len(records)
    return f"{seconds:.0f}"
