"""Where a saved model lies, and its JSON as it stands there: for rooms below the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lift.errors import CheckpointError

FORMAT = 2
"""2 may have a text side of its own."""

MARKER = "bundle.json"
WEIGHTS = "model.safetensors"
IN_A_RUN = "model"
"""Folder of a finished run that holds its model."""


def model_in(path: str | Path) -> Path | None:
    """Return the folder of the model that lies in a folder, or in that of a run; None without."""
    for folder in (Path(path), Path(path) / IN_A_RUN):
        if (folder / MARKER).is_file():
            return folder
    return None


def require_model(path: str | Path, named: str = "") -> Path:
    """Return what `model_in` finds.

    Args:
        path: the folder.
        named: what to call it in the message; the path if not given.

    Raises:
        CheckpointError: no model there.
    """
    folder = model_in(path)
    if folder is None:
        raise CheckpointError(
            f"{named or path} is no model of lift: neither {MARKER} nor {IN_A_RUN}/{MARKER} is "
            "there. Give the folder that `lift train` wrote (a run has a model once it is "
            "finished)."
        )
    return folder


def read_values(path: Path) -> dict[str, Any]:
    """Return what a `bundle.json` of this format or an older one says, unchecked.

    Raises:
        CheckpointError: damaged, or of a newer format.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        written = values["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path) from error
    if not isinstance(written, int) or written > FORMAT:
        raise CheckpointError(
            f"{path} has format {written}, this version reads up to {FORMAT}: upgrade lift-align."
        )
    return values


def damaged(path: Path) -> CheckpointError:
    """Return what to raise for a `bundle.json` that can't be read."""
    return CheckpointError(f"{path} is damaged; copy it again from where it was made.")
