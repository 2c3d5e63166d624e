"""Console of the commands about pairs: data inspect, data pack, data select."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from lift.commands import data as commands
from lift.console.evaluation import sets

Sources = tyro.conf.Positional[
    Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE [SOURCE ...]")]
]


def inspect(
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]],
    *,
    out: Path = Path("inspect.html"),
    all: bool = False,
    strict: bool = False,
    most: int = 2_000,
    samples: int = 10,
    seed: int = 0,
    quiet: bool = False,
) -> None:
    """Look at pairs: layout, counts, sizes, captions, duplicates, what is broken, on a page.

    Every caption is read, and an even draw of the images.

    For example:

      lift data inspect photos/
      lift data inspect 'flickr8k/train-*.tar' --out flickr8k.html
      lift data inspect table:path=pairs.csv,caption=title --all

    Args:
        data: a path, whose layout is guessed, or `format:key=value,...`.
        out: the page; a JSON file with all figures lies beside it.
        all: look at every image.
        strict: stop at the first broken sample.
        most: images to look at, drawn evenly.
        samples: how many to show as the model sees them.
        seed: of the draw and of the views.
        quiet: no progress bars.
    """
    from lift.curation.advice import as_table, commands_of

    found = commands.inspect(
        data,
        out=out,
        all_images=all,
        strict=strict,
        most=most,
        samples=samples,
        seed=seed,
        progress=not quiet,
    )
    print(as_table(found))
    print("\nnext:")
    for command in commands_of(found):
        print(f"  {command}")
    print(f"page: {out}")


def pack(
    data: Sources,
    *,
    out: Path,
    side: int = 256,
    quality: int = 90,
    shard_samples: int = 1_000,
    workers: int = 0,
    quiet: bool = False,
) -> None:
    """Write tar shards of small pictures, with every caption and field: faster to load.

    The same command goes on where it stopped; any number of workers gives the same bytes.

    For example:

      lift data pack photos/ --out packed
      lift data pack 'cc3m/*.tar' pairs.csv --out packed --side 288 --workers 8

    Args:
        data: paths, globs or `format:key=value,...`.
        out: the folder of the shards.
        side: a picture's shorter side is at most this, in pixels; none is enlarged.
        quality: of the JPEGs; a plain JPEG that is small enough stays as it is.
        shard_samples: samples of a shard.
        workers: processes that do the work; 0 does it in this one.
        quiet: no progress bars.
    """
    report = commands.pack(
        data,
        out=out,
        side=side,
        quality=quality,
        shard_samples=shard_samples,
        workers=workers,
        progress=not quiet,
    )
    print(report.table())
    print(f"use it with: --data {shlex.quote(report.data)}")


def select(
    data: Sources,
    *,
    out: Path,
    where: str = "",
    weight: str = "",
    cache: str = "",
    model: str = "",
    task: str = "",
    role: str = "",
    clusters: int = 0,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Choose pairs by an expression over their columns; counted, and the same every time.

    For example:

      lift data select pairs.csv --out kept.parquet --where 'words >= 3 and caption_copy == 0'
      lift data select 'cc3m/*.tar' --out kept.parquet --cache captions --clusters 64
        --where 'visualness > 0'
      lift data select pairs.csv --out kept.parquet --model run --where 'alignment > 0.2'

    Args:
        data: paths, globs or `format:key=value,...`.
        out: the manifest of kept keys, a parquet file.
        where: what a sample has to fulfil, over columns (words, width, cluster, ...).
        weight: how much a kept sample counts, an expression too.
        cache: the folder that `lift embed` made.
        model: a run or model that judges how well image and caption fit.
        task: a file with texts that captions should be near to, one a line.
        role: look at captions of this role only.
        clusters: groups of the captions' rows.
        seed: of the clusters.
        device: auto, cpu, cuda or mps.
        quiet: no progress bars.
    """
    selection = commands.select(
        data,
        out=out,
        where=where,
        weight=weight,
        cache=cache or None,
        model=model or None,
        task=task,
        role=role,
        clusters=clusters,
        seed=seed,
        device=device,
        progress=not quiet,
    )
    print(selection.table())


COMMANDS = {"inspect": inspect, "pack": pack, "select": select, "sets": sets}


def help_() -> None:
    """Work on pairs: `inspect` looks at them, `pack` makes them fast, `select` chooses,
    `sets` lists what models are judged on.

    For example:

      lift data inspect photos/
      lift data pack photos/ --out packed
      lift data select pairs.csv --out kept.parquet --where 'words >= 3'
    """
