"""Linear maps from one space to another, and the sums over pairs that they are solved from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True, eq=False)
class Sums:
    """All that a linear map needs to know of weighted pairs (h, t), in float64.

    The products are of what is centred at the own means, and are sums over pairs times weights:
    divided by `weight` they are covariances.

    Attributes:
        weight: sum of the weights.
        images: how many pairs; several captions of an image are one pair with their mean.
        mean_h, mean_t: weighted means.
        hh, ht, tt: sums of weight * (h - mean_h)(h - mean_h)', and so on.
        within: sum of weight * |caption - mean caption of its image|^2, which no map from images
            can explain.
    """

    weight: float
    images: int
    mean_h: Float64[np.ndarray, " w"]
    mean_t: Float64[np.ndarray, " d"]
    hh: Float64[np.ndarray, "w w"]
    ht: Float64[np.ndarray, "w d"]
    tt: Float64[np.ndarray, "d d"]
    within: float = 0.0

    @classmethod
    def none(cls, width: int, dimensions: int) -> Sums:
        """Return the sums of no pairs."""
        w, d = width, dimensions
        zeros = np.zeros
        return cls(0.0, 0, zeros(w), zeros(d), zeros((w, w)), zeros((w, d)), zeros((d, d)))

    def __add__(self, other: Sums) -> Sums:
        """Return the sums of both sets of pairs (Chan, Golub and LeVeque 1979)."""
        if not other.images or not self.images:
            return self if not other.images else other
        whole = self.weight + other.weight
        share = other.weight / whole if whole else 0.0
        apart_h, apart_t = other.mean_h - self.mean_h, other.mean_t - self.mean_t
        factor = self.weight * share
        return Sums(
            whole,
            self.images + other.images,
            self.mean_h + share * apart_h,
            self.mean_t + share * apart_t,
            self.hh + other.hh + factor * np.outer(apart_h, apart_h),
            self.ht + other.ht + factor * np.outer(apart_h, apart_t),
            self.tt + other.tt + factor * np.outer(apart_t, apart_t),
            self.within + other.within,
        )

    def about(
        self, centre_h: Float64[np.ndarray, " w"], centre_t: Float64[np.ndarray, " d"]
    ) -> Sums:
        """Return the sums with products of what is centred elsewhere; the means stay."""
        off_h, off_t = self.mean_h - centre_h, self.mean_t - centre_t
        return Sums(
            self.weight,
            self.images,
            self.mean_h,
            self.mean_t,
            self.hh + self.weight * np.outer(off_h, off_h),
            self.ht + self.weight * np.outer(off_h, off_t),
            self.tt + self.weight * np.outer(off_t, off_t),
            self.within,
        )

    def raw(self) -> Sums:
        """Return the sums with products of vectors as they are, for maps without a bias."""
        return self.about(np.zeros_like(self.mean_h), np.zeros_like(self.mean_t))


def total(parts: Iterable[Sums]) -> Sums:
    """Return the sums of all pairs of at least one part."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


@dataclass(frozen=True, eq=False)
class Linear:
    """A map h -> W h + b, with how it was found.

    Attributes:
        weight: W [d w].
        bias: b [d]; zeros where it was solved without one.
        facts: plain values: the chosen penalty, what it scored, and so on.
        notes: what a reader has to know, in sentences.
    """

    weight: Float64[np.ndarray, "d w"]
    bias: Float64[np.ndarray, " d"]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def apply(self, h: Float[np.ndarray, "n w"]) -> Float64[np.ndarray, "n d"]:
        """Return W h + b of every row; raw, not of unit length."""
        return h.astype(np.float64) @ self.weight.T + self.bias


class Solver(Protocol):
    """What a file in `solvers/` builds."""

    def solve(self, sums: Sums, folds: Sequence[Sums] = ()) -> Linear:
        """Return the map from h to t.

        Args:
            sums: of all pairs.
            folds: those of disjoint parts that make up all pairs; choices are made by holding one
                out. Without them a solver that needs some says so.

        Raises:
            DataError: pairs that no map can be solved from.
        """
        ...


def squared_error(linear: Linear, sums: Sums) -> float:
    """Return the sum of weight * |t - (W h + b)|^2 over pairs, from their sums alone."""
    w = linear.weight
    off = sums.mean_t - w @ sums.mean_h - linear.bias
    spread = np.trace(sums.tt) - 2.0 * np.sum(w.T * sums.ht) + np.sum((w @ sums.hh) * w)
    return max(float(spread + sums.weight * (off @ off)), 0.0)


def explained(linear: Linear, sums: Sums) -> float:
    """Return R2: the share of the variance of targets, about their own mean, that the map explains.

    Of pairs that it was not solved from it may be negative.
    """
    variance = float(np.trace(sums.tt))
    return 1.0 - squared_error(linear, sums) / variance if variance > 0 else 0.0


def separation(weight: Float64[np.ndarray, "d w"], sums: Sums) -> float:
    """Return by how many of their deviations right pairs score above wrong ones.

    With h and t centred, a pair scores s = t' W h. Over right pairs s has the mean
    tr(W C_ht); over independent h and t it has mean 0 and variance tr(C_tt W C_hh W'). The quotient
    ignores the scale of W, and of all W the one of canonical correlations, C_tt^-1 C_th C_hh^-1,
    makes it largest (set the derivative to zero).
    """
    signal = float(np.sum(weight.T * sums.ht)) / sums.weight
    noise = float(np.sum((sums.tt @ weight) * (weight @ sums.hh))) / sums.weight**2
    return signal / np.sqrt(noise) if noise > 0 else 0.0
