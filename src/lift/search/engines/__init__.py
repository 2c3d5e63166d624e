"""One file a way to find near vectors: exact, or approximate with its recall declared.

A file has a frozen dataclass `Config` and `build(config) -> Maker`. An engine looks at the rows of
one kind (image rows and text rows lie in files of their own); items, fields, weights and deleted
rows are no matter of it: what may be found it is told with each question.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

Vectors: TypeAlias = Float[np.ndarray, "n d"]
"""Unit rows, float32 or float16, in C order; a `numpy.memmap`, or any array."""

NOWHERE = -1
"""The place of a hit that there is not, with a cosine of -inf."""


@runtime_checkable
class Engine(Protocol):
    """Finds the nearest rows; several threads may ask, also while it follows or builds.

    Attributes:
        recall: at least this share of the true ten nearest is found on clustered vectors, whatever
            is allowed; 1.0: all of them, always.
        stale: rows that what was built doesn't know. They are compared one by one, so they are
            found, but slowly: where they are many, `build`.
        complaint: a sentence that says why what lies in the folder is not used (damaged, of other
            vectors, not built), "" where it is. Answers are right all the same, and slower.
    """

    recall: float

    @property
    def stale(self) -> int: ...

    @property
    def complaint(self) -> str: ...

    def nearest(
        self,
        z: Float32[np.ndarray, "q d"],
        top: int,
        allowed: Bool[np.ndarray, " m"] | None = None,
    ) -> tuple[Int64[np.ndarray, "q top"], Float32[np.ndarray, "q top"]]:
        """Return the places of the nearest rows and their cosines, nearest first.

        Cosines are those with the stored rows, computed in float64 and the same for a row whatever
        else is asked; equal ones are ordered by place. Where fewer rows are allowed, the rest is
        `NOWHERE` and -inf.

        Args:
            z: of unit length.
            top: how many, 1 at least.
            allowed: which rows may be found. It may be shorter than the vectors: rows after its
                end may not. None: all.
        """
        ...

    def follow(self, vectors: Vectors) -> None:
        """Go on with these vectors: the same rows with more after them, or others altogether.

        What was built stays in use where it is of their first rows; cheap enough for every commit.
        """
        ...

    def build(self) -> None:
        """Make what the engine looks things up in anew, over all rows; written whole.

        Killed at any time, the earlier one stays. An exact engine does nothing.

        Raises:
            StorageError: the disk refuses, or the engine was not opened for writing.
        """
        ...

    def close(self) -> None:
        """Let go of files and maps."""
        ...


@runtime_checkable
class Maker(Protocol):
    """What `build(config)` of a file returns."""

    def open(self, vectors: Vectors, folder: Path, *, writes: bool) -> Engine:
        """Return an engine over `vectors` that keeps what it needs in `folder`, its own.

        Nothing is built here: until `build` was called, it is exact. A damaged, strange or foreign
        folder is no error: see `Engine.complaint`.

        Args:
            vectors: may have no rows, but has a width.
            folder: made when something is written; nothing else lies in it.
            writes: whether `build` may be called.
        """
        ...
