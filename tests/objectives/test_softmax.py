"""What only the softmax objective promises: CLIP's numbers, and a temperature that can be fixed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from lift.candidates import Candidates, Extra
from lift.errors import ConfigError
from lift.objectives import sigmoid, softmax
from lift.terms import unit


def test_paper_options_are_plain_infonce():
    z_image, z_text = unit(torch.randn(12, 16)), unit(torch.randn(12, 16))
    objective = softmax.build(softmax.Config(share_equal=False, ignore_above=None))
    logits = z_image @ z_text.T / 0.07
    target = torch.arange(12)
    plain = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    loss = objective(z_image, Candidates.alone(z_text))
    torch.testing.assert_close(loss, plain, rtol=1e-6, atol=0)
    half = softmax.build(softmax.Config(share_equal=False, direction="to_text"))
    loss = half(z_image, Candidates.alone(z_text))
    torch.testing.assert_close(loss, F.cross_entropy(logits, target), rtol=1e-6, atol=0)
    each = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(objective.by_image(z_image, Candidates.alone(z_text)), each)


def test_starts_at_temperature_007():
    objective = softmax.build(softmax.Config())
    assert objective.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert objective.scalars()["temperature"] == pytest.approx(0.07)


def test_constant_vectors_cost_ln_batch():
    z = unit(torch.ones(32, 8))
    loss = softmax.build(softmax.Config(share_equal=False))(z, Candidates.alone(z))
    assert loss.item() == pytest.approx(math.log(32), rel=1e-5)


def test_all_captions_equal_leaves_nothing_to_learn_apart():
    """With one text for all, every image is right for it: the target is uniform, the loss ln b."""
    z_text = unit(torch.ones(8, 4))
    texts = Candidates.alone(z_text, row=torch.zeros(8, dtype=torch.int64))
    loss = softmax.build(softmax.Config())(z_text, texts)
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)


def test_fixed_temperature_takes_no_gradient():
    objective = softmax.build(softmax.Config(learn_temperature=False))
    assert [p for p in objective.parameters() if p.requires_grad] == []
    z_image = unit(torch.randn(4, 8)).requires_grad_()
    objective(z_image, Candidates.alone(unit(torch.randn(4, 8)), row=torch.arange(4))).backward()
    assert objective.log_scale.grad is None and z_image.grad is not None


def test_image_without_caption_does_not_count():
    z_image, z_text = unit(torch.randn(3, 8)), unit(torch.randn(2, 8))
    objective = softmax.build(softmax.Config(share_equal=False))
    logits = z_image @ z_text.T / 0.07
    rows = F.cross_entropy(logits[:2], torch.arange(2))
    columns = F.cross_entropy(logits.T, torch.arange(2))
    loss = objective(z_image, Candidates.alone(z_text, torch.tensor([0, 1]), images=3))
    torch.testing.assert_close(loss, (rows + columns) / 2)


def test_soft_targets_go_by_the_text_alone():
    """With `soft` = 1 the target is the texts' own softmax: images like their texts are best."""
    z_text = unit(torch.randn(6, 8, dtype=torch.float64))
    options = {"init_temperature": 0.05, "soft": 1.0, "soft_temperature": 0.05}
    objective = softmax.build(softmax.Config(**options)).double()
    z_image = z_text.clone().requires_grad_()
    loss = objective(z_image, Candidates.alone(z_text, row=torch.arange(6)))
    logits = z_text @ z_text.T / 0.05
    torch.testing.assert_close(loss, F.cross_entropy(logits, logits.softmax(1)), rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(loss, z_image)
    assert slope.abs().max() < 1e-6


def test_soft_temperature_0_plus_is_the_hard_target():
    z_image, z_text = unit(torch.randn(6, 8)), unit(torch.randn(6, 8))
    texts = Candidates.alone(z_text, row=torch.arange(6))
    hard = softmax.build(softmax.Config())(z_image, texts)
    soft = softmax.build(softmax.Config(soft=0.7, soft_temperature=1e-3))(z_image, texts)
    torch.testing.assert_close(soft, hard)


def test_extra_texts_help_one_direction_only():
    """They change what images learn from texts; the text-to-image half stays."""
    z_image = unit(torch.randn(6, 8, dtype=torch.float64))
    texts = Candidates.alone(unit(torch.randn(6, 8, dtype=torch.float64)), row=torch.arange(6))
    rows = unit(torch.randn(5, 8, dtype=torch.float64))
    extra = Extra(torch.arange(50, 55), lambda start, stop: rows[start:stop])
    more = dataclasses.replace(texts, extra=extra)
    both = softmax.build(softmax.Config()).double()
    half = softmax.build(softmax.Config(direction="to_text")).double()
    to_image = 2 * both(z_image, texts) - half(z_image, texts)
    torch.testing.assert_close(2 * both(z_image, more) - half(z_image, more), to_image)
    assert half(z_image, more) > half(z_image, texts) + 0.1


@pytest.mark.parametrize("temperature", [0.0, 0.005, 1.5])
def test_temperature_outside_its_range_stops(temperature):
    with pytest.raises(ConfigError, match=r"init_temperature must lie in \[1/max_scale, 1\]"):
        softmax.build(softmax.Config(init_temperature=temperature))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"soft": 1.5}, r"share in \[0, 1\]"), ({"soft_temperature": 0.0}, "must be above 0")],
)
def test_impossible_soft_targets_stop(options, words):
    with pytest.raises(ConfigError, match=words):
        softmax.build(softmax.Config(**options))


def test_sigmoid_starts_at_siglips_numbers():
    objective = sigmoid.build(sigmoid.Config())
    assert objective.scalars() == {"scale": pytest.approx(10.0), "bias": -10.0}
    with pytest.raises(ConfigError, match="init_scale must lie in"):
        sigmoid.build(sigmoid.Config(init_scale=200.0))
