"""What was found of models that were judged side by side."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lift.against import Difference
from lift.efficiency import Efficiency
from lift.terms import Encoder, EvalResult


@dataclass(frozen=True)
class JudgedModel:
    """What was found of one model.

    Attributes:
        name: tells it from the others.
        words: what it was opened by.
        identity: a digest of all that its vectors depend on; "" where it tells none.
        results: of the evaluations, in order.
        efficiency: what it costs; None where nobody measured.
        folder: of the results.
    """

    name: str
    words: str
    identity: str
    results: tuple[EvalResult, ...]
    efficiency: Efficiency | None
    folder: Path


@dataclass(frozen=True)
class Judgement:
    """What `judge` found.

    Attributes:
        models: those of the first arm, then those of the other.
        pooled: of each arm of several seeds what it is called, and its results over them.
        differences: of the first arm against the other; empty where there is none.
        left_out: why an evaluation that a folder suggested was not made, and what does not compare.
        absent: data sets that the folders do not hold: name, and where each is to be had.
        report: the page, where one was written.
        told: whether this process is the one that speaks for all.
    """

    models: tuple[JudgedModel, ...]
    pooled: tuple[tuple[str, tuple[EvalResult, ...]], ...] = ()
    differences: tuple[Difference, ...] = ()
    left_out: tuple[str, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    report: Path | None = None
    told: bool = True


def folders_of(names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Return a folder's name for each model, that no other has and that is not taken."""
    found: list[str] = []
    known = {name.lower() for name in taken}  # some disks know no capitals
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-80:].strip("-.") or "model"
        chosen, number = stem, 2
        while chosen.lower() in known:
            chosen, number = f"{stem}-{number}", number + 1
        known.add(chosen.lower())
        found.append(chosen)
    return found


def names_of(words: Sequence[str], encoders: Sequence[Encoder]) -> list[str]:
    """Return a name for each model that no other has: its own, or else what it was opened by."""
    own = [encoder.name for encoder in encoders]
    found: list[str] = []
    for word, name in zip(words, own, strict=True):
        chosen = name if own.count(name) == 1 else word.rstrip("/")
        number = 2
        while chosen in found:
            chosen, number = f"{word} ({number})", number + 1
        found.append(chosen)
    return found
