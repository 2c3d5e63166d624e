"""A side of any kind of head answers in the raw space once the transform is folded into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lift.heads import Head, HeadConfig, build_head
from lift.model import Side
from lift.terms import unit
from lift.text.conditioning import Condition, ConditionConfig, fit
from lift.training.folding import folded

RAW, INSIDE = 12, 5

HEADS = {
    "matrix": HeadConfig(layers=1),
    "residual": HeadConfig(kind="residual", dropout=0.2),
    "gated": HeadConfig(kind="gated", hidden=9),
    "standardised": HeadConfig(kind="residual", unit=True, standardise=True),
    "behind another": HeadConfig(layers=1, unit=True, before=HeadConfig(kind="gated"), between=7),
}


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width, self.resolution = 6, 4
        self.map = nn.Linear(48, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.map(images.flatten(1))


def condition() -> Condition:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, RAW)) * np.linspace(0.3, 3, RAW) + 1.0
    config = ConditionConfig(kind="whiten", dimensions=INSIDE)
    return fit(config, [rows.astype(np.float32)], RAW)


@pytest.mark.parametrize("name", HEADS)
def test_every_kind_is_folded_exactly(name: str) -> None:
    torch.manual_seed(0)
    head = build_head(HEADS[name], 6, INSIDE)
    for parameter in head.parameters():  # branches and biases too
        nn.init.normal_(parameter, std=0.3)
    if HEADS[name].standardise:
        head.mean.normal_(), head.spread.uniform_(0.5, 2.0)
    side, given = Side(Tower(), head).eval(), condition()
    kept = {n: value.clone() for n, value in side.state_dict().items()}
    dice = torch.get_rng_state()
    made, config = folded(side, HEADS[name], given)
    assert torch.equal(torch.get_rng_state(), dice) and made.tower is side.tower
    x = torch.randn(6, 3, 4, 4)
    expected = unit(side(x).double() @ given.fold().T).float()
    torch.testing.assert_close(made(x), expected, atol=3e-6, rtol=0)
    again = build_head(config, 6, RAW)
    assert isinstance(made.head, Head)
    again.load_state_dict(made.head.state_dict())
    torch.testing.assert_close(Side(made.tower, again).eval()(x), made(x), atol=0, rtol=0)
    assert all(torch.equal(kept[n], value) for n, value in side.state_dict().items())
