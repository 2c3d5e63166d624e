"""What may be asked of an engine."""

from __future__ import annotations

import numpy as np

from lift.errors import ConfigError
from lift.search.engines import Vectors


def checked(vectors: Vectors, z: np.ndarray, top: int) -> None:
    """Raise ConfigError where a question is of another width, not finite, or for no hits."""
    if z.ndim != 2 or z.shape[1] != vectors.shape[1]:
        raise ConfigError(
            f"A query of shape {list(z.shape)} was asked of vectors of {vectors.shape[1]} values."
        )
    if top < 1:
        raise ConfigError(f"A search returns at least 1 hit, not {top}.")
    if not np.isfinite(z).all():
        raise ConfigError("A query's vector holds what is not finite.")
