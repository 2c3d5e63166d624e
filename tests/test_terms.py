"""Unit length for every finite row, with the gradient of a direction."""

from __future__ import annotations

import pytest
import torch

from lift.terms import unit


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e15, 1.1e15, 1e19, 1e30, 8e37])
def test_rows_of_any_size_have_unit_length_and_their_direction(scale):
    h = torch.tensor([[3.0, -4.0], [0.0, 1.0], [4.0, 4.0]])
    expected = torch.tensor([[0.6, -0.8], [0.0, 1.0], [0.5**0.5, 0.5**0.5]])
    torch.testing.assert_close(unit(h * scale), expected)


def test_rows_of_usual_size_keep_their_bits():
    h = torch.randn(100, 7) * torch.logspace(-8, 15, 100)[:, None]
    h = h.clamp(-1e15, 1e15)
    assert torch.equal(unit(h), torch.nn.functional.normalize(h, dim=-1, eps=1e-12))


def test_zero_stays_zero_and_what_is_not_finite_is_not_hidden():
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert unit(torch.zeros(0, 3)).shape == (0, 3)
    odd = unit(torch.tensor([[torch.nan, 1.0], [torch.inf, 1.0], [3.0, 4.0]]))
    assert odd[:2].isnan().any(dim=1).all()
    torch.testing.assert_close(odd[2], torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_the_gradient_is_that_of_the_direction(scale):
    h = (torch.tensor([[3.0, -4.0, 1.0]]) * scale).requires_grad_()
    towards = torch.tensor([[0.2, 0.5, -0.3]])
    (unit(h) * towards).sum().mul(scale).backward()
    z = h.detach() / scale
    length = z.norm()
    z = z / length
    expected = (towards - (towards * z).sum() * z) / length
    torch.testing.assert_close(h.grad, expected)
