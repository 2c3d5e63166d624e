"""Folders of stored vectors in every layout, made by the hashing encoder."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lift.config import Part
from lift.text.encoder import build_encoder

DIMENSIONS = 32


@functools.cache
def encoder(dimensions: int = DIMENSIONS):
    """Return the live encoder that made the rows."""
    return build_encoder(Part("text/encoders", "hashing", {"dimensions": dimensions}))


def write_npy(
    folder: Path, texts: Sequence[str], name: str = "rows", kind: str = "float32"
) -> Path:
    """Write `name.npy` and `name.jsonl`; return the path of the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", encoder().encode(texts).rows.astype(kind))
    lines = (json.dumps({"caption": text, "n": n}) + "\n" for n, text in enumerate(texts))
    (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / f"{name}.npy"


@functools.cache
def shared_folder(texts: tuple[str, ...]) -> Path:
    """Return a folder with rows of all these texts, which lasts as long as the tests do."""
    folder = Path(tempfile.mkdtemp(prefix="stored-vectors-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_npy(folder, texts)
    return folder
