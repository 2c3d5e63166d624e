"""What only the softmax objective promises: CLIP's numbers and a temperature that can be fixed."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from lift.errors import ConfigError
from lift.objectives import sigmoid, softmax
from lift.terms import unit


def test_paper_options_are_plain_infonce():
    z_image, z_text = unit(torch.randn(12, 16)), unit(torch.randn(12, 16))
    objective = softmax.build(softmax.Config(share_equal=False, ignore_above=None))
    logits = z_image @ z_text.T / 0.07
    target = torch.arange(12)
    plain = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(objective(z_image, z_text), plain, rtol=1e-6, atol=0)


def test_starts_at_temperature_007():
    objective = softmax.build(softmax.Config())
    assert objective.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert objective.scalars()["temperature"] == pytest.approx(0.07)


def test_constant_vectors_cost_ln_batch():
    z = unit(torch.ones(32, 8))
    loss = softmax.build(softmax.Config(share_equal=False))(z, z)
    assert loss.item() == pytest.approx(math.log(32), rel=1e-5)


def test_all_captions_equal_leaves_nothing_to_learn_apart():
    """With one text for all, every image is right for it: the target is uniform, the loss ln b."""
    z_text = unit(torch.ones(8, 4))
    objective = softmax.build(softmax.Config())
    loss = objective(z_text, z_text, None, torch.zeros(8, dtype=torch.int64))
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)


def test_fixed_temperature_takes_no_gradient():
    objective = softmax.build(softmax.Config(learn_temperature=False))
    assert [p for p in objective.parameters() if p.requires_grad] == []


def test_image_without_caption_does_not_count():
    z_image, z_text = unit(torch.randn(3, 8)), unit(torch.randn(2, 8))
    objective = softmax.build(softmax.Config(share_equal=False))
    logits = z_image @ z_text.T / 0.07
    rows = F.cross_entropy(logits[:2], torch.arange(2))
    columns = F.cross_entropy(logits.T, torch.arange(2))
    loss = objective(z_image, z_text, torch.tensor([0, 1]))
    torch.testing.assert_close(loss, (rows + columns) / 2)


@pytest.mark.parametrize("temperature", [0.0, 0.005, 1.5])
def test_temperature_outside_its_range_stops(temperature):
    with pytest.raises(ConfigError, match=r"init_temperature must lie in \[1/max_scale, 1\]"):
        softmax.build(softmax.Config(init_temperature=temperature))


def test_sigmoid_starts_at_siglips_numbers():
    objective = sigmoid.build(sigmoid.Config())
    assert objective.scalars() == {"scale": pytest.approx(10.0), "bias": -10.0}
    with pytest.raises(ConfigError, match="init_scale must lie in"):
        sigmoid.build(sigmoid.Config(init_scale=200.0))
