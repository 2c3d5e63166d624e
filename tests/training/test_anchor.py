"""Both terms of an anchor against loops in float64; parts that add up.

That ranks agree is shown with objectives, by real processes: `tests/objectives/test_ranks.py`.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from lift.config import from_dict
from lift.errors import ConfigError
from lift.heads import HeadConfig, build_head
from lift.model import Side
from lift.ranks import ALONE
from lift.terms import unit
from lift.training import anchor
from lift.training.anchor import AnchorConfig, References, Start, anchor_loss

BOTH = AnchorConfig(instance=0.7, structure=1.3, temperature=0.2)
CONFIGS = {
    "both": BOTH,
    "instance": AnchorConfig(instance=2.0),
    "structure": AnchorConfig(structure=2.0, temperature=0.05),
}


def vectors(count: int = 9, width: int = 6, dtype: torch.dtype = torch.float64):
    """Return images' vectors, references of any length near them, and which are known."""
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(count, width, generator=draw, dtype=torch.float64)
    r = 3 * (a + 0.5 * torch.randn(count, width, generator=draw, dtype=torch.float64))
    known = torch.ones(count, dtype=torch.bool)
    known[2] = known[count - 1] = False
    r[~known] = math.nan  # nobody reads them
    return a.to(dtype), r.to(dtype), known


def reference(a: Tensor, r: Tensor, known: Tensor, config: AnchorConfig) -> Tensor:
    """Return the loss of the whole step, by loops."""
    places = [i for i in range(len(a)) if known[i]]
    one = {i: a[i] / a[i].norm() for i in places}
    fixed = {i: r[i] / r[i].norm() for i in places}
    total = torch.zeros((), dtype=torch.float64)
    for i in places:
        total = total + config.instance * (1 - one[i] @ fixed[i])
        others = [j for j in places if j != i]
        if not others:
            continue
        goal = torch.stack([fixed[i] @ fixed[j] / config.temperature for j in others])
        found = torch.stack([one[i] @ fixed[j] / config.temperature for j in others])
        p, log_p, log_q = goal.softmax(0), goal.log_softmax(0), found.log_softmax(0)
        total = total + config.structure * sum(
            p[n] * (log_p[n] - log_q[n]) for n in range(len(others))
        )
    return total / max(len(places), 1)


def slope(loss: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(loss, leaf)[0]


@pytest.fixture(params=[None, 20], ids=["one piece", "many pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(anchor, "_CELLS", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("all_known", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_value_and_gradient_equal_the_loops(name: str, all_known: bool) -> None:
    a, r, known = vectors()
    if all_known:
        r, known = torch.nan_to_num(r, nan=0.3), torch.ones_like(known)
    a.requires_grad_()
    config = CONFIGS[name]
    expected = reference(a, r, known, config)
    references = References.gather(r, None if all_known else known, ALONE, config)
    found = anchor_loss(a, references, config)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    ours = slope(found * 3, a)
    torch.testing.assert_close(ours, 3 * slope(expected, a), rtol=1e-10, atol=1e-12)
    assert ours[known].abs().max() > 1e-3 and not ours[~known].any()


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_add_up(name: str) -> None:
    a, r, known = vectors()
    a.requires_grad_()
    whole = References.gather(r, known, ALONE, CONFIGS[name])
    loss = anchor_loss(a, whole, CONFIGS[name])
    parts, start = [], 0
    for size in (4, 0, 5):
        here = whole.after(start)
        parts.append(anchor_loss(a[start : start + size], here, CONFIGS[name]))
        start += size
    assert parts[1] == 0
    torch.testing.assert_close(sum(parts), loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(slope(sum(parts), a), slope(loss, a), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_and_whatever_is_set_outside(name: str) -> None:
    a, r, known = vectors(width=64)
    exact = reference(a, r, known, CONFIGS[name])
    a, r, _ = vectors(width=64, dtype=torch.float32)
    a.requires_grad_()
    references = References.gather(r, known, ALONE, CONFIGS[name])
    found = anchor_loss(a, references, CONFIGS[name])
    assert found.dtype == torch.float32 and found.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = anchor_loss(a, references, CONFIGS[name])
    assert torch.equal(again, found) and torch.equal(slope(again, a), slope(found, a))


def test_nothing_pulls_at_the_start() -> None:
    _, r, known = vectors(dtype=torch.float32)
    a = torch.nan_to_num(r, nan=0.3).requires_grad_()
    loss = anchor_loss(a, References.gather(r, known, ALONE, BOTH), BOTH)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert slope(loss, a).abs().max() < 1e-6
    only = dataclasses.replace(BOTH, instance=0.0)
    loss = anchor_loss(a, References.gather(r, known, ALONE, only), only)
    assert loss.item() == 0 and not slope(loss, a).any()


@pytest.mark.parametrize("how_many", [0, 1])
def test_steps_with_hardly_a_reference(how_many: int) -> None:
    a, r, known = vectors()
    known = torch.zeros_like(known)
    known[:how_many] = True
    a.requires_grad_()
    loss = anchor_loss(a, References.gather(r, known, ALONE, BOTH), BOTH)
    torch.testing.assert_close(loss, reference(a, r, known, BOTH))
    assert torch.isfinite(slope(loss, a)).all()
    none = anchor_loss(a[:0], References.gather(r[:0], None, ALONE, BOTH), BOTH)
    assert none == 0 and slope(none, a).shape == a.shape


def test_structure_knows_what_a_common_turn_keeps() -> None:
    """Only the instance term minds if images come nearer to one reference, all alike."""
    a, r, _ = vectors()
    r = torch.nan_to_num(r, nan=0.3)
    instance, structure = CONFIGS["instance"], CONFIGS["structure"]
    near = unit(r) + 1e-3 * a
    for config in (instance, structure):
        references = References.gather(r, None, ALONE, config)
        assert anchor_loss(near, references, config) < anchor_loss(a, references, config) / 10
    mixed = r.roll(1, 0)
    assert anchor_loss(mixed, References.gather(r, None, ALONE, structure), structure) > 0.5


def test_no_gradient_goes_into_references() -> None:
    a, r, _ = vectors()
    r = torch.nan_to_num(r, nan=0.3).requires_grad_()
    a.requires_grad_()
    anchor_loss(a, References.gather(r, None, ALONE, BOTH), BOTH).backward()
    assert r.grad is None and a.grad is not None
    with torch.no_grad():
        assert not anchor_loss(a, References.gather(r, None, ALONE, BOTH), BOTH).requires_grad


def test_other_widths_stop() -> None:
    a, _, _ = vectors()
    references = References.gather(vectors(width=8)[1][:2], None, ALONE, BOTH)
    with pytest.raises(
        ConfigError, match=r"have 8 numbers, what the tower gives has 6.*anchor\.of"
    ):
        anchor_loss(a[:2], references, BOTH)


# --- the start -----------------------------------------------------------------------------------


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width, self.resolution = 6, 4
        self.map, self.drop = nn.Linear(48, 6), nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.map(images.flatten(1)))


@pytest.mark.parametrize("of", ["tower", "vector"])
def test_the_start_stays_where_it_was(of: str) -> None:
    side = Side(Tower(), build_head(HeadConfig(layers=1), 6, 5)).train()
    config = from_dict(AnchorConfig, {"instance": 1.0, "of": of})
    images = torch.randn(4, 3, 4, 4)
    start = Start(side, config)
    was = side.eval()(images) if of == "vector" else unit(side.eval().features(images))
    with torch.no_grad():
        for parameter in side.train().parameters():
            parameter.add_(1.0)
    found = start.rows(images)
    assert torch.equal(found, was.detach()) and not found.requires_grad
    assert all(parameter.requires_grad for parameter in side.parameters()) and side.training


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instance": -1.0}, "anchor.instance is a weight of 0 or more, not -1.0"),
        ({"structure": -0.5}, "anchor.structure is a weight of 0 or more"),
        ({"temperature": 0.0}, "anchor.temperature must be above 0"),
        ({"of": "head"}, "Unknown value of anchor.of: 'head'"),
        ({"cache": "teacher"}, "anchor.cache=teacher pulls nothing"),
    ],
)
def test_impossible_options_stop(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        from_dict(AnchorConfig, options, "anchor")


def test_what_pulls() -> None:
    assert not AnchorConfig().pulls
    assert AnchorConfig(instance=0.1).pulls and AnchorConfig(structure=0.1).pulls
