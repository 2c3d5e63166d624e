"""Pairs with a known truth, as sums: made once, small."""

from __future__ import annotations

import numpy as np

from lift.fitting.moments import Moments
from lift.linear import Sums


def pairs(n=600, width=12, dimensions=7, noise=0.5, seed=0):
    """Return h [n width] and t [n dimensions]: a linear map plus noise, means far from zero."""
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width) * 3
    t = h @ rng.normal(size=(width, dimensions)) + noise * rng.normal(size=(n, dimensions))
    return h, t + 2.0


def moments(h, t, weight=None, folds=5, seed=0) -> Moments:
    """Return the moments of pairs in folds."""
    key = np.random.default_rng(seed).integers(0, 2**63, len(h)).astype(np.uint64)
    made = Moments(h.shape[1], t.shape[1], folds)
    for start in range(0, len(h), 157):
        at = slice(start, start + 157)
        made.add(h[at], t[at], None if weight is None else weight[at], key=key[at])
    return made


def sums(h, t, weight=None) -> Sums:
    """Return the sums of pairs."""
    return moments(h, t, weight).total
