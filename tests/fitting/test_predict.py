"""CKA and common neighbours against their definitions, and at both ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from lift.fitting.predict import agreement, cka, cka_debiased, mutual_knn
from planted_pairs import sums


def rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_cka_is_the_formula_on_gram_matrices():
    h, t = rows(60, 7), rows(60, 5, 1) + rows(60, 7)[:, :5]
    a, b = (
        (x - x.mean(axis=0)) @ (x - x.mean(axis=0)).T for x in (h.astype(float), t.astype(float))
    )
    naive = np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))
    assert cka(sums(h, t)) == pytest.approx(naive, rel=1e-6)


def test_debiased_cka_is_the_estimator_written_out():
    """Song et al. 2012, eq. 5: sums over distinct indices."""
    h, t = rows(9, 4), rows(9, 3, 1)

    def hsic(a, b):
        n, a, b = len(a), a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        one = np.ones(n)
        first = np.trace(a @ b)
        second = (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * (one @ a @ b @ one)
        return (first + second - third) / (n * (n - 3))

    a, b = h.astype(float) @ h.T, t.astype(float) @ t.T
    naive = hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))
    assert cka_debiased(h, t) == pytest.approx(naive, rel=1e-5)
    assert cka_debiased(h[:3], t[:3]) == 0.0
    assert cka_debiased(np.ones_like(h), t) == 0.0


def test_neighbours_are_counted():
    h, t = rows(50, 6), rows(50, 6, 1) + rows(50, 6)
    naive = []
    for n in range(50):
        near = []
        for side in (h, t):
            z = side / np.linalg.norm(side, axis=1, keepdims=True)
            order = [m for m in np.argsort(-(z @ z[n])) if m != n]
            near.append(set(order[:4]))
        naive.append(len(near[0] & near[1]) / 4)
    assert mutual_knn(h, t, 4) == pytest.approx(np.mean(naive))
    assert 0.1 < np.mean(naive) < 0.9


def test_the_same_but_for_rotation_is_one_and_nothing_in_common_is_chance():
    h = rows(800, 12)
    turned = (3.0 * h @ ortho_group.rvs(12, random_state=0)).astype(np.float32)
    found = agreement(sums(h, turned), h, turned)
    assert found.cka == pytest.approx(1.0) and found.cka_debiased == pytest.approx(1.0)
    assert found.knn > 0.999
    other = rows(800, 30, 5)
    found = agreement(sums(h, other), h, other)
    assert abs(found.cka_debiased) < 0.01 < found.cka < 0.1
    assert found.knn == pytest.approx(found.chance, abs=0.006)
    assert "CKA" in str(found) and "800 pairs" in str(found)


def test_two_pairs_are_enough_to_ask():
    found = agreement(sums(rows(2, 3), rows(2, 3, 1)), rows(2, 3), rows(2, 3, 1))
    assert found.neighbours == 1 and found.knn == found.chance == 1.0
