"""The page of a judgement: what it shows of data and models besides the figures."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lift.clip_benchmark_form import write_clip_benchmark
from lift.data.source import open_source
from lift.errors import LiftError
from lift.files import write_text
from lift.judging.found import JudgedModel, Judgement
from lift.pages.evaluation import Compared, Heatmaps, write_evaluation
from lift.pages.judged import Judged
from lift.terms import Encoder, Source
from lift.world import versions

if TYPE_CHECKING:
    from lift.efficiency import Efficiency

NAME = "report.html"
COSTS = "efficiency.json"
"""Beside the results of each model, in a folder of its own: results are read by their ending."""


def write_page(
    found: Judgement,
    sources: Iterable[Source],
    encoders: dict[str, Encoder],
    out: Path,
    command: str,
) -> Path:
    """Write `report.html` and return its path.

    Args:
        found: what is shown.
        sources: the data that models were judged on, for pictures.
        encoders: models by name, for heatmaps.
        out: the folder.
        command: what repeats it all.

    Raises:
        MissingPackage: jinja2 is not installed.
        StorageError: the page can't be written.
    """
    opened = {source.name: source for source in sources}
    comparisons = []
    if found.differences:
        half = len(found.models) // 2
        names = [
            " + ".join(m.name for m in arm) for arm in (found.models[:half], found.models[half:])
        ]
        comparisons = [Compared(ours=names[0], theirs=names[1], differences=found.differences)]
    return write_evaluation(
        [_shown(model, encoders[model.name], found, command) for model in found.models],
        out,
        out=out / NAME,
        thumbnails={name: _lookup(source) for name, source in opened.items()},
        heatmaps=_heatmaps(encoders, opened),
        comparisons=comparisons,
    )


def write_elsewhere(model: JudgedModel) -> None:
    """Write a model's results as `clip_benchmark` would, for its tables."""
    write_clip_benchmark(model.results, model.folder / "clip_benchmark", model=model.name)


def write_costs(cost: Efficiency, folder: Path) -> None:
    """Write what a model costs beside its results."""
    write_text(folder / "costs" / COSTS, json.dumps(cost.to_dict(), indent=2) + "\n")


def _shown(model: JudgedModel, encoder: Encoder, found: Judgement, command: str) -> Judged:
    space, cost = getattr(encoder, "space", None), model.efficiency
    facts: dict[str, Any] = {"Opened by": model.words}
    if space is not None:
        facts |= {
            "Text space": f"{space.model}, {space.dimensions} numbers",
            "Fingerprint": space.fingerprint,
        }
    if model.identity:
        facts["Identity"] = model.identity[:24]
    costs = {} if cost is None else dict(_costs(cost))
    return Judged(
        name=model.name,
        results=model.results,
        facts=facts,
        efficiency=costs,
        commands=(command,),
        versions=versions(),
        notes=found.left_out if model is found.models[0] else (),
    )


def _costs(cost: Efficiency) -> Iterable[tuple[str, Any]]:
    """Yield labels and values of what a model costs."""
    head, *rows = cost.rows()
    for row in rows:
        for what, value in zip(head[1:], row[1:], strict=True):
            yield f"{row[0]}: {what}", value
    for codec, size in cost.stored.items():
        yield f"bytes of a vector as {codec}", size
    yield "measured on", cost.where()


def _lookup(source: Source) -> Callable[[str], bytes | None]:
    """Return a function from a sample's key to the bytes of its image."""
    numbers: dict[str, int] = {}

    def image(key: str) -> bytes | None:
        if not numbers:
            numbers.update((key, number) for number, (key, _) in enumerate(source.texts()))
        return source.read(numbers[key]).image if key in numbers else None

    return image


def _heatmaps(encoders: dict[str, Encoder], sources: dict[str, Source]) -> Heatmaps:
    """Return what tells how near the patches of an image are to a text."""

    @functools.lru_cache(maxsize=256)  # the queries about one image come one after the other
    def patches_of(name: str, data: str, index: int):
        encode = getattr(encoders[name], "encode_patches")  # noqa: B009
        return encode([sources[data].read(index).image])

    @functools.lru_cache(maxsize=4096)  # class names come again and again
    def row_of(name: str, text: str):
        return encoders[name].encode_texts([text])[0]

    def grid(name: str, data: str, index: int, text: str):
        if not hasattr(encoders.get(name), "encode_patches") or data not in sources:
            return None
        try:
            patches, z_text = patches_of(name, data, index), row_of(name, text)
        except LiftError:  # the page shows the picture without it
            return None
        left, top, right, bottom = (float(x) for x in patches.frame[0])
        return np.asarray(patches.z[0] @ z_text, np.float32), (left, top, right, bottom)

    return grid


def repeat(words: list[str], on: list[str], **options: list[str] | str) -> str:
    """Return the command that repeats a judgement."""
    told = ["lift", "eval", *words, "--on", *on]
    for name, value in options.items():
        values = [value] if isinstance(value, str) else value
        if values and any(values):
            told += [f"--{name}", *values]
    return shlex.join(told)


def opened(data: Iterable[Any]) -> list[Source]:
    """Return the sources of some data, each once; what can't be opened any more is left out."""
    found: dict[str, Source] = {}
    for one in data:
        words = str(one)
        if words in found:
            continue
        try:
            found[words] = open_source(one)
        except LiftError:
            continue
    return list(found.values())
