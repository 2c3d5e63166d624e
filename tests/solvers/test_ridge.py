"""Ridge from sums is the ridge of everybody else on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.linear_model import Ridge as Theirs

from lift import plugins
from lift.config import part
from lift.errors import ConfigError, DataError
from lift.fitting.moments import Moments
from lift.fitting.sampling import fold_of
from lift.linear import explained, squared_error
from lift.solvers.ridge import GRID
from planted_pairs import moments, pairs, sums


def ridge(**options):
    return plugins.build(part("solvers", "ridge", **options))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("penalty", [1e-6, 0.01, 3.0])
def test_it_is_that_of_scikit_learn(penalty, weighted, intercept):
    h, t = pairs()
    weight = np.random.default_rng(1).uniform(0, 3, len(h)) if weighted else None
    found = ridge(penalty=penalty, intercept=intercept).solve(sums(h, t, weight))
    theirs = Theirs(alpha=found.facts["alpha"], fit_intercept=intercept).fit(h, t, weight)
    np.testing.assert_allclose(found.weight, theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(found.bias, theirs.intercept_ if intercept else 0.0, atol=1e-8)
    np.testing.assert_allclose(found.apply(h), theirs.predict(h), atol=1e-8)


def test_without_a_penalty_it_is_least_squares():
    h, t = pairs()
    found = ridge(penalty=0.0).solve(sums(h, t))
    ones = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    theirs = np.linalg.lstsq(ones, t, rcond=None)[0]
    np.testing.assert_allclose(found.weight.T, theirs[:-1], atol=1e-8)
    np.testing.assert_allclose(found.bias, theirs[-1], atol=1e-8)


@pytest.mark.parametrize("intercept", [True, False])
def test_generalised_cross_validation_is_the_formula(intercept):
    """n |T - H T|^2 / (n - tr H)^2 with the hat matrix written out."""
    h, t = pairs(n=80, noise=4.0)
    found = ridge(intercept=intercept).solve(sums(h, t))
    centre = (h.mean(axis=0), t.mean(axis=0)) if intercept else (0.0, 0.0)
    x, y = h - centre[0], t - centre[1]
    unit = np.trace(x.T @ x) / x.shape[1]
    errors = []
    for penalty in GRID:
        hat = x @ np.linalg.solve(x.T @ x + penalty * unit * np.eye(x.shape[1]), x.T)
        hat = hat + (1.0 / len(x) if intercept else 0.0)
        rest = y - hat @ y
        errors.append(len(x) * (rest**2).sum() / (len(x) - np.trace(hat)) ** 2)
    assert found.facts["penalty"] == GRID[int(np.argmin(errors))]
    assert GRID[2] < found.facts["penalty"] < GRID[-2]
    best = 1 - min(errors) * len(x) / (y**2).sum()
    assert found.facts["cv_r2"] == pytest.approx(best, abs=1e-9)


def test_it_chooses_as_scikit_learn_does():
    """Theirs is leave-one-out; with many rows generalised cross-validation chooses the same."""
    h, t = pairs(n=2000, noise=60.0)
    found = ridge().solve(sums(h, t))
    unit = found.facts["alpha"] / found.facts["penalty"]
    theirs = RidgeCV(alphas=GRID[8:] * unit).fit(h, t)
    assert found.facts["alpha"] == pytest.approx(theirs.alpha_)
    assert found.facts["penalty"] > 1e-4


@pytest.mark.parametrize("intercept", [True, False])
def test_folds_are_explicit_refits(intercept):
    h, t = pairs(n=120, noise=8.0)
    weight = np.random.default_rng(2).uniform(0.5, 2, len(h))
    key = np.random.default_rng(0).integers(0, 2**63, len(h)).astype(np.uint64)
    made = moments(h, t, weight, folds=4)
    found = ridge(penalty="kfold", intercept=intercept).solve(made.total, made.folds)
    fold, errors = fold_of(key, 4), np.zeros(len(GRID))
    for place in range(4):
        out = fold == place
        assert out.any()
        whole = Moments(h.shape[1], t.shape[1], 1)
        whole.add(h[~out], t[~out], weight[~out])
        about = whole.total if intercept else whole.total.raw()
        unit = np.trace(about.hh) / h.shape[1]
        for n, penalty in enumerate(GRID):
            theirs = Theirs(alpha=penalty * unit, fit_intercept=intercept)
            theirs.fit(h[~out], t[~out], weight[~out])
            errors[n] += weight[out] @ ((t[out] - theirs.predict(h[out])) ** 2).sum(axis=1)
    assert found.facts["penalty"] == GRID[int(np.argmin(errors))]
    own = made.total if intercept else made.total.raw()
    best = 1 - errors.min() / np.trace(own.tt)
    assert found.facts["cv_r2"] == pytest.approx(best, abs=1e-6)


def test_errors_from_sums_are_those_of_the_rows():
    h, t = pairs()
    weight = np.random.default_rng(1).uniform(0, 3, len(h))
    found = ridge().solve(sums(h, t, weight))
    fresh_h, fresh_t = pairs(seed=0, noise=2.0)
    fresh = sums(fresh_h, fresh_t, weight)
    errors = weight @ ((fresh_t - found.apply(fresh_h)) ** 2).sum(axis=1)
    assert squared_error(found, fresh) == pytest.approx(errors, rel=1e-9)
    middle = np.average(fresh_t, axis=0, weights=weight)
    spread = weight @ ((fresh_t - middle) ** 2).sum(axis=1)
    assert explained(found, fresh) == pytest.approx(1 - errors / spread, rel=1e-9)


def test_a_planted_map_is_found_to_a_percent_of_the_optimum():
    """Held-out error within 1% of what the true map leaves: the noise."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(64, 48))
    h = rng.normal(size=(30_000, 64)) * np.geomspace(1, 0.03, 64) + 1.0
    t = h @ true + 0.7 * rng.normal(size=(30_000, 48))
    found = ridge().solve(sums(h[:20_000], t[:20_000]))
    error = ((t[20_000:] - found.apply(h[20_000:])) ** 2).sum(axis=1).mean()
    best = ((t[20_000:] - h[20_000:] @ true) ** 2).sum(axis=1).mean()
    assert 1.0 <= error / best < 1.01


def test_fewer_pairs_than_numbers_are_solved_with_a_note():
    h, t = pairs(n=60, width=90, dimensions=20, noise=0.1)
    found = ridge().solve(sums(h[:40], t[:40]))
    assert "fewer than the 90 numbers" in found.notes[0]
    assert np.isfinite(found.weight).all() and found.facts["penalty"] > 0
    fresh = ((t[40:] - found.apply(h[40:])) ** 2).sum()
    assert fresh < ((t[40:] - t[:40].mean(axis=0)) ** 2).sum()
    shortest = ridge(penalty=0.0).solve(sums(h[:40], t[:40]))
    theirs = LinearRegression().fit(h[:40], t[:40])  # lstsq gives the shortest, too
    np.testing.assert_allclose(shortest.weight, theirs.coef_, atol=1e-6)


def test_constant_and_repeated_columns_are_left_out_with_a_note():
    h, t = pairs()
    h[:, 3] = 5.0
    h[:, 4] = h[:, 5]
    for penalty in (0.0, "gcv"):
        found = ridge(penalty=penalty).solve(sums(h, t))
        assert "vary along 10 of 12 axes" in found.notes[0]
        assert np.abs(found.weight[:, 3]).max() < 1e-6
        theirs = LinearRegression().fit(h, t)
        np.testing.assert_allclose(found.apply(h), theirs.predict(h), atol=0.05)


def test_what_cannot_be_solved_is_told_in_a_sentence():
    h, t = pairs()
    with pytest.raises(DataError, match="can't be fitted on 1 pair: give at least two"):
        ridge().solve(sums(h[:1], t[:1]))
    with pytest.raises(DataError, match="can't be fitted on pairs without weight"):
        ridge().solve(sums(h[:0], t[:0]))
    with pytest.raises(DataError, match="pairs without weight"):
        ridge().solve(sums(h, t, np.zeros(len(h))))
    with pytest.raises(DataError, match="All 600 vectors that come in are equal"):
        ridge().solve(sums(np.repeat(h[:1], 600, axis=0), t))
    with pytest.raises(DataError, match="All 600 vectors to be reached are equal"):
        ridge().solve(sums(h, np.repeat(t[:1], 600, axis=0)))
    with pytest.raises(DataError, match="All vectors of one side are zero"):
        ridge(intercept=False).solve(sums(h * 0, t))
    with pytest.raises(ConfigError, match="needs at least two folds with pairs, there are 0"):
        ridge(penalty="kfold").solve(sums(h, t))
    with pytest.raises(ConfigError, match="must be 0 or more"):
        ridge(penalty=-1.0)
    with pytest.raises(ConfigError, match="Did you mean 'gcv'"):
        ridge(penalty="gvc")
    two = ridge().solve(sums(h[:2], t[:2]))
    assert np.isfinite(two.weight).all()


def test_an_end_of_the_grid_is_told():
    rng = np.random.default_rng(0)
    found = ridge().solve(sums(rng.normal(size=(60, 4)), rng.normal(size=(60, 4))))
    assert any("penalty that is tried scored best" in note for note in found.notes)
