"""Console of the command that gives a model to other libraries: export."""

from __future__ import annotations

from pathlib import Path

import tyro

from lift.commands import export as commands
from lift.console.words import Options


def export(
    model: tyro.conf.Positional[Path],
    *,
    to: str,
    out: Path,
    options: Options = (),
    images: str = "",
    tolerance: float | None = None,
    licence: str = "",
    data_licence: str = "",
) -> None:
    """Give a model to another library: sentence-transformers, transformers, timm, open_clip, ONNX.

    What was written is reloaded by that library and compared with the model on the spot; where it
    differs too much, nothing is left. A model card goes with it.

    For example:

      lift export runs/flickr --to sentence-transformers --out exports/flickr
      lift export runs/flickr --to sentence-transformers --out exports/flickr
        --images 'photos/*.jpg' --licence apache-2.0 --data-licence "CC BY 4.0"
      lift export runs/flickr --to onnx --out exports/onnx

    Args:
        model: folder of a finished run or of a model.
        to: sentence-transformers, transformers, timm, open-clip or onnx.
        out: folder to make; an earlier export there is replaced.
        options: of the form, `own_code=true`, `texts=false`; see docs/export.md.
        images: files, a folder or data whose first 64 pictures are compared on; some are made
            if not given.
        tolerance: largest difference of a number that is allowed; each form has its own.
        licence: of these weights, for the model card.
        data_licence: of the images and captions, for the model card.
    """
    done = commands.export_model(
        model,
        to,
        out,
        options=options,
        images=images,
        tolerance=tolerance,
        licence=licence,
        data_licence=data_licence,
    )
    print(done)
