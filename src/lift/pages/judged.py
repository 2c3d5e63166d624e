"""What the page of an evaluation is made of: models with their results, and differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lift.against import Difference, Key, key_of
from lift.terms import EvalResult


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One model on the page.

    Attributes:
        name: what to call it; models of one name get a number.
        results: what evaluations found.
        facts: what it is (identity, text space, parameters), for people.
        efficiency: what it costs, by label.
        config: (option, value) of what it was made and judged with.
        commands: what repeats its figures.
        versions: of what they were made with.
        notes: what has to be known of all its figures.
    """

    name: str
    results: tuple[EvalResult, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    efficiency: Mapping[str, Any] = field(default_factory=dict)
    config: Sequence[tuple[str, Any]] = ()
    commands: Sequence[str] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One model, or seeds of it, against another.

    Attributes:
        ours, theirs: what they are called.
        differences: what `lift.against.compared` returned,
        notes: and what it said could not be compared.
    """

    ours: str
    theirs: str
    differences: Sequence[Difference]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """One measurement, and what it gave each model; figures stand side by side only within one.

    Attributes:
        evaluation, version, protocol, data, digest: what all its results have in common.
        results: one for each model, in their order; None of a model that was not asked.
        apart: whether another group is called the same, but was asked on other samples.
    """

    evaluation: str
    version: int
    protocol: str
    data: str
    digest: str
    results: tuple[EvalResult | None, ...]
    apart: bool = False

    @property
    def first(self) -> EvalResult:
        """A result to ask for what they have in common."""
        return next(result for result in self.results if result is not None)


def groups_of(models: Sequence[Judged]) -> list[Group]:
    """Return the measurements of all models, in the order in which they first come.

    Results are of one measurement where evaluation, version, protocol, data and the digest of the
    samples are equal. What a model was asked twice stands in two groups.
    """
    found: dict[tuple[Key, str, int], list[EvalResult | None]] = {}
    for place, model in enumerate(models):
        seen: Counter[tuple[Key, str]] = Counter()
        for result in model.results:
            same = (key_of(result), result.digest)
            seen[same] += 1
            row = found.setdefault((*same, seen[same]), [None] * len(models))
            row[place] = result
    names = Counter(key for key, _, _ in found)
    return [
        Group(*key, digest, tuple(results), apart=names[key] > 1)
        for (key, digest, _), results in found.items()
    ]
