"""A bank on disk: `bank.json` and `bank.safetensors` in one folder, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lift.errors import CheckpointError, LiftError
from lift.files import is_ours_or_empty, restore_old, whole_folder
from lift.text.space import TextSpace

FORMAT = 1
MARKER = "bank.json"
ROWS = "bank.safetensors"


def write(
    folder: Path, words: dict[str, Any], space: TextSpace | None, arrays: dict[str, np.ndarray]
) -> None:
    """Write a bank; an older one there is replaced.

    Raises:
        CheckpointError: the folder holds something else.
        StorageError: the disk refused.
    """
    if not is_ours_or_empty(folder, MARKER) or (
        folder.exists() and {path.name for path in folder.iterdir()} - {MARKER, ROWS}
    ):
        raise CheckpointError(
            f"{folder} holds something else, which saving would remove; choose another folder."
        )
    described = None if space is None else json.loads(space.to_json())
    text = json.dumps({"format": FORMAT, "space": described, **words}, indent=2, ensure_ascii=False)
    with whole_folder(folder) as aside:
        save_file(arrays, aside / ROWS)
        (aside / MARKER).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, Any], TextSpace | None, dict[str, np.ndarray]]:
    """Return the words, the space and the arrays that `write` wrote.

    Raises:
        CheckpointError: no bank there, a newer format, or a damaged one.
    """
    restore_old(folder)
    if not (folder / MARKER).is_file():
        raise CheckpointError(
            f"{folder} is no bank: {MARKER} is not there. Give the folder that Bank.save wrote."
        )
    damaged = f"The bank {folder} is damaged (%s); copy it again from where it was made."
    try:
        words = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        written = words.pop("format")
        described = words.pop("space")
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        RecursionError,  # brackets within brackets
    ) as error:
        raise CheckpointError(damaged % error) from error
    if not isinstance(written, int) or written > FORMAT:
        raise CheckpointError(
            f"{folder} has format {written}, this version reads up to {FORMAT}: upgrade lift-align."
        )
    try:
        space = None if described is None else TextSpace.from_json(json.dumps(described))
        arrays = load_file(folder / ROWS)
    except (OSError, SafetensorError, LiftError, TypeError) as error:  # of a type numpy lacks
        raise CheckpointError(damaged % str(error).splitlines()[0]) from error
    return words, space, arrays
