"""Console of the command that judges models: eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lift.commands import evaluation

if TYPE_CHECKING:
    from lift.judging.found import Judgement

Models = Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODEL [MODEL ...]")]


def eval_(
    models: tyro.conf.Positional[Models],
    *,
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="EVAL:data=SOURCE|FOLDER ...")],
    against: Models = (),
    cache: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CACHE ...")] = (),
    out: str = "",
    device: str = "auto",
    leaks: bool = True,
    efficiency: bool = True,
    page: bool = True,
    quiet: bool = False,
) -> None:
    """Judge models: protocol, item count and 95% interval with every figure, and one page.

    A MODEL is the folder of a run or a model, or another model in words
    (sentence_transformers:model=DIR, open_clip:model=NAME, huggingface:model=DIR, vectors:...).
    Several are seeds of one arm. A stopped evaluation goes on when the same words are said again.

    For example:

      lift eval runs/flickr --on retrieval:data=flickr8k/val-0000.tar --cache captions
      lift eval runs/shop --on zeroshot:data=test.parquet,label=article_type
      lift eval runs/flickr --on ~/benchmarks
      lift eval runs/a --against runs/b --on ~/benchmarks --out a-against-b

    Args:
        models: what is judged; several are seeds of one arm.
        on: evaluations with their data, and folders of data sets (`lift data sets` lists those
            that are known), of which all that is known is asked.
        against: models to compare with, as many, item by item.
        cache: take text vectors from there where they are (not of a model whose text side was
            trained, too).
        out: where JSON, vectors and report.html go; beside the model, in `evals`, if not given.
        device: auto, cpu, cuda or mps.
        leaks: look for images and captions in what the model was trained on, and note it.
        efficiency: measure parameters, FLOPs, speed and memory, too.
        page: write report.html.
        quiet: no progress bar.
    """
    found = evaluation.judge(
        models,
        on=on,
        against=against,
        cache=cache,
        out=out or None,
        device=device,
        leaks=leaks,
        efficiency=efficiency,
        report=page,
        progress=not quiet,
    )
    if found.told:
        _print(found)


def _print(found: Judgement) -> None:
    from lift.against import table as differences
    from lift.results import table

    for model in found.models:
        if len(found.models) > 1:
            print(f"\n{model.name}\n")
        print(table(model.results))
        if model.efficiency is not None:
            print(f"\n{model.efficiency.table()}")
    for names, results in found.pooled:
        print(f"\nSeeds pooled: {names}\n\n{table(results)}")
    if found.differences:
        print(f"\n{differences(found.differences)}")
    if found.left_out:
        print("\nLeft out:")
        print("\n".join(f"- {why}" for why in found.left_out))
    if found.absent:
        names = ", ".join(name for name, _ in found.absent)
        print(f"\nNot there: {names} (`lift data sets` says where each is to be had).")
    if found.report is not None:
        print(f"\nThe page: {found.report}")


def sets(folder: tyro.conf.Positional[str] = "") -> None:
    """List the data sets that models can be judged on: where each is to be had, how it lies.

    For example:

      lift data sets
      lift data sets ~/benchmarks

    Args:
        folder: look which of them are there.
    """
    from lift import plugins
    from lift.catalog import LAST, ROOM

    found = evaluation.data_sets(Path(folder) if folder else None)
    for one in found.found:
        print(f"{one.name} in {one.folder}")
        print("\n".join(f"  {words}" for words in one.on))
    if found.unknown:
        print(f"Nothing that is known: {', '.join(found.unknown)}")
    if folder and found.absent:
        print("\nNot there:")
    for name in found.absent:
        module = plugins.load(ROOM, name)
        print(f"{name}: {module.TITLE}. {module.WHERE}\n  Layout: {module.LAYOUT}")
    if not folder:
        print(f"Any other: {plugins.load(ROOM, LAST).LAYOUT}")
