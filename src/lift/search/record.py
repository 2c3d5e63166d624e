"""What `index.json` says: whose vectors an index holds, how they are stored and weighed."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lift.config import Part, from_dict, to_dict
from lift.errors import ConfigError, DataError
from lift.files import write_text
from lift.search.ranking import Ranking
from lift.text.space import TextSpace

NAME = "index.json"
FORMAT = "lift.index/1"
_LARGEST = 1 << 22

EXACT = Part("search/engines", "exact")


@dataclass(frozen=True, kw_only=True)
class IndexRecord:
    """What `index.json` says.

    Attributes:
        space: of all vectors.
        model: identity of the model that made them (`Bundle.identity`).
        weights: of fields, above 0: how many times the odds of its rows count; 1 where none is
            named.
        engine: how near rows are found.
        thumbnails: pixels of the longer side of the pictures that are kept, 0 for none.
        stored: how numbers are stored.
        calibrations: slope and offset by kind, from cosine to log odds; empty where none was
            fitted.
        calibrated_on: the name of the pairs they were fitted on; "" for the index's own items.
        format: another one is another version's.
    """

    space: TextSpace
    model: str
    weights: Mapping[str, float] = field(default_factory=dict)
    engine: Part = EXACT
    thumbnails: int = 256
    stored: Literal["float32", "float16"] = "float32"
    calibrations: Mapping[str, Any] = field(default_factory=dict)
    calibrated_on: str = ""
    format: str = FORMAT

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise ConfigError(f"The weight of {name} must be above 0, not {weight}.")
        if not 0 <= self.thumbnails <= 2048:
            raise ConfigError(
                f"Thumbnails have from 0 (none) to 2048 pixels, not {self.thumbnails}."
            )
        if self.stored not in ("float32", "float16"):
            raise ConfigError(f"Vectors are stored as float32 or float16, not {self.stored}.")
        if self.engine.room != EXACT.room:  # a stranger's file may say so
            raise ConfigError(f"An index is not searched by {self.engine.room}.")
        self.ranking  # noqa: B018  # raises

    @property
    def ranking(self) -> Ranking:
        """How rows become one list."""
        return Ranking.told(self.weights, self.calibrations)

    def write(self, folder: Path) -> None:
        """Write it, whole. Raises StorageError."""
        write_text(folder / NAME, json.dumps(to_dict(self), indent=2, ensure_ascii=False) + "\n")


def stamp(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when the record is written anew; None where it can't be seen."""
    try:
        found = (folder / NAME).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read(folder: Path) -> IndexRecord:
    """Return what an index's folder says.

    Raises:
        DataError: no index there, or a damaged or newer one.
    """
    with told(folder / NAME, FORMAT, "lift index build") as values:
        weights = values.get("weights", {})
        if not isinstance(weights, dict) or not all(
            isinstance(weight, int | float) for weight in weights.values()
        ):
            raise DataError(f"{folder / NAME} has weights that are no numbers; build it again.")
        return from_dict(IndexRecord, values, NAME)


@contextlib.contextmanager
def told(path: Path, wanted: str, command: str) -> Iterator[dict[str, Any]]:
    """Yield what a JSON file of ours says; what is wrong with it in the block is told as damage.

    Args:
        path: of the file.
        wanted: its format.
        command: that makes it.

    Raises:
        DataError: it is not there, damaged, or of another format.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}; make one with `{command}`.")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        values = json.loads(content) if len(content) <= _LARGEST else None
        if not isinstance(values, dict) or values.get("format") != wanted:
            raise DataError(
                f"{path} is not of the format {wanted!r}; use the version of lift that wrote it."
            )
        yield values
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path} can't be read ({why}); make it again with `{command}`.") from error
