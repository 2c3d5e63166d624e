"""Least squares with a penalty on the size of the map (Hoerl and Kennard 1970).

With products about the means, W = C_th (C_hh + alpha I)^-1. One eigendecomposition of C_hh gives
the map and its score for every penalty of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from lift.errors import ConfigError
from lift.linear import Linear, Sums
from lift.solvers._sums import axes, bias_of, centred, held_out, notes_on, rank

GRID = np.power(10.0, np.arange(-40, 9) / 4)
"""Penalties that are tried: 1e-10 to 100 times the mean eigenvalue, four a decade."""

_FREE = 1e-6
"""Share of the pairs that a map must leave free for generalised cross-validation: where it passes
through all of them, both parts of its quotient are rounding."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ridge regression.

    Attributes:
        penalty: alpha, in units of the mean eigenvalue of C_hh, so that it means the same for any
            number of pairs and any scale of the vectors; "gcv" takes the one with the smallest
            generalised cross-validation error (Golub, Heath and Wahba 1979), "kfold" the one with
            the smallest error on folds held out in turn.
        intercept: whether the map has a bias.
    """

    penalty: float | Literal["gcv", "kfold"] = "gcv"
    intercept: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.penalty, str) and self.penalty < 0:
            raise ConfigError(f"ridge.penalty must be 0 or more, not {self.penalty}.")


class Ridge:
    """A `Solver`."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def solve(self, sums: Sums, folds: Sequence[Sums] = ()) -> Linear:
        """Return the map; see `lift.linear.Solver`.

        Raises:
            DataError: one pair, or no variance.
            ConfigError: "kfold" without folds.
        """
        own = centred(sums, self.config.intercept)
        values, vectors = axes(own.hh)
        unit = float(values.mean())
        reached = rank(values)
        notes = list(notes_on(sums, len(values), reached))
        penalty, facts = self._penalty(own, folds, values, vectors.T @ own.ht, notes)
        alpha = penalty * unit
        damped = np.zeros_like(values)
        if alpha > 0:
            damped = 1.0 / (values + alpha)
        else:  # the shortest of the maps with the least error
            damped[:reached] = 1.0 / values[:reached]
        weight = ((vectors * damped) @ (vectors.T @ own.ht)).T
        freedom = float((values * damped).sum()) + self.config.intercept
        facts |= {
            "penalty": penalty,
            "alpha": alpha,
            "degrees_of_freedom": freedom,
            "condition": float(values[0] + alpha) / max(float(values[-1] + alpha), 1e-300),
        }
        return Linear(
            np.ascontiguousarray(weight),
            bias_of(weight, sums, self.config.intercept),
            facts,
            tuple(notes),
        )

    def _penalty(
        self,
        own: Sums,
        folds: Sequence[Sums],
        values: Float64[np.ndarray, " w"],
        turned: Float64[np.ndarray, "w d"],
        notes: list[str],
    ) -> tuple[float, dict[str, object]]:
        """Return the penalty to take, and what chose it."""
        asked = self.config.penalty
        if not isinstance(asked, str):
            return asked, {"chosen_by": "given"}
        if asked == "gcv":
            errors = gcv(own, values, turned, self.config.intercept)
        else:
            errors = np.sum(
                [
                    _fold_errors(rest, fold, self.config.intercept)
                    for rest, fold in held_out(folds, "ridge with penalty=kfold")
                ],
                axis=0,
            )
            errors = errors / own.weight
        best = int(np.nanargmin(errors))
        if best in (0, len(GRID) - 1):
            end = "smallest" if best == 0 else "largest"
            notes.append(f"The {end} penalty that is tried scored best.")
        variance = float(np.trace(own.tt)) / own.weight
        return float(GRID[best]), {
            "chosen_by": asked,
            "cv_r2": 1.0 - float(errors[best]) / variance,
        }


def gcv(
    own: Sums,
    values: Float64[np.ndarray, " w"],
    turned: Float64[np.ndarray, "w d"],
    intercept: bool,
) -> Float64[np.ndarray, " g"]:
    """Return the generalised cross-validation error a pair of every penalty in `GRID`.

    It is n |T - H T|^2 / (n - tr H)^2, n images; infinite where the map passes through all pairs.
    """
    energy = (turned * turned).sum(axis=1)
    errors = np.full(len(GRID), np.inf)
    for place, alpha in enumerate(GRID * values.mean()):
        damped = 1.0 / (values + alpha)
        left = float(np.trace(own.tt)) - float(((2.0 - values * damped) * damped * energy).sum())
        free = 1.0 - (float((values * damped).sum()) + intercept) / own.images
        if free > _FREE:
            errors[place] = max(left, 0.0) / own.weight / free**2
    if not np.isfinite(errors).any():  # as many pairs as a bias and one axis take
        errors[-1] = float(np.trace(own.tt)) / own.weight
    return errors


def _fold_errors(rest: Sums, fold: Sums, intercept: bool) -> Float64[np.ndarray, " g"]:
    """Return the squared error on a fold of the maps of the rest, for every penalty in `GRID`.

    In the axes of the rest, W' = D P with diagonal D: the error is
    tr T - 2 <D, P Q'> + D' (G o P P') D, quick for each D.
    """
    own = centred(rest, intercept)
    seen = fold.about(rest.mean_h, rest.mean_t) if intercept else fold.raw()
    values, vectors = axes(own.hh)
    turned = vectors.T @ own.ht
    across = (turned * (vectors.T @ seen.ht)).sum(axis=1)
    within = (vectors.T @ seen.hh @ vectors) * (turned @ turned.T)
    errors = np.empty(len(GRID))
    for place, alpha in enumerate(GRID * values.mean()):
        damped = 1.0 / (values + alpha)
        errors[place] = np.trace(seen.tt) - 2.0 * damped @ across + damped @ within @ damped
    return errors


def build(config: Config) -> Ridge:
    """Return the solver."""
    return Ridge(config)
