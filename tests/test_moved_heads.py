"""A head's function goes on in another head: copied, behind another one, with a map behind it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from lift.heads import Head, HeadConfig, build_head
from lift.moved_heads import chained, folded_behind, linear_head, outputs, start_at
from lift.terms import unit
from test_heads import KINDS, moved, rows

MATRIX = HeadConfig(layers=1)
LATER = {
    "matrix": MATRIX,
    "residual": HeadConfig(kind="residual", dropout=0.5),
    "gated": HeadConfig(kind="gated", hidden=6),
}


def made(config: HeadConfig, dtype: torch.dtype = torch.float32, **changes: object) -> Head:
    head = moved(build_head(dataclasses.replace(config, **changes), 5, 4), seed=7).to(dtype)
    if head.config.standardise:
        seen = unit(rows(200)) if head.config.unit else rows(200)
        head.mean.copy_(seen.mean(0))
        head.spread.copy_(seen.std(0))
    return head


def close(found: Tensor, expected: Tensor, allowed: float = 1e-6) -> None:
    assert (found - expected).abs().max() <= allowed * expected.abs().max()


def state(head: Head) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in head.state_dict().items()}


# --- starting where another head is ---------------------------------------------------------------


@pytest.mark.parametrize("theirs", [False, True], ids=["raw", "standardised"])
@pytest.mark.parametrize("ours", [False, True], ids=["raw", "standardises"])
@pytest.mark.parametrize("is_unit", [False, True], ids=["any length", "unit length"])
@pytest.mark.parametrize("name", LATER)
def test_a_fit_is_where_every_later_head_starts(
    name: str, is_unit: bool, ours: bool, theirs: bool
) -> None:
    fit = made(MATRIX, unit=is_unit, standardise=theirs)
    head = made(LATER[name], unit=is_unit, standardise=ours).eval()
    mean = head.mean.clone() if ours else None
    x = rows(300, dtype=torch.float32)
    assert start_at(head, fit)
    close(head(x), fit(x))
    assert all(not branch.weight.any() for branch in outputs(head)[1:])
    if ours and not theirs:
        assert mean is not None and torch.equal(head.mean, mean)
    if ours and theirs:
        assert torch.equal(head.spread, fit.spread)


@pytest.mark.parametrize("name", ["deep", "residual", "gated"])
def test_a_head_that_has_learned_starts_one_of_its_shape_only(name: str) -> None:
    other, x = made(KINDS[name]), rows(dtype=torch.float32)
    head = made(KINDS[name], dropout=0.3)
    head = moved(head, seed=1).eval()
    assert not torch.allclose(head(x), other(x))
    assert start_at(head, other)
    assert torch.equal(head(x), other(x))
    for config in (MATRIX, HeadConfig(layers=2), HeadConfig(kind="gated", hidden=5)):
        head = made(config)
        kept = state(head)
        assert not start_at(head, other)
        assert all(torch.equal(kept[n], value) for n, value in head.state_dict().items())


def test_one_that_standardises_takes_or_gives_up_its_numbers() -> None:
    x = rows(dtype=torch.float32)
    plain, exact = made(KINDS["gated"]), made(KINDS["gated"], standardise=True)
    head = made(KINDS["gated"], standardise=True)
    assert start_at(head, plain)
    close(head(x), plain(x))
    assert start_at(head, exact) and torch.equal(head(x), exact(x))
    assert not start_at(plain, exact)  # its branch is no linear function of the raw rows


def test_what_can_not_be_copied_changes_nothing() -> None:
    fit = made(MATRIX)
    for head in (
        made(HeadConfig(layers=2)),
        made(MATRIX, bias=False),
        made(MATRIX, unit=True),
        build_head(MATRIX, 6, 4),
        build_head(MATRIX, 5, 3),
        build_head(HeadConfig(layers=1, before=MATRIX, between=5), 5, 4),
    ):
        kept = state(head)
        assert not start_at(head, fit)
        assert all(torch.equal(kept[n], value) for n, value in head.state_dict().items())
    with torch.no_grad():
        fit.state_dict()["layers.0.bias"].zero_()
    assert start_at(made(MATRIX, bias=False), fit)


def test_a_branch_that_is_still_0_is_a_matrix() -> None:
    idle = build_head(KINDS["residual"], 5, 4)
    head, x = made(KINDS["gated"]), rows(dtype=torch.float32)
    assert start_at(head, idle)
    close(head(x), idle(x))


def test_heads_before_are_copied_too() -> None:
    first, x = made(MATRIX), rows(dtype=torch.float32)
    then = linear_head(torch.randn(3, 4), torch.randn(3), unit=True)
    both = chained(first, then)
    config = HeadConfig(kind="residual", unit=True, before=MATRIX, between=4)
    head = moved(build_head(config, 5, 3))
    assert start_at(head, both)
    close(head(x), both(x))
    learned = made(KINDS["residual"])
    assert learned.shared == 4
    kept = state(head)
    assert not start_at(head, chained(learned, then))
    assert all(torch.equal(kept[n], value) for n, value in head.state_dict().items())


# --- new heads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_a_matrix_as_a_head(bias: bool) -> None:
    weight, offset = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    dice = torch.get_rng_state()
    head = linear_head(weight, offset if bias else None, unit=True)
    assert torch.equal(torch.get_rng_state(), dice)
    torch.testing.assert_close(head(rows()), unit(rows()) @ weight.T + (offset if bias else 0.0))
    again = build_head(head.config, 5, 4).double()
    again.load_state_dict(head.state_dict())
    weight.zero_()
    assert torch.equal(again(rows()), head(rows()))  # it is no view of what was given


@pytest.mark.parametrize("name", KINDS)
def test_one_after_the_other(name: str) -> None:
    first = made(KINDS[name], torch.float64)
    then = linear_head(torch.randn(3, 4).double(), torch.randn(3).double(), unit=True)
    both = chained(first, then.eval())
    torch.testing.assert_close(both(rows()), then(first(rows())))
    again = build_head(both.config, 5, 3).double()
    again.load_state_dict(both.state_dict())
    assert torch.equal(again(rows()), both(rows())) and not both.training
    assert (both.width, both.shared) == (5, 3)


@pytest.mark.parametrize("extra", [{}, {"unit": True, "standardise": True, "bias": True}])
@pytest.mark.parametrize("name", KINDS)
def test_a_map_behind_any_head(name: str, extra: dict) -> None:
    head = made(KINDS[name], torch.float64, **extra)
    kept, dice = state(head), torch.get_rng_state()
    back = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    new = folded_behind(head, back)
    assert torch.equal(torch.get_rng_state(), dice)
    torch.testing.assert_close(new(rows()), head(rows()) @ back.T, rtol=1e-12, atol=1e-12)
    assert new.shared == 9 and all(linear.out_features == 9 for linear in outputs(new))
    again = build_head(new.config, 5, 9).double()
    again.load_state_dict(new.state_dict())
    assert torch.equal(again(rows()), new(rows()))
    for value in new.state_dict().values():
        value.zero_()
    assert all(torch.equal(kept[n], value) for n, value in head.state_dict().items())
