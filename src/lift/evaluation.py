"""Run evaluations on an Encoder, write what they find, read it again, put it in a table."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import lift
from lift import plugins
from lift.config import Part, from_dict, override, to_dict
from lift.data.provenance import Provenance
from lift.data.source import ROOM as FORMATS
from lift.data.source import left_out, open_source
from lift.errors import ConfigError, DataError
from lift.files import write_text
from lift.leaks import Judged
from lift.terms import Caption, Encoder, EvalResult, Evaluation, Metric, Sample, Source

ROOM = "evals"
FORMAT = 1
"""Of a result's file; a file of a higher one is refused."""


@dataclass(frozen=True)
class Plan:
    """One evaluation and the pairs it runs on.

    Attributes:
        evaluation: a part of the room "evals".
        data: what `lift.data.source.open_source` takes.
    """

    evaluation: Part
    data: Part | str


def parse_plan(text: str, data: str = "") -> Plan:
    """Return the plan of a shorthand such as "retrieval:data=val.tar,protocol=first-caption".

    A value in square brackets may hold commas: `data=[table:path=x.parquet,caption=title]`,
    `templates=["a {}.", "the {}."]`. Without brackets all keys but `data` are the evaluation's.

    Args:
        text: `NAME` or `NAME:key=value,...`; the keys are `data` and the options of the part.
        data: the pairs where the text names none.

    Raises:
        ConfigError: unknown evaluation or option (with the nearest match), a wrong value, no
            data, or an option that may be of either.
    """
    name, _, rest = text.partition(":")
    kind = plugins.load(ROOM, name).Config
    words = [word.strip() for word in _split(rest)] if rest.strip() else []
    given = [word for word in words if word.startswith("data=")]
    for word in given:
        data = word.removeprefix("data=")
        if data.startswith("[") and data.endswith("]"):
            data = data[1:-1]
    if not data:
        raise ConfigError(f"{text!r} does not say on what to run: write {name}:data=PATH.")
    options = [word for word in words if word not in given]
    if given and not given[-1].endswith("]"):
        _require_clear(name, data, words[words.index(given[-1]) + 1 :])
    try:
        config = override(kind(), options)
    except ConfigError as error:
        if given and ":" in data and "[" not in rest:
            hint = f"{error} (Options of the data go in brackets: data=[{data},...].)"
            raise ConfigError(hint) from error
        raise
    keys = {word.partition("=")[0] for word in options}
    return Plan(Part(ROOM, name, {key: getattr(config, key) for key in sorted(keys)}), data)


def _require_clear(name: str, data: str, after: Sequence[str]) -> None:
    """Raise ConfigError if a word after the data may be meant for the data, as it stands there."""
    form, colon, _ = data.partition(":")
    if not colon or form not in plugins.names(FORMATS):
        return
    both = {f.name for f in dataclasses.fields(plugins.load(ROOM, name).Config)}
    both &= {f.name for f in dataclasses.fields(plugins.load(FORMATS, form).Config)}
    for word in after:
        if word.partition("=")[0] in both:
            raise ConfigError(
                f"{word} after data={data} may be an option of {form} or of {name}: write "
                f"{name}:data=[{data},{word}] for the data, or {name}:{word},data={data} for the "
                "evaluation."
            )


def _split(text: str) -> Iterator[str]:
    """Yield what stands between the commas that no bracket encloses."""
    depth = start = 0
    for at, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


class _Watched:
    """A source that moves a progress bar along with every sample read, and hashes it if asked."""

    def __init__(self, source: Source, bar: tqdm, judged: Judged | None) -> None:
        self.name, self.groups = source.name, source.groups
        self.whereabouts = getattr(source, "whereabouts", "")
        self._source, self._bar, self._judged = source, bar, judged

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Sample:
        self._bar.update(1)
        sample = self._source.read(index)
        if self._judged is not None:
            self._judged.add(index, sample)
        return sample

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        return self._source.texts()


def evaluate(
    encoder: Encoder,
    plans: Sequence[Plan],
    *,
    progress: bool = True,
    keep: Callable[[EvalResult], object] | None = None,
    trained_on: Provenance | None = None,
) -> list[EvalResult]:
    """Return the results of the plans on `encoder`, in order.

    Every option and source is opened before the first image is encoded.

    Args:
        encoder: what is judged.
        plans: on what, and how.
        progress: draw progress bars.
        keep: called with each result as it comes, so that a later evaluation that fails does not
            lose it.
        trained_on: what the encoder was trained on: samples that are there too get a note.

    Raises:
        ConfigError: an evaluation or option that does not exist.
        DataError: pairs that can't be read, or that the evaluation can't use.
        NotFinite: the encoder returned NaN.
    """
    ready = [(*_taught(plan.evaluation), open_source(plan.data)) for plan in plans]
    results = []
    for evaluation, train, source in ready:
        name = f"{evaluation.__class__.__module__.rpartition('.')[2]} on {source.name}"
        with tqdm(total=len(source), desc=name, unit="img", disable=not progress) as bar:
            judged = None if trained_on is None else Judged(len(source))
            result = evaluation.run(encoder, _Watched(source, bar, judged))
        notes = [
            f"{n} of {read.name} left out: {why}"
            for read in (source, *train)
            for why, n in left_out(read).items()
        ]
        notes += getattr(encoder, "notes", ())
        if trained_on is not None and judged is not None:
            notes += _leaked(judged, trained_on, source)
        results.append(dataclasses.replace(result, notes=(*result.notes, *notes)))
        if keep is not None:
            keep(results[-1])
    return results


def _taught(part: Part) -> tuple[Evaluation, list[Source]]:
    """Return an evaluation and, where it learns from other images than it judges, those."""
    evaluation = plugins.build(part)
    if not (name := getattr(evaluation, "train_name", "")):
        return evaluation, []
    train = open_source(name)
    evaluation.learn_from(train)
    return evaluation, [train]


def _leaked(judged: Judged, trained_on: Provenance, source: Source) -> list[str]:
    try:
        note = judged.against(trained_on, lambda number: source.read(number).key).note()
    except DataError as error:  # the result stands without it
        return [f"whether it was seen in training is not known: {error}"]
    return [note] if note else []


# --- results as files ---------------------------------------------------------------------------


def write_results(results: Sequence[EvalResult], folder: str | Path) -> list[Path]:
    """Write one JSON a result into `folder` and return their paths.

    A name comes from evaluation, data and protocol, so the same evaluation of the same model
    replaces its file; a file that holds another measurement stays, and the name gets a number.

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
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        paths.append(path)
    return paths


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
    if content.get("format") != FORMAT:
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
        return from_dict(EvalResult, {**values, "metrics": metrics}, path.name)
    except (ConfigError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"The result {path} is damaged ({error}); evaluate again.") from error


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:120].rstrip("-")


# --- results as text ----------------------------------------------------------------------------


def is_share(metric: str) -> bool:
    """Return whether the metric of this name is a share in [0, 1]; ranks and cosines are not."""
    return "rank" not in metric and "cosine" not in metric


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
