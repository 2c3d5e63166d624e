"""The command that gives a model to other libraries: export_model.

It is not called `export`, because `lift.export` is the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.bundle import Bundle
    from lift.export import Exported


def export_model(
    model: str | Path | Bundle,
    to: str,
    out: str | Path,
    *,
    options: Sequence[str] = (),
    images: str = "",
    tolerance: float | None = None,
    licence: str = "",
    data_licence: str = "",
) -> Exported:
    """Write a model in another library's form, compare what that library reloads, and say both.

    Args:
        model: folder of a finished run or of a model, or a model in hand.
        to: which form: "sentence-transformers", "onnx", and so on.
        out: folder to make; an earlier export there is replaced.
        options: of that form, as "key=value".
        images: data source whose first 64 pictures are compared on; some are made if not given.
        tolerance: largest difference of a number that is allowed; each form has its own.
        licence: of these weights, for the model card ("apache-2.0").
        data_licence: of the images and captions, for the model card.

    Raises:
        ConfigError: no such form or option, or one that this model can't be had in.
        CheckpointError: no model there, something else at `out`, or too large a difference.
        MissingPackage: the other library is not installed.
        DataError: no pictures at `images`.
        StorageError: the disk refused.
    """
    from lift import bundle
    from lift.export import Licences
    from lift.export import export_model as export

    if isinstance(model, str | Path):
        evals, model = _evals(Path(model)), bundle.load(model, device="cpu")
    else:
        evals = None
    return export(
        model,
        to,
        out,
        options=options,
        images=images or None,
        tolerance=tolerance,
        licences=Licences(model=licence, data=data_licence),
        evals=evals,
    )


def _evals(path: Path) -> Path | None:
    """Return the folder of results beside a run's model."""
    from lift.model_folder import IN_A_RUN, model_in

    found = model_in(path)
    run = found.resolve().parent if found is not None and found.resolve().name == IN_A_RUN else None
    return run / "evals" if run is not None and (run / "run.json").is_file() else None
