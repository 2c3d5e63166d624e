"""Heads against their formulas; what goes into them first; options that can't be."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lift.config import from_dict, to_dict
from lift.errors import ConfigError
from lift.heads import Head, HeadConfig, MLPHead, build_head, described
from lift.moved_heads import outputs
from lift.terms import unit

KINDS = {
    "matrix": HeadConfig(layers=1),
    "mlp": HeadConfig(layers=2),
    "deep": HeadConfig(layers=3, hidden=7),
    "residual": HeadConfig(kind="residual"),
    "deep residual": HeadConfig(kind="residual", layers=3, hidden=9, bias=False),
    "gated": HeadConfig(kind="gated", hidden=6),
}


def moved(head: Head, seed: int = 0) -> Head:
    """Return the head with numbers everywhere, biases and branches too."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.4)
    return head


def rows(count: int = 12, width: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    spread = torch.linspace(0.2, 9.0, width)
    return (torch.randn(count, width, generator=draw) * spread + 2.0).to(dtype)


def formula(head: Head, x: Tensor) -> Tensor:
    """Return what a kind says of rows that came in, from its state alone."""
    state = {name: value.detach() for name, value in head.state_dict().items()}

    def mlp(x: Tensor) -> Tensor:
        for n in range(head.config.layers):
            x = F.gelu(x) if n else x
            x = x @ state[f"layers.{2 * n}.weight"].T + state.get(f"layers.{2 * n}.bias", 0.0)
        return x

    if head.config.kind == "mlp":
        return mlp(x)
    mean, spread = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    normed = (x - mean) / (spread + 1e-6).sqrt()
    linear = x @ state["linear.weight"].T + state.get("linear.bias", 0.0)
    if head.config.kind == "residual":
        return linear + mlp(normed)
    a, b = (normed @ state[f"{n}.weight"].T + state[f"{n}.bias"] for n in ("gate", "value"))
    return linear + (a * torch.sigmoid(a) * b) @ state["back.weight"].T


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_its_formula(name: str) -> None:
    head = moved(build_head(KINDS[name], 5, 4)).double()
    found = head(rows())
    torch.testing.assert_close(found, formula(head, rows()), rtol=1e-12, atol=1e-12)
    assert found.shape == (12, 4)


@pytest.mark.parametrize("name", ["residual", "deep residual", "gated"])
def test_branches_start_at_nothing_and_learn(name: str) -> None:
    torch.manual_seed(0)
    head = build_head(KINDS[name], 5, 4)
    first = outputs(head)[0]
    x = rows(dtype=torch.float32)
    torch.testing.assert_close(head(x), first(x), rtol=0, atol=0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(2):  # the last matrix of a branch first, then those before it
        optimizer.zero_grad()
        head(x).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_an_mlp_is_named_and_drawn_as_before() -> None:
    torch.manual_seed(0)
    head = build_head(HeadConfig(layers=2, dropout=0.1), 5, 4)
    assert [*head.state_dict()] == [f"layers.{n}.{k}" for n in (0, 3) for k in ("weight", "bias")]
    torch.manual_seed(0)
    drawn = []
    for wide_in, wide_out in ((5, 4), (4, 4)):
        layer = torch.nn.Linear(wide_in, wide_out)
        drawn.append(torch.nn.init.normal_(layer.weight, std=wide_in**-0.5))
    assert torch.equal(head.state_dict()["layers.0.weight"], drawn[0])
    assert torch.equal(head.state_dict()["layers.3.weight"], drawn[1])


def test_hidden_widths() -> None:
    assert HeadConfig().hidden_width(768, 4096) == 4096
    assert HeadConfig(kind="residual").hidden_width(384, 99) == 1536
    assert HeadConfig(kind="gated").hidden_width(2048, 99) == 4096
    assert HeadConfig(kind="gated", hidden=7).hidden_width(2048, 99) == 7
    assert build_head(HeadConfig(kind="gated"), 6, 3).state_dict()["gate.weight"].shape == (24, 6)


@pytest.mark.parametrize("name", KINDS)
def test_dropout_is_for_training_only(name: str) -> None:
    config = from_dict(HeadConfig, {**to_dict(KINDS[name]), "dropout": 0.5, "hidden": 64})
    head, x = moved(build_head(config, 5, 4)), rows(dtype=torch.float32)
    assert torch.equal(head(x), head(x)) == (name == "matrix")
    plain = build_head(from_dict(HeadConfig, {**to_dict(config), "dropout": 0.0}), 5, 4)
    for mine, theirs in zip(plain.parameters(), head.parameters(), strict=True):
        mine.data = theirs.data
    torch.testing.assert_close(head.eval()(x), plain(x))


# --- before the first matrix --------------------------------------------------------------------


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("name", ["mlp", "gated"])
def test_unit_length_then_mean_and_spread(name: str, standardise: bool) -> None:
    options = {**to_dict(KINDS[name]), "unit": True, "standardise": standardise}
    head = moved(build_head(from_dict(HeadConfig, options), 5, 4)).double()
    x = unit(rows())
    if standardise:
        head.mean.copy_(x.mean(0))
        head.spread.copy_(x.std(0))
        x = (x - x.mean(0)) / x.std(0)
        assert {"mean", "spread"} <= head.state_dict().keys()
    torch.testing.assert_close(head(rows()), formula(head, x))
    if not standardise:
        torch.testing.assert_close(head(7 * rows()), head(rows()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("unit_first", [False, True])
@pytest.mark.parametrize("name", ["matrix", "mlp", "residual", "gated"])
def test_standardising_changes_no_function(name: str, unit_first: bool, dtype: torch.dtype) -> None:
    options = {**to_dict(KINDS[name]), "unit": unit_first, "standardise": True}
    torch.manual_seed(1)
    head = build_head(from_dict(HeadConfig, options), 5, 4).to(dtype)
    x = rows(200, dtype=dtype)
    before = head(x).detach()
    seen = unit(x) if unit_first else x
    for scale in (1.0, 3.0):  # also a second time
        head.standardise_by(seen.mean(0), scale * seen.std(0))
        found = head(x).detach()
        allowed = 1e-6 if dtype == torch.float32 else 1e-14
        assert (found - before).abs().max() <= allowed * before.abs().max()
    inside = head.incoming(x)
    torch.testing.assert_close(inside.mean(0), torch.zeros(5, dtype=dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(0), torch.ones(5, dtype=dtype) / 3, atol=1e-5, rtol=0)
    again = build_head(from_dict(HeadConfig, options), 5, 4).to(dtype)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(x), found)


@pytest.mark.parametrize(
    ("mean", "spread", "sentence"),
    [
        (torch.zeros(4), torch.ones(4), "mean to standardise by has 4 numbers, the rows .* have 5"),
        (torch.zeros(5), torch.tensor([1.0, 1, 0, 1, 1]), "spreads above 0"),
        (torch.full((5,), torch.nan), torch.ones(5), "finite means"),
    ],
)
def test_what_rows_can_not_be_standardised_by(mean: Tensor, spread: Tensor, sentence: str) -> None:
    head = build_head(HeadConfig(layers=1, standardise=True), 5, 4)
    kept = {name: value.clone() for name, value in head.state_dict().items()}
    with pytest.raises(ConfigError, match=sentence):
        head.standardise_by(mean, spread)
    assert all(torch.equal(kept[name], value) for name, value in head.state_dict().items())


def test_heads_that_can_not_be_standardised_any_more() -> None:
    with pytest.raises(ConfigError, match=r"set head\.standardise=true"):
        build_head(HeadConfig(layers=1), 5, 4).standardise_by(torch.zeros(5), torch.ones(5))
    learned = moved(build_head(HeadConfig(kind="gated", standardise=True), 5, 4))
    with pytest.raises(ConfigError, match="has learned from rows as they were"):
        learned.standardise_by(torch.zeros(5), torch.ones(5))


def test_a_head_behind_a_head() -> None:
    config = HeadConfig(
        kind="residual", unit=True, before=HeadConfig(layers=1, bias=False), between=7
    )
    head = moved(build_head(config, 5, 4)).double()
    first = head.state_dict()["before.layers.0.weight"]
    assert first.shape == (7, 5) and head.state_dict()["linear.weight"].shape == (4, 7)
    assert head.state_dict()["layers.0.weight"].shape == (28, 7)  # 4 times what comes in
    torch.testing.assert_close(head(rows()), formula(head, unit(rows() @ first.T)))
    again = from_dict(HeadConfig, json.loads(json.dumps(to_dict(config))))
    assert again == config


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_around_a_head(name: str) -> None:
    options = {**to_dict(KINDS[name]), "unit": True, "standardise": True, "bias": True}
    head = moved(build_head(from_dict(HeadConfig, options), 5, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(rows(dtype=torch.bfloat16))
    exact = head(rows(dtype=torch.float32))
    assert (found - exact).abs().max() < 0.05 * exact.abs().max()


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "residual", "layers": 1}, "a branch of 2 layers or more, not 1"),
        ({"kind": "residual", "layers": 0}, "a branch of 2 layers or more, not 0"),
        ({"kind": "gated", "layers": 3}, "head.kind=gated has layers=2, not 3"),
        ({"layers": 0, "unit": True}, "head.layers=0 is no head"),
        ({"layers": 0, "standardise": True}, "head.layers=0 is no head"),
        ({"standardise": True, "bias": False}, "set head.bias=true"),
        ({"before": HeadConfig()}, "head.before and head.between come together"),
        ({"between": 5}, "head.before and head.between come together"),
        ({"before": HeadConfig(layers=0), "between": 5}, "head.before has no layer"),
        ({"before": HeadConfig(), "between": 0}, "head.between must be at least 1, not 0"),
        ({"layers": -1}, "head.layers must be 0 or more, not -1"),
        ({"hidden": 0}, "head.hidden must be at least 1, not 0"),
        ({"dropout": 1.0}, "head.dropout must lie in"),
    ],
)
def test_impossible_options_stop(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        HeadConfig(**options)


def test_unknown_kinds_stop() -> None:
    with pytest.raises(ConfigError, match=r"Unknown value of head\.kind: 'star'.*gated"):
        from_dict(HeadConfig, {"kind": "star"}, "head")


def test_what_was_hashed_before_there_were_kinds_keeps_its_hash() -> None:
    old = {"layers": 1, "hidden": None, "bias": False, "dropout": 0.0}
    assert json.dumps(described(HeadConfig(layers=1, bias=False))) == json.dumps(old)
    assert described(HeadConfig(kind="gated"))["kind"] == "gated"
    assert described(HeadConfig(unit=True))["unit"] is True


def test_a_head_of_one_kind_knows_its_outputs() -> None:
    for config in KINDS.values():
        head = build_head(config, 5, 4)
        assert all(linear.out_features == 4 for linear in outputs(head))
        assert len(outputs(head)) == (1 if isinstance(head, MLPHead) else 2)
