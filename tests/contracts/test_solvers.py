"""Every file in solvers/ keeps the promises of `lift.linear.Solver`."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from lift import plugins
from lift.config import part
from lift.errors import DataError
from lift.linear import Sums
from planted_pairs import moments, pairs, sums

# Options by file that are tested beside the defaults.
ALSO = {
    "ridge": [{"penalty": "kfold"}, {"penalty": 0.1}, {"intercept": False}],
    "procrustes": [{"pca": True}, {"scale": False}, {"intercept": False}],
    "cca": [{"power": 0.5, "components": 4}, {"mean": "keep"}, {"intercept": False}],
}
CASES = [(name, o) for name in plugins.names("solvers") for o in [{}, *ALSO.get(name, [])]]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def solver(request):
    name, options = request.param
    return plugins.build(part("solvers", name, **options))


def solved(solver, h, t, weight=None):
    made = moments(h, t, weight)
    return solver.solve(made.total, made.folds)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("widths", [(12, 7), (7, 12), (9, 9)])
def test_shapes_and_plain_facts(solver, widths):
    h, t = pairs(width=widths[0], dimensions=widths[1])
    found = solved(solver, h, t)
    assert found.weight.shape == widths[::-1] and found.bias.shape == (widths[1],)
    assert found.weight.dtype == found.bias.dtype == np.float64
    assert np.isfinite(found.weight).all() and np.isfinite(found.bias).all()
    assert json.loads(json.dumps(dict(found.facts))) == dict(found.facts)
    assert found.bias.any() == solver.config.intercept


def test_right_pairs_are_nearer_than_shuffled(solver):
    h, t = pairs(n=900)
    found = solved(solver, h[:600], t[:600])
    centre = t[:600].mean(axis=0) * solver.config.intercept
    z, y = unit(found.apply(h[600:]) - found.apply(h[:600]).mean(axis=0)), unit(t[600:] - centre)
    right, wrong = (z * y).sum(axis=1).mean(), (z * np.roll(y, 1, axis=0)).sum(axis=1).mean()
    assert right > wrong + 0.2


def test_blocks_and_order_make_no_difference(solver):
    h, t = pairs()
    made = moments(h, t)
    folds = made.folds
    first = solver.solve(made.total, folds)
    joined = Sums.none(h.shape[1], t.shape[1])
    for fold in reversed(folds):
        joined = fold + joined
    again = solver.solve(joined, folds)
    scale = np.abs(first.weight).max()
    np.testing.assert_allclose(again.weight, first.weight, atol=1e-7 * scale)


def test_the_scale_of_weights_and_of_what_comes_in_says_nothing(solver):
    h, t = pairs()
    found = solved(solver, h, t)
    heavy = solved(solver, h, t, np.full(len(h), 1e3))
    np.testing.assert_allclose(unit(heavy.apply(h)), unit(found.apply(h)), atol=1e-6)
    small = solved(solver, h * 1e-3, t)
    if getattr(solver.config, "scale", True):  # a rotation has no scale of its own
        np.testing.assert_allclose(unit(small.apply(h * 1e-3)), unit(found.apply(h)), atol=1e-6)


def test_a_weight_is_so_many_equal_pairs(solver):
    h, t = pairs(n=200)
    if getattr(solver.config, "penalty", None) == "gcv":
        solver = type(solver)(dataclasses.replace(solver.config, penalty=0.01))  # it counts pairs
    if getattr(solver.config, "shrinkage", None) == "fold":
        solver = type(solver)(dataclasses.replace(solver.config, shrinkage=0.01))
    twice = np.where(np.arange(len(h)) % 3 == 0, 2.0, 1.0)
    key = np.random.default_rng(0).integers(0, 2**63, len(h)).astype(np.uint64)
    repeated = np.repeat(np.arange(len(h)), twice.astype(int))
    from lift.fitting.moments import Moments

    weighted, longer = (Moments(h.shape[1], t.shape[1]) for _ in range(2))
    weighted.add(h, t, twice, key=key)
    longer.add(h[repeated], t[repeated], key=key[repeated])
    ours, theirs = (solver.solve(m.total, m.folds) for m in (weighted, longer))
    np.testing.assert_allclose(ours.apply(h), theirs.apply(h), atol=1e-6 * np.abs(t).max())


def test_moving_what_comes_in_moves_nothing(solver):
    if not solver.config.intercept:
        pytest.skip("a map without bias goes through zero")
    h, t = pairs()
    found, moved = solved(solver, h, t), solved(solver, h + 100.0, t)
    np.testing.assert_allclose(moved.apply(h + 100.0), found.apply(h), atol=1e-5)


def test_fewer_pairs_than_numbers_are_solved_with_a_note(solver):
    h, t = pairs(n=30, width=50, dimensions=40)
    found = solved(solver, h, t)
    assert np.isfinite(found.apply(h)).all()
    assert any("fewer than the 50 numbers" in note for note in found.notes)


def test_what_has_no_answer_is_refused_in_a_sentence(solver):
    h, t = pairs(n=40)
    with pytest.raises(DataError, match="can't be fitted on 1 pair: give at least two"):
        solved(solver, h[:1], t[:1])
    nothing = "are equal" if solver.config.intercept else "are zero"
    with pytest.raises(DataError, match=nothing):
        solved(solver, h * 0 + (7.0 if solver.config.intercept else 0.0), t)
    with pytest.raises(DataError, match=nothing):
        solved(solver, h, t * 0)


def test_sums_stay_as_they_are(solver):
    h, t = pairs()
    made = sums(h, t)
    before = {name: value.copy() for name, value in vars(made).items() if hasattr(value, "copy")}
    solver.solve(made, moments(h, t).folds)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(made, name), value)
