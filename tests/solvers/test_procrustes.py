"""The orthogonal map is scipy's, and what is best of all where widths differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from lift import plugins
from lift.config import part
from lift.solvers._sums import axes
from planted_pairs import pairs, sums


def procrustes(**options):
    return plugins.build(part("solvers", "procrustes", **options))


@pytest.mark.parametrize("weighted", [True, False])
def test_it_is_that_of_scipy(weighted):
    h, t = pairs(width=9, dimensions=9)
    weight = np.random.default_rng(1).uniform(0, 3, len(h)) if weighted else np.ones(len(h))
    root = np.sqrt(weight)[:, None]
    for centred in (True, False):
        x, y = (
            (rows - centred * np.average(rows, axis=0, weights=weight)) * root for rows in (h, t)
        )
        turn, strength = orthogonal_procrustes(x, y)
        found = procrustes(scale=False, intercept=centred).solve(sums(h, t, weight))
        np.testing.assert_allclose(found.weight.T, turn, atol=1e-8)
        assert found.facts["shape"] == "orthogonal"
        scaled = procrustes(intercept=centred).solve(sums(h, t, weight))
        gain = strength / (x**2).sum()
        np.testing.assert_allclose(scaled.weight.T, gain * turn, atol=1e-8)


def test_a_planted_rotation_is_found():
    rng = np.random.default_rng(0)
    turn = ortho_group.rvs(16, random_state=0)
    h = rng.normal(size=(500, 16)) + 3.0
    found = procrustes().solve(sums(h, 2.5 * h @ turn.T + 1.0))
    np.testing.assert_allclose(found.weight, 2.5 * turn, atol=1e-9)
    np.testing.assert_allclose(found.bias, 1.0, atol=1e-8)
    assert found.facts["agreement"] == pytest.approx(1.0)


@pytest.mark.parametrize("widths", [(11, 5), (5, 11)])
@pytest.mark.parametrize("pca", [True, False])
def test_between_widths_axes_stay_orthonormal(widths, pca):
    h, t = pairs(width=widths[0], dimensions=widths[1])
    s = sums(h, t)
    found = procrustes(pca=pca, scale=False).solve(s).weight
    product = found @ found.T if widths[0] > widths[1] else found.T @ found
    np.testing.assert_allclose(product, np.eye(5), atol=1e-9)
    if pca:  # nothing outside the wider side's five axes of largest variance
        wide = axes(s.hh if widths[0] > widths[1] else s.tt)[1][:, 5:]
        rest = found @ wide if widths[0] > widths[1] else wide.T @ found
        assert np.abs(rest).max() < 1e-9
        return
    best = np.sum(found.T * s.ht)
    rng = np.random.default_rng(3)
    for _ in range(20):  # no other one near it is better
        other, _ = np.linalg.qr(
            (found.T if len(found) < len(found.T) else found) + 0.05 * rng.normal(size=(11, 5))
        )
        other = other.T if len(found) < len(found.T) else other
        signs = np.sign(np.sum(other.T * found.T))
        assert np.sum(signs * other.T * s.ht) < best
