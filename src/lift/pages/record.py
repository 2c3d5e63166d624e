"""Read a run folder, finished or not, into one `Record` that the page is drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.errors import CheckpointError
from lift.terms import EvalResult, Metric

RUN_FORMAT = 1
"""Highest format number of run.json that this version reads."""


@dataclass(frozen=True)
class Record:
    """What a run folder says about its run.

    Attributes:
        name: the folder's name.
        run: the content of run.json.
        steps: step events in order. Steps that a resume went back over appear once, as redone.
        evals: (step, results) of the evaluations made during training.
        results: results of evals/*.json; empty where none were written.
        warnings: texts of warning events, each once, in order.
        counters: the last counters event.
        resumes: the steps that the run was resumed at.
        redone: step events dropped because a later resume ran those steps again.
        unreadable: lines of events.jsonl that are no JSON object (a torn last line counts).
    """

    name: str
    run: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...] = ()
    evals: tuple[tuple[int, tuple[EvalResult, ...]], ...] = ()
    results: tuple[EvalResult, ...] = ()
    warnings: tuple[str, ...] = ()
    counters: Mapping[str, Any] | None = None
    resumes: tuple[int, ...] = ()
    redone: int = 0
    unreadable: int = 0

    @property
    def finished(self) -> bool:
        """Whether run.json says that training reached its last step."""
        return self.run.get("status") == "finished"

    @property
    def seconds(self) -> float:
        """Seconds of training, summed over the stretches between resumes."""
        total = before = 0.0
        for step in self.steps:
            now = number(step.get("seconds")) or 0.0
            total += now - before if now >= before else now
            before = now
        return total


def read_record(folder: Path) -> Record:
    """Return what `folder` holds.

    Raises:
        CheckpointError: no run.json, a run.json that is not JSON, or one of a later format.
    """
    run = _read_run(folder / "run.json")
    events, unreadable = _read_events(folder / "events.jsonl")
    steps: list[Mapping[str, Any]] = []
    evals: list[tuple[int, tuple[EvalResult, ...]]] = []
    warnings: dict[str, None] = {}
    resumes: list[int] = []
    counters = None
    redone = 0
    for event in events:
        kind, at = event.get("event"), int(number(event.get("step")) or 0)
        if kind == "step":
            steps.append(event)
        elif kind == "eval":
            found = [result_of(r) for r in event.get("results") or ()]
            evals.append((at, tuple(r for r in found if r is not None)))
        elif kind == "warning":
            warnings[str(event.get("text", ""))] = None
        elif kind == "counters" and isinstance(event.get("counters"), Mapping):
            counters = event["counters"]
        elif kind == "resume":
            resumes.append(at)
            kept = [s for s in steps if (number(s.get("step")) or 0) <= at]
            redone += len(steps) - len(kept)
            steps = kept
            evals = [e for e in evals if e[0] <= at]
    return Record(
        name=folder.resolve().name,
        run=run,
        steps=tuple(steps),
        evals=tuple(evals),
        results=_read_results(folder / "evals"),
        warnings=tuple(warnings),
        counters=counters,
        resumes=tuple(resumes),
        redone=redone,
        unreadable=unreadable,
    )


def number(value: Any) -> float | None:
    """Return `value` as a float where it is a number (not a boolean), else None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def result_of(values: Any) -> EvalResult | None:
    """Return the EvalResult written as plain JSON values, or None where it is not one."""
    if not isinstance(values, Mapping) or not isinstance(values.get("metrics"), Mapping):
        return None
    metrics = {}
    for name, metric in values["metrics"].items():
        value = number(metric.get("value")) if isinstance(metric, Mapping) else None
        if value is None:
            continue
        low, high = number(metric.get("low")), number(metric.get("high"))
        metrics[str(name)] = Metric(
            value=value,
            low=value if low is None else low,
            high=value if high is None else high,
            items=int(number(metric.get("items")) or 0),
        )
    return EvalResult(
        evaluation=str(values.get("evaluation", "evaluation")),
        version=int(number(values.get("version")) or 0),
        protocol=str(values.get("protocol", "")),
        data=str(values.get("data", "")),
        primary=str(values.get("primary", "")),
        metrics=metrics,
        counts=values.get("counts") or {},
        chance=number(values.get("chance")),
        notes=tuple(str(note) for note in values.get("notes") or ()),
        examples=tuple(e for e in values.get("examples") or () if isinstance(e, Mapping)),
        seconds=number(values.get("seconds")) or 0.0,
    )


def _read_run(path: Path) -> Mapping[str, Any]:
    try:
        run = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} holds no run.json: give the folder that `lift train` wrote."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): restore it or train again.") from error
    if not isinstance(run, dict):
        raise CheckpointError(f"{path} holds no JSON object: restore it or train again.")
    written = number(run.get("format")) or 0
    if written > RUN_FORMAT:
        raise CheckpointError(
            f"{path} has format {written:g}, this version reads up to {RUN_FORMAT}: update lift."
        )
    return run


def _read_events(path: Path) -> tuple[list[Mapping[str, Any]], int]:
    """Return the events, and how many lines were none. A killed run may tear its last line."""
    if not path.exists():
        return [], 0
    events, unreadable = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            event = None
        if isinstance(event, dict):
            events.append(event)
        else:
            unreadable += 1
    return events, unreadable


def _read_results(folder: Path) -> tuple[EvalResult, ...]:
    if not folder.is_dir() or not any(folder.glob("*.json")):
        return ()
    from lift.results import read_results

    return tuple(read_results(folder))
