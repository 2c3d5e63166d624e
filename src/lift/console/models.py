"""Console of the commands about finished models: eval, report, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from lift.commands import models


def eval_(
    model: tyro.conf.Positional[Path],
    *,
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="EVAL:data=SOURCE[,KEY=VALUE] ...")],
    cache: str = "",
    out: str = "",
    device: str = "auto",
    leaks: bool = True,
    quiet: bool = False,
) -> None:
    """Judge a model: protocol, item count and 95% interval with every figure.

    For example:

      lift eval runs/flickr --on retrieval:data=flickr8k/val-0000.tar --cache captions
      lift eval runs/shop --on zeroshot:data=test.parquet,label=article_type

    Args:
        model: the folder of a run or of a saved model.
        on: what to judge it on.
        cache: take text vectors from there where it has them (not of a model whose text side was
            trained, too).
        out: where the JSON goes; beside the model, in `evals`, if not given.
        device: auto, cpu, cuda or mps.
        leaks: look for images and captions in what the model was trained on, and note it.
        quiet: no progress bar.
    """
    from lift.evaluation import table

    results = models.evaluate(
        model,
        on=on,
        cache=cache or None,
        out=out or None,
        device=device,
        leaks=leaks,
        progress=not quiet,
    )
    print(table(results))


def report(run: tyro.conf.Positional[Path], *, out: str = "") -> None:
    """Write a run's page: one HTML file with curves, intervals and a gallery.

    For example:

      lift report runs/flickr

    Args:
        run: the run's folder, or that of a comparison (`lift compare`).
        out: where to write; `report.html` in the run (`comparison.html`) if not given.
    """
    print(models.report(run, out=out or None))


def import_(checkpoint: tyro.conf.Positional[Path], *, cache: Path, out: Path) -> None:
    """Turn a checkpoint of the paper's own code into a model.

    For example:

      lift import LIFT-ViT-B-16.pt --cache captions --out models/lift-b16

    Args:
        checkpoint: the file; tensors are read, nothing in it is run.
        cache: any cache in the checkpoint's text space, which the file does not name.
        out: folder of the model.
    """
    models.import_reference(checkpoint, cache=cache, out=out)
    print(out)
