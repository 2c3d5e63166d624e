"""A ladder in words: its table, its verdicts, its advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lift.rungs.paired import compare
from lift.rungs.record import RECALL, Against, Cost, Ladder, Next, Predicted, Rung
from lift.terms import Metric

RULE = (
    "the cheapest rung whose text-to-image R@10 is within noise of the best one's (the 95% "
    "interval of their difference on the same queries, over images, holds 0)"
)
COLUMNS = tuple(f"{way}/R@{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10))


def compared(
    rungs: Sequence[Rung], hits: Mapping[str, np.ndarray], owner: np.ndarray
) -> list[Rung]:
    """Return the rungs, each compared with the one below it on the same queries.

    A trained head is compared with the closed form that it starts from; a closed form with the
    chosen one.
    """
    chosen = next((rung.name for rung in rungs if rung.chosen), "")
    found = []
    for rung in rungs:
        other = rung.start or ("" if rung.chosen else chosen)
        known = rung.name in hits and other in hits
        against = compare(hits[rung.name], hits[other], owner, other) if known else None
        found.append(replace(rung, against=against))
    return found


def advise(found: Ladder, hits: Mapping[str, np.ndarray], owner: np.ndarray) -> tuple[str, str]:
    """Return which rung to take, and why, by the rule."""
    if not found.done:
        return "", "No rung came out: the sentences beside them say why."
    best = max(found.candidates, key=_value)
    apart: dict[str, Against] = {}
    for rung in sorted(found.candidates, key=lambda rung: found.climbed(rung).wall_seconds):
        if rung.name == best.name:
            break
        if rung.name in hits and best.name in hits:
            apart[rung.name] = compare(hits[best.name], hits[rung.name], owner, rung.name)
    noise = [one for one in apart.values() if one.is_noise]
    taken = found.named(noise[0].other) if noise else best
    told = f"Take {taken.name}: R@10 {percent(taken.recall)} for {seconds(found.climbed(taken))}."
    if noise:
        more = f"{percent(best.recall)} for {seconds(found.climbed(best))}"
        return taken.name, (
            f"{told} {best.name} ({more}) is not shown to be better: {difference(noise[0])}."
        )
    if apart:
        beaten = "; ".join(f"over {one.other} {difference(one)}" for one in apart.values())
        return taken.name, f"{told} It is worth its cost: {beaten}."
    others = [rung.name for rung in found.candidates if rung.name != best.name]
    return taken.name, f"{told} {f'{others[0]} costs more and finds no more.' if others else ''}"


def _value(rung: Rung) -> float:
    return rung.recall.value if rung.recall is not None else -1.0


def difference(against: Against) -> str:
    """Return a difference in points, with its interval and what it says."""
    points = [100 * value for value in (against.better, against.low, against.high)]
    told = f"{points[0]:+.1f} points (95% {points[1]:+.1f} to {points[2]:+.1f})"
    return f"{told}, {verdict(against)}"


def verdict(against: Against) -> str:
    """Return whether a difference is more than noise."""
    if against.is_noise:
        return "within noise"
    return "better" if against.better > 0 else "worse"


def percent(metric: Metric | None) -> str:
    """Return a share with its interval."""
    if metric is None:
        return "failed"
    return f"{metric.value:.1%} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def seconds(cost: Cost | None) -> str:
    """Return wall and CPU time: "12.3 s (20.1 CPU-s)"."""
    if cost is None:
        return "unknown"
    least = "" if cost.complete else "at least "
    return f"{least}{_time(cost.wall_seconds)} ({_time(cost.cpu_seconds)} of CPU)"


def _time(value: float) -> str:
    for limit, size, unit in ((172_800, 86_400, "days"), (5_400, 3_600, "h"), (180, 60, "min")):
        if value >= limit:
            return f"{value / size:,.1f} {unit}"
    return f"{value:.1f} s"


def agreement(predicted: Predicted | None) -> str:
    """Return what was known before any rung."""
    if predicted is None:
        return "too few pairs to say"
    return (
        f"CKA {predicted.cka:.3f} (debiased {predicted.cka_debiased:.3f}); {predicted.knn:.1%} of "
        f"the {predicted.neighbours} nearest images are among the nearest texts (chance "
        f"{predicted.chance:.1%}, {predicted.pairs:,} pairs)"
    )


def outcome(found: Ladder) -> str:
    """Return what came out, to be read beside what was predicted."""
    told = [f"{rung.name} {percent(rung.recall)}" for rung in found.done]
    chance = next((r.result.chance for r in found.done if r.result is not None), None)
    guess = "" if chance is None else f"; guessing {chance:.1%}"
    return f"R@10 {', '.join(told) or 'of none'}{guess}"


def protocol(found: Ladder) -> str:
    """Return what was compared with what."""
    result = next((rung.result for rung in found.done), None)
    if result is None:
        return ""
    counts = ", ".join(f"{n:,} {what}" for what, n in result.counts.items())
    return f"retrieval, {result.protocol}, version {result.version}: {counts}"


def table(found: Ladder) -> str:
    """Return a ladder as aligned text."""
    lines = [
        f"{found.data} into {found.space} ({found.dimensions} numbers), tower {found.tower} "
        f"({found.width} numbers)",
        found.split,
        f"before: {agreement(found.predicted)}",
        f"after:  {outcome(found)}",
        "",
        *([protocol(found), *aligned(_rows(found))] if found.done else []),
        *(f"{rung.name} failed: {rung.why}" for rung in found.failed),
        "",
        *aligned([["done once", "time"], *([s.what, seconds(s.cost)] for s in found.steps)]),
        "",
        *(line for one in found.next for line in next_lines(one)),
        "",
        found.advice,
        f"(The rule: {RULE}.)",
        *(f"{what}: {command}" for what, command in found.commands),
        *(f"note: {note}" for note in found.notes),
    ]
    return "\n".join(lines)


def _rows(found: Ladder) -> list[list[str]]:
    head = ["rung", *(_brief(name) for name in COLUMNS), "R@10, 95%", "items", "time"]
    rows = [[*head, "R@10 against"]]
    for rung in found.done:
        assert rung.result is not None
        metrics, recall = rung.result.metrics, rung.result.metrics[RECALL]
        rows.append(
            [
                f"{rung.level} {rung.name}{' *' if rung.chosen else ''}",
                *(f"{metrics[name].value:.1%}" for name in COLUMNS),
                f"{100 * recall.low:.1f} to {100 * recall.high:.1f}",
                f"{recall.items:,}",
                seconds(rung.cost),
                "" if rung.against is None else f"{rung.against.other}: {difference(rung.against)}",
            ]
        )
    return rows


def _brief(name: str) -> str:
    way, _, figure = name.partition("/")
    return f"{'t>i' if way == 'text_to_image' else 'i>t'} {figure}"


def next_lines(one: Next) -> list[str]:
    """Return what a rung above would cost, and how to climb it."""
    return [
        f"next, rung {one.level}, {one.title}: about {seconds(one.cost)}. {one.assumption}",
        f"  {one.command}",
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, cells below each other."""
    wide = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)).rstrip()
        for row in rows
    ]
