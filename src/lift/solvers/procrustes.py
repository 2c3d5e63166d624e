"""A rotation, or where widths differ a projection, and one scale (Schoenemann 1966).

Of all R with orthonormal rows (or columns, where the target is wider) the one with the largest
tr(R C_ht) is V U', where C_ht = U S V'. It can't overfit a few thousand pairs, and it keeps angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lift.linear import Linear, Sums
from lift.solvers._sums import axes, bias_of, centred, notes_on, rank


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the orthogonal map.

    Attributes:
        pca: where widths differ, first turn the wider side to its axes of largest variance and
            keep as many as the narrower has.
        scale: multiply with the number that makes the squared error smallest. It matters only
            beside the bias, for what comes out is brought to unit length.
        intercept: whether mean is taken to mean.
    """

    pca: bool = False
    scale: bool = True
    intercept: bool = True


class Procrustes:
    """A `Solver`."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def solve(self, sums: Sums, folds: Sequence[Sums] = ()) -> Linear:
        """Return the map; folds have nothing to choose. See `lift.linear.Solver`.

        Raises:
            DataError: one pair, or no variance.
        """
        own = centred(sums, self.config.intercept)
        wide, narrow = max(own.ht.shape), min(own.ht.shape)
        into, out = np.eye(own.ht.shape[0]), np.eye(own.ht.shape[1])
        if self.config.pca and wide > narrow:
            if len(own.mean_h) > len(own.mean_t):
                into = axes(own.hh)[1][:, :narrow]
            else:
                out = axes(own.tt)[1][:, :narrow]
        left, strengths, right = np.linalg.svd(into.T @ own.ht @ out, full_matrices=False)
        turn = out @ (left @ right).T @ into.T
        gain = 1.0
        if self.config.scale:
            moved = float(np.sum((turn @ own.hh) * turn))
            gain = float(np.sum(turn.T * own.ht)) / moved if moved > 0 else 1.0
        weight = np.ascontiguousarray(gain * turn)
        notes = notes_on(sums, own.ht.shape[0], rank(axes(own.hh)[0]))
        shape = "orthogonal" if wide == narrow else "semi-orthogonal"
        variance = float(np.trace(own.tt) * np.trace(own.hh)) ** 0.5
        facts = {
            "shape": shape,
            "scale": gain,
            "agreement": float(strengths.sum()) / variance if variance > 0 else 0.0,
        }
        return Linear(weight, bias_of(weight, sums, self.config.intercept), facts, notes)


def build(config: Config) -> Procrustes:
    """Return the solver."""
    return Procrustes(config)
