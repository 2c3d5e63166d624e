"""Console of the commands about finished models: report, import."""

from __future__ import annotations

from pathlib import Path

import tyro

from lift.commands import models


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
