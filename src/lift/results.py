"""Results of evaluations as files and as a table."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

_NEAR = 1e-4
"""A figure and the mean of its outcomes differ by less: those are float32."""

WIDTH = 120
"""Columns of what is printed."""


def write_results(
    results: Sequence[EvalResult],
    folder: str | Path,
    *,
    outcomes: bool = False,
    besides: Sequence[Path] = (),
) -> list[Path]:
    """Write one JSON a result into `folder` and return their paths.

    A name comes from evaluation, data and protocol, so the same evaluation of the same model
    replaces its file; a file that holds another measurement stays, and the name gets a number.

    Args:
        results: to be written.
        folder: made where there is none.
        outcomes: write what every item scored beside the JSON, so that another model can be
            compared item by item.
        besides: files that stay: one file may be data in several ways (another column of
            captions), and what was written of the first has the name of the second.

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
        while path in (*paths, *besides) or _is_another(path, result):
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
                tensors[_spelled(f"{part.name} {name}")] = np.ascontiguousarray(values)
    with whole_file(path) as aside:
        save_file(tensors, aside, _of(result))


def _of(result: EvalResult) -> dict[str, str]:
    """Return what the outcomes of a result are known by."""
    return {"digest": result.digest, "protocol": _spelled(result.protocol)}


def _spelled(text: str) -> str:
    """Return a text as UTF-8 can have it: file names may hold halves of surrogate pairs."""
    return text.encode("utf-8", "backslashreplace").decode()


def _read_outcomes(path: Path, result: EvalResult) -> dict[str, Outcomes]:
    """Return the outcomes by metric; {} where there are none of this very result."""
    if not path.exists():
        return {}
    try:
        with safe_open(path, "np") as file:
            if file.metadata() != _of(result):
                return {}
            held = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DataError(f"The outcomes {path} are damaged ({error}); evaluate again.") from error
    found = {}
    for name, metric in result.metrics.items():
        names = [f.name for f in dataclasses.fields(Outcomes)]
        values, *more = (held.get(_spelled(f"{part} {name}")) for part in names)
        if values is None:
            continue
        if not _are_outcomes(values, *more):
            raise DataError(f"The outcomes {path} are damaged ({name!r}); evaluate again.")
        found[name] = Outcomes(values, *more)
        mean = np.average(values.astype(np.float64), weights=found[name].weights)
        if abs(mean - metric.value) > _NEAR:
            return {}  # of another model, whose own result was not written any more
    return found


def _are_outcomes(
    values: np.ndarray, weights: np.ndarray | None, clusters: np.ndarray | None
) -> bool:
    """Return whether these are as many numbers of each kind, with a mean."""
    given = [(values, np.float32), (weights, np.float32), (clusters, np.int64)]
    for part, kind in given:
        fits = part is None or (part.shape == (values.size,) and part.dtype == kind)
        if not fits or (part is not None and not np.isfinite(part).all()):
            return False
    if weights is None:
        return values.size > 0
    return bool((weights >= 0).all() and weights.sum() > 0)


def _is_another(path: Path, result: EvalResult) -> bool:
    """Return whether a file holds something else: names shorten what they say."""
    try:
        if path.exists() and not _is_ours(_content(path)):
            return True  # somebody else's, or of a newer lift
        there = read_result(path) if path.exists() else result
    except DataError:
        return False  # damaged: to be mended
    names = ("evaluation", "data", "protocol", "encoder")
    return any(getattr(there, name) != getattr(result, name) for name in names)


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"The result {path} is damaged ({error}); evaluate again.") from error


def _is_ours(content: Any) -> bool:
    """Return whether a file's content is a result in a form that is read here."""
    if not isinstance(content, dict) or not isinstance(content.get("result"), dict):
        return False
    return content.get("format") in range(1, FORMAT + 1)


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
    content = _content(path)
    if not isinstance(content, dict) or not isinstance(content.get("result"), dict):
        raise DataError(f"{path} is not a result that `lift eval` wrote; move it elsewhere.")
    if not _is_ours(content):
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
    return _figure_of(metric) not in _OTHERS


def lower_is_better(metric: str) -> bool:
    """Return whether less of the metric of this name is better, as of a rank."""
    return _figure_of(metric) in _LESS


_LESS = ("median rank", "false positives", "cosine gap")
_OTHERS = ("median rank", "cosine gap", "image-text cosine", "text-text cosine")


def _figure_of(metric: str) -> str:
    """Return what is measured: names of ways, kinds and classes may hold any word ("Singapore")."""
    return metric.rpartition("/")[2].partition(" (")[0]


_DIFFERENCE = re.compile(r" - one list/| - unchanged\)|, less whole\)|\(effect of ")


def is_difference(metric: str) -> bool:
    """Return whether the metric of this name is one figure less another, so that it has a sign."""
    return bool(_DIFFERENCE.search(metric))


def figure_words(metric: str, value: float) -> str:
    """Return a figure in its unit: shares in percent, differences of shares in points."""
    if is_share(metric):
        return f"{100 * value:+.1f} points" if is_difference(metric) else f"{100 * value:.1f}%"
    return f"{value:.3f}" if "cosine" in metric else f"{value:,.6g}"


def interval_words(metric: str, low: float, high: float) -> str:
    """Return the ends of an interval in the unit of the figure."""
    return f"{figure_words(metric, low).removesuffix(' points')} to {figure_words(metric, high)}"


def table(results: Sequence[EvalResult]) -> str:
    """Return the results as text of at most `WIDTH` columns (names alone may be longer).

    Each has its protocol and what was counted above its figures, and the numbers of its notes,
    which stand below all of them. `*` marks the metric to look at first; chance is what guessing
    scores on it.
    """
    notes: dict[str, int] = {}
    blocks = [_block(result, notes) for result in results]
    told = [
        wrapped(f"[{number}] {note}", " " * (len(str(number)) + 3))
        for note, number in notes.items()
    ]
    return "\n\n".join([*blocks, *(["\n".join(told)] if told else [])])


def _block(result: EvalResult, notes: dict[str, int]) -> str:
    marks = "".join(f"[{notes.setdefault(note, len(notes) + 1)}]" for note in result.notes)
    counts = ", ".join(f"{count:,} {what}" for what, count in result.counts.items())
    lines = [f"{result.evaluation} on {result.data}" + (f"  {marks}" if marks else "")]
    lines.append(wrapped(f"  protocol, version {result.version}: {result.protocol}", " " * 4))
    if counts:
        lines.append(wrapped(f"  counts: {counts}", " " * 4))
    rows = []
    for name, metric in result.metrics.items():
        first = name == result.primary
        chance = "" if result.chance is None or not first else figure_words(name, result.chance)
        rows.append(
            [
                f"  {name}{' *' if first else ''}",
                figure_words(name, metric.value),
                interval_words(name, metric.low, metric.high),
                f"{metric.items:,}",
                chance,
            ]
        )
    head = ["  figure", "value", "95% interval", "items", "chance"]
    return "\n".join([*lines, aligned(head, rows)])


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()) -> str:
    """Return rows of text under each other: the first column and those in `left` to the left."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 or head[at] in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    )


def wrapped(text: str, indent: str) -> str:
    """Return a text in lines of at most `WIDTH` columns, those behind the first indented.

    A word that is longer (a path) stays whole, so that it can be copied.
    """
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
