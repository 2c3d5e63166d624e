"""Console of the command that judges models: eval."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
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
    from lift.results import table, wrapped

    for model in found.models:
        if len(found.models) > 1:
            print(f"\nmodel: {model.name}\n")
        print(table(model.results))
        if model.efficiency is not None:
            print(f"\n{model.efficiency.table()}")
    for names, results in found.pooled:
        print(f"\nseeds pooled: {names}\n\n{table(results)}")
    if found.differences:
        half = len(found.models) // 2
        ours, theirs = (
            " + ".join(m.name for m in arm) for arm in (found.models[:half], found.models[half:])
        )
        print(f"\npaired, item by item; ours: {ours}; theirs: {theirs}\n")
        print(differences(found.differences))
    if found.left_out:
        print("\nleft out:")
        print("\n".join(wrapped(f"- {why}", "  ") for why in found.left_out))
    if found.absent:
        names = ", ".join(name for name, _ in found.absent)
        print("\n" + wrapped(f"not there: {names} (`lift data sets` says where to get them)", "  "))
    if found.report is not None:
        print(f"\npage: {found.report}")


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
    from lift.results import wrapped

    found = evaluation.data_sets(Path(folder) if folder else None)
    for one in found.found:
        print(f"{one.name} in {one.folder}")
        print(_asked(one.on))
    if found.found:
        print(f"\nask all of it: lift eval MODEL --on {shlex.quote(folder)}")
        print("ask one: lift eval MODEL --on 'EVALUATION:DATA,OPTIONS' with words from above")
    if found.unknown:
        print(wrapped(f"nothing known in: {', '.join(found.unknown)}", "  "))
    if found.unseen:
        why = "too many folders, or none may look"
        print(wrapped(f"not all looked at ({why}): {', '.join(found.unseen)}", "  "))
    if found.unseen:
        print(wrapped(f"not looked at whole: {', '.join(found.unseen)}", "  "))
    if folder and found.absent:
        print("\nnot there:")
    for name in [*found.absent, *([] if folder else [LAST])]:
        module = plugins.load(ROOM, name)
        print(name)
        for words in (module.TITLE, f"from: {module.WHERE}", f"layout: {module.LAYOUT}"):
            print(wrapped(f"  {words}", "    "))


def _asked(words: Sequence[str]) -> str:
    """Return what is asked of a data set in lines: data once, then each evaluation of it."""
    from lift.evaluation import split_plan

    lines: dict[str, list[str]] = {}
    for one in words:
        name, options = split_plan(one)
        long = [option for option in options if option.startswith(("data=", "train="))]
        rest = [option for option in options if option not in long]
        asked = f"{name}:{','.join(rest)}" if rest else name
        lines.setdefault(",\n  ".join(long), []).append(asked)
    return "\n".join(
        "\n".join([f"  {data}", *(f"    {asked}" for asked in several)])
        for data, several in lines.items()
    )
