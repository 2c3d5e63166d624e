"""Spearman's rank correlation between spaces' figures, with permutations for chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

PERMUTATIONS = 50_000
LEAST = 5
"""Spaces: of fewer nothing is said."""


@dataclasses.dataclass(frozen=True)
class Rank:
    """One correlation.

    Attributes:
        figure, outcome: of what with what.
        rho: Spearman's, ties with their mean rank.
        p: share of permutations of the spaces with as large a |rho|, the given order among them.
        holm: the same, corrected for all correlations of its family (Holm 1979).
        spaces: how many.
    """

    figure: str
    outcome: str
    rho: float
    p: float
    holm: float
    spaces: int


def ranks(values: Sequence[float]) -> Float64[np.ndarray, " n"]:
    """Return ranks from 0; equal values share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return (ends - (count + 1) / 2)[group]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the correlation of ranks; 0 where one side does not vary."""
    x, y = _centred(a), _centred(b)
    length = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / length) if length > 0 else 0.0


def by_chance(spaces: int, correlations: int = 1) -> float:
    """Return the |rho| that 5% of permutations of so many spaces reach, without ties.

    Args:
        spaces: how many.
        correlations: what is asked at once: of so many the largest, by Bonferroni's bound.
    """
    x = _centred(np.arange(spaces).tolist())
    drawn = _permuted(x) @ x / (x @ x)
    return float(np.quantile(np.abs(drawn), 1 - 0.05 / correlations))


def family(
    figures: Mapping[str, Sequence[float]], outcomes: Mapping[str, Sequence[float]]
) -> list[Rank]:
    """Return the correlation of every figure with every outcome, corrected for all of them.

    Args:
        figures, outcomes: values by name, those of a space at one place in all.
    """
    found: list[tuple[str, str, float, float, int]] = []
    for outcome, results in outcomes.items():
        spaces = len(results)
        if spaces < LEAST:
            continue
        y = _permuted(_centred(results))
        for figure, values in figures.items():
            x = _centred(values)
            length = np.sqrt((x @ x) * (y[0] @ y[0]))
            if length <= 0:
                continue
            rho = spearman(values, results)
            p = float((np.abs(y @ x / length) >= abs(rho) - 1e-12).mean())
            found.append((figure, outcome, rho, p, spaces))
    return _holm(found)


def _holm(found: list[tuple[str, str, float, float, int]]) -> list[Rank]:
    most, corrected = 0.0, []
    ordered = sorted(found, key=lambda one: one[3])
    for number, (figure, outcome, rho, p, spaces) in enumerate(ordered):
        most = max(most, min(1.0, p * (len(ordered) - number)))
        corrected.append(Rank(figure, outcome, rho, p, most, spaces))
    return corrected


def _centred(values: Sequence[float]) -> Float64[np.ndarray, " n"]:
    found = ranks(values)
    return found - found.mean()


def _permuted(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "times n"]:
    """Return the values in their order, then in random ones."""
    rng = np.random.default_rng(0)
    drawn = rng.permuted(np.tile(values, (PERMUTATIONS, 1)), axis=1)
    return np.concatenate([values[None], drawn])
