"""Results of evaluations as files and as a table."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import lift
from lift.config import from_dict, to_dict
from lift.errors import ConfigError, DataError
from lift.files import whole_file, write_text
from lift.terms import EvalResult, Metric, Outcomes

FORMAT = 2
"""Of a result's file; a file of a higher one is refused. Files of 1 have no digest."""

OUTCOMES = ".outcomes.safetensors"
"""Ends the name of the file that holds what every item of a result scored."""


def write_results(
    results: Sequence[EvalResult], folder: str | Path, *, outcomes: bool = False
) -> list[Path]:
    """Write one JSON a result into `folder` and return their paths.

    A name comes from evaluation, data and protocol, so the same evaluation of the same model
    replaces its file; a file that holds another measurement stays, and the name gets a number.

    Args:
        results: to be written.
        folder: made where there is none.
        outcomes: write what every item scored beside the JSON, so that another model can be
            compared item by item.

    Raises:
        StorageError: the disk refused.
    """
    made = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "lift": lift.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    paths: list[Path] = []
    for result in results:
        stem = _slug(f"{result.evaluation} {result.data} {result.protocol}")
        path, number = Path(folder) / f"{stem}.json", 1
        while path in paths or _is_another(path, result):
            number += 1
            path = Path(folder) / f"{stem}-{number}.json"
        content = {"format": FORMAT, "made": made, "result": to_dict(result)}
        if outcomes:
            _write_outcomes(result, _outcomes_of(path))
        else:
            _outcomes_of(path).unlink(missing_ok=True)  # those of an earlier result
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        paths.append(path)
    return paths


def _outcomes_of(path: Path) -> Path:
    return path.with_name(path.stem + OUTCOMES)


def _write_outcomes(result: EvalResult, path: Path) -> None:
    tensors = {}
    for name, metric in result.metrics.items():
        if metric.outcomes is None:
            continue
        for part in dataclasses.fields(Outcomes):
            values = getattr(metric.outcomes, part.name)
            if values is not None:
                tensors[f"{part.name} {name}"] = np.ascontiguousarray(values)
    with whole_file(path) as aside:
        save_file(tensors, aside, {"digest": result.digest, "protocol": result.protocol})


def _read_outcomes(path: Path, result: EvalResult) -> dict[str, Outcomes]:
    """Return the outcomes by metric; {} where there are none of this very result."""
    if not path.exists():
        return {}
    try:
        with safe_open(path, "np") as file:
            if file.metadata() != {"digest": result.digest, "protocol": result.protocol}:
                return {}
            held = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"The outcomes {path} are damaged ({error}); evaluate again.") from error
    found = {}
    for name in result.metrics:
        values = held.get(f"values {name}")
        if values is not None:
            found[name] = Outcomes(
                values, held.get(f"weights {name}"), held.get(f"clusters {name}")
            )
    return found


def _is_another(path: Path, result: EvalResult) -> bool:
    """Return whether a file holds a result of something else: names shorten what they say."""
    try:
        there = read_result(path) if path.exists() else result
    except DataError:
        return False  # damaged: to be mended
    names = ("evaluation", "data", "protocol", "encoder")
    return any(getattr(there, name) != getattr(result, name) for name in names)


def read_results(folder: str | Path) -> list[EvalResult]:
    """Return the results written into `folder`, by file name.

    Raises:
        DataError: there are none, or a file is not one, damaged, or of a newer lift.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise DataError(f"{folder} holds no results (*.json); `lift eval` writes them.")
    return [read_result(path) for path in paths]


def read_result(path: Path) -> EvalResult:
    """Return the result in one file.

    Raises:
        DataError: not a result, damaged, or of a newer lift.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"The result {path} is damaged ({error}); evaluate again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("result"), dict):
        raise DataError(f"{path} is not a result that `lift eval` wrote; move it elsewhere.")
    if content.get("format") not in range(1, FORMAT + 1):
        raise DataError(
            f"{path} has the format {content.get('format')!r}, this lift reads {FORMAT}; "
            "evaluate again or update lift."
        )
    try:
        values = dict(content["result"])
        metrics = {
            name: from_dict(Metric, metric, f"metric {name!r}")
            for name, metric in values["metrics"].items()
        }
        result = from_dict(EvalResult, {**values, "metrics": metrics}, path.name)
    except (ConfigError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"The result {path} is damaged ({error}); evaluate again.") from error
    outcomes = _read_outcomes(_outcomes_of(path), result)
    metrics = {
        name: dataclasses.replace(metric, outcomes=outcomes.get(name))
        for name, metric in result.metrics.items()
    }
    return dataclasses.replace(result, metrics=metrics)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:120].rstrip("-")


# --- results as text ----------------------------------------------------------------------------


def is_share(metric: str) -> bool:
    """Return whether the metric of this name is a share in [0, 1]; ranks and cosines are not."""
    return "rank" not in metric and "cosine" not in metric


def lower_is_better(metric: str) -> bool:
    """Return whether less of the metric of this name is better, as of a rank."""
    return any(word in metric for word in ("rank", "gap", "false positive"))


def table(results: Sequence[EvalResult]) -> str:
    """Return the results as aligned text, warnings numbered below.

    `*` marks the metric to look at first; chance is what guessing scores on it.
    """
    head = ["evaluation", "data", "protocol", "metric", "value", "95% interval", "items", "chance"]
    head.append("notes")
    notes: dict[str, int] = {}
    rows = []
    for result in results:
        marks = [f"[{notes.setdefault(note, len(notes) + 1)}]" for note in result.notes]
        about = [result.evaluation, result.data, result.protocol]
        for name, metric in result.metrics.items():
            first = name == result.primary
            chance = "" if result.chance is None or not first else _figure(name, result.chance)
            rows.append(
                [
                    *about,
                    name + (" *" if first else ""),
                    _figure(name, metric.value),
                    f"{_figure(name, metric.low)} to {_figure(name, metric.high)}",
                    str(metric.items),
                    chance,
                    "".join(marks),
                ]
            )
            about, marks = ["", "", ""], []
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    right = {"value", "95% interval", "items", "chance"}
    lines = [
        "  ".join(
            cell.rjust(width) if title in right else cell.ljust(width)
            for title, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join([*lines, *(f"[{number}] {note}" for note, number in notes.items())])


def _figure(metric: str, value: float) -> str:
    return f"{100 * value:.1f}%" if is_share(metric) else f"{value:.6g}"
