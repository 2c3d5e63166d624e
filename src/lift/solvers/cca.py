"""Canonical correlations (Hotelling 1936), folded back so that the text side stays untouched.

With whitened sides, C_hh^-1/2 C_ht C_tt^-1/2 = U diag(rho) V', a pair has the canonical variables
a(h) = U' C_hh^-1/2 h and b(t) = V' C_tt^-1/2 t. Weighed by their correlations (CSA, Li et al. 2024,
arXiv 2410.07610) they score

    sum_k rho_k^p a_k(h) b_k(t) = t' C_tt^-1/2 V diag(rho^p) U' C_hh^-1/2 h = t' W h,

so all of it fits into the image's head: z = unit(W h + b), and texts keep the rows that they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from lift.errors import ConfigError
from lift.linear import Linear, Sums, separation
from lift.solvers._sums import axes, centred, held_out, notes_on, rank

GRID = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3)
"""Shares of the mean variance that are tried, for each side."""

_NO_MEAN = 1e-9
_UNCHOSEN = 0.01
"""Share where there are too few pairs to choose one on a part of them."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of canonical correlations.

    Attributes:
        power: p, above.
        components: how many pairs of axes are kept, the most correlated first; 0 keeps all.
        shrinkage: share of the mean variance in each axis' variance before it is divided by
            (Ledoit and Wolf 2004), the same for both sides; "fold" takes for each side the one of
            a few that separates right from wrong pairs best on a fold held out
            (`lift.linear.separation`).
        mean: what becomes of the texts' mean, which has no place in an image's vector. "project"
            drops its direction from W: for texts that share the mean's part in them, images then
            are ordered as by centred texts (as in `lift.text.conditioning`). "keep" leaves it.
        intercept: whether vectors are centred; without, products are about zero.
    """

    power: float = 1.0
    components: int = 0
    shrinkage: float | Literal["fold"] = "fold"
    mean: Literal["project", "keep"] = "project"
    intercept: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.shrinkage, str) and not 0 < self.shrinkage <= 1:
            raise ConfigError(f"cca.shrinkage must lie in (0, 1], not {self.shrinkage}.")
        if self.components < 0:
            raise ConfigError(f"cca.components must be 0 or more, not {self.components}.")
        if self.power < 0:
            raise ConfigError(f"cca.power must be 0 or more, not {self.power}.")


class CCA:
    """A `Solver`."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def solve(self, sums: Sums, folds: Sequence[Sums] = ()) -> Linear:
        """Return the map; see `lift.linear.Solver`.

        Raises:
            DataError: one pair, or no variance.
            ConfigError: more components than there are.
        """
        config = self.config
        own = centred(sums, config.intercept)
        most = min(own.ht.shape)
        if config.components > most:
            raise ConfigError(f"cca.components={config.components}, but there are only {most}.")
        facts: dict[str, object] = {"power": config.power, "components": config.components or most}
        shares, chosen = self._shrinkage(folds)
        facts |= chosen
        image, text = _Whitened(own.hh, shares[0]), _Whitened(own.tt, shares[1])
        left, rho, right = np.linalg.svd(image.root @ own.ht @ text.root, full_matrices=False)
        kept = config.components or most
        rho = rho[:kept]  # shrinkage may lift the largest a little above 1
        weight = text.root @ (right[:kept].T * rho**config.power) @ left[:, :kept].T @ image.root
        # Any scale serves: of that one vectors leave at the length at which texts have come.
        length = float(np.sum((weight @ own.hh) * weight)) / own.weight
        weight = weight * np.sqrt(np.trace(own.tt) / own.weight / length) if length > 0 else weight
        if config.intercept and config.mean == "project":
            weight = _without(weight, sums.mean_t)
        weight = np.ascontiguousarray(weight)
        bias = -weight @ sums.mean_h if config.intercept else np.zeros(len(weight))
        facts |= {
            "shrinkage_image": shares[0],
            "shrinkage_text": shares[1],
            "correlations": [float(value) for value in rho[:10]],
            "condition": image.condition,
        }
        reached = rank(axes(own.hh)[0])
        return Linear(weight, bias, facts, notes_on(sums, own.ht.shape[0], reached))

    def _shrinkage(self, folds: Sequence[Sums]) -> tuple[tuple[float, float], dict[str, object]]:
        """Return the shares of both sides, and what chose them."""
        asked = self.config.shrinkage
        if not isinstance(asked, str):
            return (asked, asked), {"chosen_by": "given"}
        filled = [fold for fold in folds if fold.images]
        if len(filled) < 2 or sum(fold.images for fold in filled[1:]) < 2:
            return (_UNCHOSEN, _UNCHOSEN), {"chosen_by": "too few pairs to choose"}
        rest, fold = held_out(filled, "cca")[0]
        own = centred(rest, self.config.intercept)
        seen = fold.about(rest.mean_h, rest.mean_t) if self.config.intercept else fold.raw()
        h_values, h_axes = axes(own.hh)
        t_values, t_axes = axes(own.tt)
        turned = t_axes.T @ own.ht.T @ h_axes
        there = Sums(
            seen.weight,
            seen.images,
            seen.mean_h,
            seen.mean_t,
            h_axes.T @ seen.hh @ h_axes,
            h_axes.T @ seen.ht @ t_axes,
            t_axes.T @ seen.tt @ t_axes,
        )
        best, shares = -np.inf, (_UNCHOSEN, _UNCHOSEN)
        for of_image in GRID:
            for of_text in GRID:
                # With p = 1 the map is C_tt^-1 C_th C_hh^-1, diagonal on both sides of C_th.
                weight = turned / _shrunk(h_values, of_image) / _shrunk(t_values, of_text)[:, None]
                score = separation(weight, there)
                if score > best:
                    best, shares = score, (of_image, of_text)
        return shares, {"chosen_by": "fold", "cv_separation": float(best)}


def _shrunk(values: Float64[np.ndarray, " n"], share: float) -> Float64[np.ndarray, " n"]:
    return (1.0 - share) * values + share * values.mean()


class _Whitened:
    """The inverse root of shrunk products; its condition is that of what it is the inverse of."""

    def __init__(self, products: Float64[np.ndarray, "n n"], share: float) -> None:
        values, vectors = axes(products)
        shrunk = _shrunk(values, share)
        self.root = (vectors / np.sqrt(shrunk)) @ vectors.T
        self.condition = float(shrunk[0] / shrunk[-1])


def _without(
    weight: Float64[np.ndarray, "d w"], mean: Float64[np.ndarray, " d"]
) -> Float64[np.ndarray, "d w"]:
    """Return (I - m m') W for the direction m of a mean; W where the mean is none."""
    length = float(np.sqrt(mean @ mean))
    if length < _NO_MEAN:
        return weight
    m = mean / length
    return weight - np.outer(m, m @ weight)


def build(config: Config) -> CCA:
    """Return the solver."""
    return CCA(config)
