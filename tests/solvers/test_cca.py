"""Canonical correlations against whitening written out and scikit-learn's iteration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.cross_decomposition import CCA as Theirs

from lift import plugins
from lift.config import part
from lift.errors import ConfigError
from lift.linear import separation
from planted_pairs import moments, pairs, sums


def cca(**options):
    return plugins.build(part("solvers", "cca", **options))


def shrunk(products, share):
    n = len(products)
    return (1 - share) * products + share * np.trace(products) / n * np.eye(n)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("components", [0, 3])
def test_it_is_whitening_written_out(power, components):
    """t . W h is sum_k rho_k^p a_k(h) b_k(t) up to one factor for all pairs."""
    h, t = pairs()
    found = cca(power=power, components=components, shrinkage=0.05, mean="keep").solve(sums(h, t))
    x, y = h - h.mean(axis=0), t - t.mean(axis=0)
    white_h = np.linalg.inv(sqrtm(shrunk(x.T @ x, 0.05)))
    white_t = np.linalg.inv(sqrtm(shrunk(y.T @ y, 0.05)))
    left, rho, right = np.linalg.svd(white_h @ x.T @ y @ white_t, full_matrices=False)
    kept = components or len(rho)
    a, b = x @ white_h @ left[:, :kept], y @ white_t @ right[:kept].T
    naive = (a * rho[:kept] ** power) @ b.T
    ours = found.apply(h) @ y.T
    np.testing.assert_allclose(ours / np.abs(ours).max(), naive / np.abs(naive).max(), atol=1e-9)
    np.testing.assert_allclose(found.facts["correlations"], rho[: min(kept, 10)], atol=1e-9)
    length = (found.apply(h) ** 2).sum() / (y**2).sum()
    assert length == pytest.approx(1.0)


def test_correlations_are_those_of_scikit_learn():
    h, t = pairs(n=400, width=6, dimensions=4, noise=6.0)
    found = cca(shrinkage=1e-9).solve(sums(h, t)).facts["correlations"]
    theirs = Theirs(n_components=4, scale=False, max_iter=5_000, tol=1e-12).fit(h, t)
    a, b = theirs.transform(h, t)
    rho = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(4)]
    np.testing.assert_allclose(found, rho, atol=1e-5)
    assert 0.05 < min(rho) < max(rho) < 0.999


def test_the_mean_of_texts_orders_no_images():
    """With the mean's direction projected out, adding it to texts changes no order of images."""
    h, t = pairs()
    found = cca(shrinkage=0.01).solve(sums(h, t))
    mean = t.mean(axis=0)
    assert np.abs(found.weight.T @ mean).max() < 1e-9
    scores = found.apply(h) @ t[:5].T
    np.testing.assert_allclose(scores, found.apply(h) @ (t[:5] + mean).T, atol=1e-8)
    assert np.abs(cca(shrinkage=0.01, mean="keep").solve(sums(h, t)).weight.T @ mean).max() > 1e-3


def test_of_all_maps_it_separates_best():
    h, t = pairs(noise=3.0)
    s = sums(h, t)
    best = separation(cca(shrinkage=1e-9, mean="keep").solve(s).weight, s)
    rng = np.random.default_rng(0)
    ridge = plugins.build(part("solvers", "ridge", penalty=0.0)).solve(s).weight
    assert best > separation(ridge, s)
    for _ in range(20):
        near = cca(shrinkage=1e-9, mean="keep").solve(s).weight
        near = near + 0.05 * np.abs(near).max() * rng.normal(size=near.shape)
        assert separation(near, s) < best


def test_separation_is_that_of_the_scores():
    h, t = pairs(n=400, noise=3.0)
    weight = np.random.default_rng(0).normal(size=(7, 12))
    s = sums(h, t)
    scores = (h - h.mean(axis=0)) @ weight.T @ (t - t.mean(axis=0)).T
    naive = np.diagonal(scores).mean() / np.sqrt((scores**2).mean())
    assert separation(weight, s) == pytest.approx(naive, rel=1e-9)


def test_shrinkage_is_chosen_on_a_fold():
    """With little data and much noise more of it is taken; with few pairs none is chosen."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 30)) * np.geomspace(1, 1e-3, 40)[:, None]
    h = rng.normal(size=(20_000, 40)) * np.geomspace(1, 1e-2, 40)
    t = h @ true + 0.3 * rng.normal(size=(20_000, 30))
    few, many = moments(h[:60], t[:60]), moments(h, t)
    by_few, by_many = (cca().solve(m.total, m.folds).facts for m in (few, many))
    assert by_few["chosen_by"] == by_many["chosen_by"] == "fold"
    assert by_few["shrinkage_image"] > by_many["shrinkage_image"]
    assert by_few["cv_separation"] < by_many["cv_separation"]
    alone = cca().solve(few.total)
    assert alone.facts["chosen_by"] == "too few pairs to choose"


def test_options_out_of_range_are_told():
    h, t = pairs()
    with pytest.raises(ConfigError, match="there are only 7"):
        cca(components=8).solve(sums(h, t))
    for options in ({"shrinkage": 0.0}, {"shrinkage": 2.0}, {"components": -1}, {"power": -0.5}):
        with pytest.raises(ConfigError, match="must"):
            cca(**options)
