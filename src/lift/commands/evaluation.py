"""The command that judges: any models, on anything, one against another."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lift.catalog import Catalogue
    from lift.judging.found import Judgement
    from lift.terms import EvalResult


def judge(
    models: str | Path | Sequence[str | Path],
    *,
    on: str | Sequence[str],
    against: str | Path | Sequence[str | Path] = (),
    cache: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    leaks: bool = True,
    efficiency: bool = True,
    report: bool = True,
    progress: bool = True,
    say: Callable[[str], None] | None = None,
) -> Judgement:
    """Judge models; every figure comes with protocol, item count and 95% interval.

    Vectors are kept in `OUT/vectors` as they are made: the same call goes on where it was stopped.
    Several processes (`torchrun -m lift eval ...`) share the images.

    Args:
        models: what is judged: folders of runs or models, or other models in words (see
            `lift.contenders`). Several are seeds of one arm.
        on: evaluations in words (`retrieval:data=val.tar`), and folders of data sets: of those
            all that is known is asked.
        against: models to compare with, as many, seed by seed.
        cache: take text vectors from these caches where they have them; each serves the models
            of its space.
        out: where results go; None beside the first model, in `evals`.
        device: auto, cpu, cuda or mps.
        leaks: look for the images and captions in what a model was trained on, and note it.
        efficiency: measure what each model costs, too.
        report: write `report.html` there.
        progress: draw progress bars.
        say: is told of each model and data set before it is judged.

    Raises:
        LiftError: bad input, or a text without vector and no text encoder installed.
    """
    from lift.contenders import contender
    from lift.errors import ConfigError
    from lift.judging.bench import Bench

    ours, theirs = _several(models), _several(against)
    if not ours:
        raise ConfigError("No model was given.")
    if theirs and len(theirs) != len(ours):
        raise ConfigError(
            f"{len(ours)} models against {len(theirs)}: give as many on both sides, seed by seed."
        )
    for word in (*ours, *theirs):
        contender(word)  # what is not there is told before what else is wrong
    bench = Bench.of(
        [*ours, *theirs],
        on=_several(on),
        caches=[] if cache is None else _several(cache),
        out=_folder(ours[0], out, alone=len(ours) == 1 and not theirs),
        device=device,
        leaks=leaks,
        efficiency=efficiency,
        progress=progress,
        say=say or (lambda line: None),
    )
    return bench.judged(arms=len(ours), report=report)


def evaluate(
    model: str | Path,
    *,
    on: str | Sequence[str],
    cache: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    leaks: bool = True,
    progress: bool = True,
) -> list[EvalResult]:
    """Judge one model and return its results; `judge` with neither page nor costs.

    Args:
        model, on, cache, out, device, leaks, progress: as for `judge`.

    Raises:
        LiftError: bad input, or a text without vector and no text encoder installed.
    """
    found = judge(
        model,
        on=on,
        cache=cache,
        out=out,
        device=device,
        leaks=leaks,
        efficiency=False,
        report=False,
        progress=progress,
    )
    return list(found.models[0].results)


def data_sets(folder: str | Path | None = None) -> Catalogue:
    """Return which of the known data sets lie in a folder, and which do not.

    Raises:
        DataError: no such folder.
    """
    from lift import plugins
    from lift.catalog import LAST, ROOM, Catalogue, search

    if folder is not None:
        return search(folder)
    return Catalogue((), tuple(name for name in plugins.names(ROOM) if name != LAST))


def _several(words: Any) -> list[str]:
    return [str(words)] if isinstance(words, str | Path) else [str(word) for word in words]


def _folder(model: str, out: str | Path | None, *, alone: bool) -> Path:
    """Return where results go."""
    from lift.errors import ConfigError

    if out is not None:
        return Path(out)
    if not os.path.isdir(model) or not alone:
        why = "several models are judged" if not alone else f"{model} is no folder of ours"
        raise ConfigError(f"Where results go is not clear, for {why}: give --out FOLDER.")
    return Path(model) / "evals"
