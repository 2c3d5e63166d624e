"""Figures of rows against plain float64 formulas: every pair, a full SVD, a full sort."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lift.errors import NotFinite
from lift.text.geometry import (
    effective_rank,
    nearest,
    participation,
    prefix_agreement,
    spread,
    unit_rows,
)


def rows(count: int, width: int, seed: int = 0, shift: float = 0.4) -> np.ndarray:
    """Return unit rows around a common direction, some directions stronger than others."""
    dice = np.random.default_rng(seed)
    raw = dice.normal(size=(count, width)) * np.linspace(2, 0.2, width) + shift
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.mark.parametrize(("count", "width"), [(60, 12), (13, 40), (2, 5), (30, 30)])
def test_spread_is_that_of_the_definitions(count: int, width: int) -> None:
    z = rows(count, width)
    found = spread(z)
    cosines = [float(z[i] @ z[j]) for i in range(count) for j in range(count) if i != j]
    assert found.mean_cosine == pytest.approx(np.mean(cosines), abs=1e-12)
    assert found.cosine_deviation == pytest.approx(np.std(cosines), abs=1e-7)
    assert found.mean_norm == pytest.approx(np.linalg.norm(z.mean(axis=0)), abs=1e-12)
    centred = z - z.mean(axis=0)
    for values, rank, part, spectrum in (
        (z, found.effective_rank, found.participation, found.spectrum),
        (centred, found.centred_rank, found.centred_participation, found.centred_spectrum),
    ):
        singular = np.linalg.svd(values, compute_uv=False)
        shares = singular**2 / (singular**2).sum()
        entropy = -sum(p * math.log(p) for p in shares if p > 1e-300)
        assert rank == pytest.approx(math.exp(entropy), rel=1e-9)
        assert part == pytest.approx(1 / (shares**2).sum(), rel=1e-9)
        expected = singular / math.sqrt(count)
        np.testing.assert_allclose(spectrum, expected[: len(spectrum)], atol=1e-7)


@pytest.mark.parametrize(("count", "width"), [(60, 12), (13, 40)])
def test_partition_ratio_sums_over_all_directions(count: int, width: int) -> None:
    z = rows(count, width)
    _, _, directions = np.linalg.svd(z, full_matrices=True)
    sums = [float(np.exp(z @ (s * c)).sum()) for c in directions for s in (1, -1)]
    assert spread(z).partition_ratio == pytest.approx(min(sums) / max(sums), rel=1e-9)


def test_the_extremes_are_where_they_should_be() -> None:
    point = spread(np.tile(rows(1, 8), (20, 1)))
    assert point.mean_cosine == pytest.approx(1) and point.mean_norm == pytest.approx(1)
    assert point.partition_ratio == pytest.approx(math.exp(-2))
    assert point.effective_rank == pytest.approx(1) and point.participation == pytest.approx(1)
    cross = spread(np.concatenate([np.eye(8), -np.eye(8)]))
    assert cross.mean_norm == 0 and cross.mean_cosine == pytest.approx(-1 / 15)
    assert cross.partition_ratio == pytest.approx(1)
    assert cross.effective_rank == pytest.approx(8) and cross.participation == pytest.approx(8)
    assert effective_rank(np.zeros(3)) == participation(np.zeros(3)) == 0


def test_isoscore_is_the_centred_participation() -> None:
    """Rudman et al. 2022, steps 3 to 6, as printed."""
    z = rows(200, 10)
    values = np.linalg.eigvalsh(np.cov(z.T))
    scaled = math.sqrt(10) * values / np.linalg.norm(values)
    defect = np.linalg.norm(scaled - 1) / math.sqrt(2 * (10 - math.sqrt(10)))
    used = (10 - defect**2 * (10 - math.sqrt(10))) ** 2 / 10**2
    score = (10 * used - 1) / 9
    assert (spread(z).centred_participation - 1) / 9 == pytest.approx(score, rel=1e-9)


def test_nearest_is_the_best_of_all() -> None:
    z = rows(1_100, 6)  # more than two blocks
    cosines = z @ z.T
    np.fill_diagonal(cosines, -2)
    found = nearest(z)
    np.testing.assert_allclose(found.cosine, cosines.max(axis=1), atol=1e-6)
    assert (found.index != np.arange(len(z))).all() and found.collisions == 0


def test_collisions_are_rows_equal_but_for_rounding() -> None:
    z = rows(40, 16)
    turn = np.roll(z[3], 1)
    for row, by in ((7, 1e-7), (9, 1e-4)):
        z[row] = z[3] + by * turn
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    found = nearest(z)
    assert found.index[3] == 7 and found.index[7] == 3 and found.collisions == 2
    assert 1e-10 < 1 - found.cosine[9] < 1e-7  # cosines near 1 keep their digits


@pytest.mark.parametrize("width", [1, 4, 16])
def test_prefixes_keep_what_a_full_sort_keeps(width: int) -> None:
    z = rows(700, 16)
    shares = []
    short = z[:, :width] / np.linalg.norm(z[:, :width], axis=1, keepdims=True)
    for query in range(600):
        both = []
        for values in (z, short):
            cosines = values @ values[query]
            cosines[query] = -2
            both.append(set(np.argsort(-cosines)[:10].tolist()))
        shares.append(len(both[0] & both[1]) / 10)
    found = prefix_agreement(z, width, queries=600)
    # One value leaves only signs, all tied: any ten of the same sign are the nearest.
    assert found == (1 if width == 16 else pytest.approx(np.mean(shares), abs=0.02))


def test_rows_that_have_no_direction_are_named() -> None:
    good = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(unit_rows(good, ["a", "b", "c"]), 0.5)
    for bad in (0.0, np.nan, np.inf):
        broken = good.copy()
        broken[1] = bad
        with pytest.raises(NotFinite, match=r"1 caption\(s\), first for 'b'"):
            unit_rows(broken, ["a", "b", "c"])
