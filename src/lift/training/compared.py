"""What a comparison of arms found: runs, costs, what differs between the arms; as JSON and back."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lift.config import from_dict, to_dict
from lift.errors import ConfigError, DataError
from lift.files import write_text
from lift.results import lower_is_better
from lift.terms import EvalResult
from lift.training.effort import Effort
from lift.training.paired import Difference, difference

FORMAT = "lift.comparison/1"
FILE = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure of one run; arms compare only where all but `value` is the same.

    Attributes:
        evaluation, version, protocol, data: what was judged, and how.
        metric, primary: its name, and whether it is the one to look at first.
        value: of the run.
        items: that it was counted over; 0 where it is not known.
        chance: what guessing scores; None where it is not known, and for all but the primary one.
    """

    evaluation: str
    version: int
    protocol: str
    data: str
    metric: str
    primary: bool
    value: float
    items: int = 0
    chance: float | None = None

    @property
    def key(self) -> tuple[str, int, str, str, str]:
        """What it is a figure of."""
        return (self.evaluation, self.version, self.protocol, self.data, self.metric)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One finished run.

    Attributes:
        seed, folder: of the run; the folder is relative to the comparison's.
        steps: optimiser steps.
        parameters: numbers trained, by part.
        seconds: wall time of the steps.
        cpu_seconds: user and system time of the whole run with its evaluations, workers included;
            None where a killed attempt took its count along.
        precision, device: what it ran in and on.
        scores: of the final evaluations.
        notes: their warnings.
        versions: of packages.
    """

    seed: int
    folder: str
    steps: int
    parameters: Mapping[str, int]
    seconds: float
    cpu_seconds: float | None
    precision: str
    device: str
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Differs:
    """One option in which an arm is not the first arm."""

    option: str
    first: Any
    here: Any


@dataclass(frozen=True, kw_only=True)
class Before:
    """Training that an arm stands on and that its cost does not hold.

    Attributes:
        what: the model it started from, or the text model whose weights or rows it has.
        text: whether that is its text side; else its image side.
        samples, flops: of that training; None where nothing says so.
    """

    what: str
    text: bool = False
    samples: int | None = None
    flops: float | None = None


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """One arm.

    Attributes:
        name: as it was asked for.
        folder: its runs', relative to the comparison's.
        config: every option, without the seed.
        method: what makes it another method than the first arm.
        not_matched: what else differs from the first arm.
        effort: what it costs; None where its tower has no closed forms.
        before: training before this one, which is not in `effort`.
        runs: finished ones, by seed.
    """

    name: str
    folder: str
    config: Mapping[str, Any]
    method: tuple[Differs, ...] = ()
    not_matched: tuple[Differs, ...] = ()
    effort: Effort | None = None
    before: tuple[Before, ...] = ()
    runs: tuple[Ran, ...] = ()

    @property
    def trains_text(self) -> bool:
        """Whether its text side is more than stored rows."""
        return self.config.get("text_tower") is not None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A run that did not finish, and why."""

    arm: str
    seed: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared and found; `figures` has the differences.

    Attributes:
        date: of the last run, UTC.
        versions: of the packages that compared.
        budget: what is equal between arms: "samples" or "flops".
        seeds: asked for, in this call and the ones before.
        arms: the first one is what the others are compared with.
        failed: runs that did not finish.
    """

    date: str
    versions: Mapping[str, str]
    budget: str
    seeds: tuple[int, ...]
    arms: tuple[ArmRecord, ...]
    failed: tuple[Failed, ...] = ()

    def table(self) -> str:
        """Return everything as text: scores, differences, costs, what is not matched."""
        from lift.training.compared_words import table

        return table(self)

    def save(self, folder: Path) -> Path:
        """Write `comparison.json`, the figures beside the record, and return its path.

        Raises:
            StorageError: the disk refused.
        """
        values = {
            "format": FORMAT,
            "comparison": to_dict(self),
            "figures": [to_dict(figure) for figure in figures(self)],
        }
        path = folder / FILE
        write_text(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return path


@dataclass(frozen=True, kw_only=True)
class InArm:
    """A figure in one arm.

    Attributes:
        arm: its name.
        seeds, values: of the runs that have the figure.
        mean, least, most: of the values.
        difference: to the first arm, over the seeds that both have; None in the first arm itself,
            and without a common seed.
    """

    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    least: float
    most: float
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric of one evaluation in every arm that has a finished run; see `Score`."""

    evaluation: str
    version: int
    protocol: str
    data: str
    metric: str
    primary: bool
    items: int
    chance: float | None
    arms: tuple[InArm, ...]

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better, as of a rank."""
        return lower_is_better(self.metric)


def figures(found: Comparison) -> list[Figure]:
    """Return every figure of a comparison, in the order of the evaluations.

    Raises:
        DataError: finished runs were not judged by the same evaluations.
    """
    tables = [
        (arm.name, {run.seed: {s.key: s for s in run.scores} for run in arm.runs})
        for arm in found.arms
    ]
    tables = [(name, runs) for name, runs in tables if runs]
    if not tables:
        return []
    first = next(iter(tables[0][1].values()))
    for name, runs in tables:
        for seed, scores in runs.items():
            if scores.keys() != first.keys():
                odd = next(iter(scores.keys() ^ first.keys()))
                raise DataError(
                    f"Arm {name}, seed {seed} was not judged as arm {tables[0][0]} was: "
                    f"{_named(odd)} is in one of them only. Only equal evaluations compare; choose "
                    "another --out."
                )
    return [
        Figure(
            evaluation=score.evaluation,
            version=score.version,
            protocol=score.protocol,
            data=score.data,
            metric=score.metric,
            primary=score.primary,
            items=score.items,
            chance=score.chance,
            arms=tuple(_in_arms(key, tables, found.arms[0].name)),
        )
        for key, score in first.items()
    ]


def _in_arms(key, tables: list[tuple[str, dict]], reference: str) -> Iterator[InArm]:
    base = next((runs for name, runs in tables if name == reference), {})
    for name, runs in tables:
        values = {seed: scores[key].value for seed, scores in sorted(runs.items())}
        common = [seed for seed in values if seed in base]
        paired = None
        if common and name != reference:
            theirs = [base[seed][key].value for seed in common]
            paired = difference(common, [values[seed] for seed in common], theirs)
        yield InArm(
            arm=name,
            seeds=tuple(values),
            values=tuple(values.values()),
            mean=statistics.fmean(values.values()),
            least=min(values.values()),
            most=max(values.values()),
            difference=paired,
        )


def _named(key: tuple[str, int, str, str, str]) -> str:
    evaluation, version, protocol, data, metric = key
    return f"{metric} of {evaluation} (version {version}, {protocol}) on {data}"


def scores_of(results: tuple[EvalResult, ...]) -> tuple[Score, ...]:
    """Return every figure of some results."""
    return tuple(
        Score(
            evaluation=result.evaluation,
            version=result.version,
            protocol=result.protocol,
            data=result.data,
            metric=name,
            primary=name == result.primary,
            value=metric.value,
            items=metric.items,
            chance=result.chance if name == result.primary else None,
        )
        for result in results
        for name, metric in result.metrics.items()
    )


def is_comparison(folder: Path) -> bool:
    """Return whether `lift compare` wrote into a folder."""
    return (folder / FILE).is_file()


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison in a folder.

    Raises:
        DataError: none is there, it is damaged, or of a newer lift.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no readable {FILE} ({error}).") from error
    said = values.get("format") if isinstance(values, dict) else None
    if said != FORMAT:
        raise DataError(f"{path} has the format {said!r}, this lift reads {FORMAT!r}; update lift.")
    try:
        return from_dict(Comparison, values["comparison"], FILE)
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); run `lift compare` again.") from error
