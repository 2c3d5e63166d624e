"""What `bundle.json` says of a model: what rebuilds its sides, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lift.config import Part, from_dict
from lift.data.transform import Transform
from lift.errors import CheckpointError
from lift.model import SideConfig
from lift.model_folder import FORMAT, damaged, read_values
from lift.text.space import TextSpace
from lift.text_side import FILES


@dataclass(frozen=True, kw_only=True)
class BundleRecord:
    """What `bundle.json` says.

    Attributes:
        image: the image side as options.
        transform: the only way pixels reach the tower.
        space: the text space that the image side was trained into.
        encoder: the text encoder that makes vectors of that space; None where the model does so
            itself.
        text: the text side that was trained with the images; empty where an encoder stands there.
        saw: benchmarks whose captions that encoder was trained on.
        scalars: temperature, bias and the like, as the objective left them.
        origin: recipe, data, samples seen, what it was trained on and versions, for people.
        format: raised when older code can't read it.
    """

    image: SideConfig
    transform: Transform
    space: TextSpace
    encoder: Part | None
    text: SideConfig = field(default_factory=SideConfig)
    saw: tuple[str, ...] = ()
    scalars: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def read_record(path: Path) -> BundleRecord:
    """Return what a `bundle.json` of this format or an older one says.

    Raises:
        CheckpointError: damaged, of a newer format, or without a file that it speaks of.
        ConfigError: an unknown option.
    """
    values = read_values(path)
    try:
        record = from_dict(BundleRecord, {**values, "format": FORMAT}, path.name)
    except RecursionError as error:  # a head before a head before a head
        raise damaged(path) from error
    trained = record.text.tower is not None
    if trained == (record.encoder is not None):
        what = "two text sides" if trained else "no text side"
        raise CheckpointError(f"{path} names {what}; copy it again from where it was made.")
    absent = [name for name in FILES if trained and not (path.parent / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{path.parent} lacks {absent[0]}, a part of its text side; copy it again from where "
            "it was made."
        )
    return record


@dataclass(frozen=True)
class Guess:
    """One label of `Bundle.classify` and how sure the model is of it."""

    label: str
    probability: float
