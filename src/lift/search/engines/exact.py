"""Every row compared, straight from the map: always right, nothing to build, nothing in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lift.search.engines import Vectors
from lift.search.engines._exact import exact
from lift.search.engines._questions import checked


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def build(config: Config) -> ExactMaker:
    """Return what opens the engine."""
    return ExactMaker()


class ExactMaker:
    """See `Maker`."""

    def open(self, vectors: Vectors, folder: Path, *, writes: bool) -> Exact:
        """Return the engine; the folder is left alone."""
        return Exact(vectors)


class Exact:
    """See `Engine`."""

    recall = 1.0
    stale = 0
    complaint = ""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def nearest(
        self,
        z: Float32[np.ndarray, "q d"],
        top: int,
        allowed: Bool[np.ndarray, " m"] | None = None,
    ) -> tuple[Int64[np.ndarray, "q top"], Float32[np.ndarray, "q top"]]:
        """Compare with every allowed row; see `Engine`."""
        vectors = self._vectors
        checked(vectors, z, top)
        found = exact(vectors, z, top, allowed)
        return found.places, found.cosines

    def follow(self, vectors: Vectors) -> None:
        """Go on with these vectors."""
        self._vectors = vectors

    def build(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Let go of the map."""
        self._vectors = self._vectors[:0].copy()
