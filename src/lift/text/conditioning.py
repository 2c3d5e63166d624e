"""Linear transforms of a fixed text space, fitted on its rows in one pass, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["none", "centre", "whiten", "pca"]


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """What is done to the text rows that images are trained against.

    Attributes:
        kind: nothing, only the mean removed, whitened, or rotated to the main axes.
        dimensions: axes that are kept, the largest first; 0 keeps all.
        shrinkage: share of the mean variance in each axis' variance before whitening, so that
            axes of noise are not blown up.
    """

    kind: Kind = "none"
    dimensions: int = 0
    shrinkage: float = 0.1
