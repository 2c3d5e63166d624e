"""Cosines of images with texts come near to those of texts with texts, and what that costs."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lift import plugins
from lift.candidates import Candidates
from lift.config import part
from lift.errors import ConfigError
from lift.objectives import compatible
from lift.terms import unit
from objectives.naive import agreement, step


def make(**options):
    if "of" in options:
        options["of"] = part("objectives", options["of"])
    return plugins.build(part("objectives", "compatible", **options)).double()


def scenes(images: int = 24, captions: int = 3, width: int = 16, noise: float = 0.4):
    """Return the texts of a step: captions of an image are near each other, all share a mean."""
    torch.manual_seed(0)
    said = torch.randn(images, width, dtype=torch.float64)
    owner = torch.arange(images).repeat_interleave(captions)
    own = said[owner] + noise * torch.randn(len(owner), width, dtype=torch.float64)
    return Candidates.alone(unit(own + 0.5), owner, torch.arange(len(owner)), images=images)


def trained(objective, texts, steps: int = 300) -> torch.Tensor:
    """Return image vectors that are free to go where the objective pulls them."""
    torch.manual_seed(1)
    h = torch.randn(texts.images, texts.z.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([h], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.requires_grad_(False)(unit(h), texts).backward()
        optimizer.step()
    return unit(h).detach()


def gaps(z_image, texts) -> tuple[float, float]:
    """Return how far image-text cosines are from text-text ones: of own captions, of others."""
    cosines, own = z_image @ texts.z.T, texts.owner == torch.arange(texts.images)[:, None]
    share = own.double() / own.sum(1, keepdim=True)
    between = share @ texts.z @ texts.z.T
    right = float((cosines[own] - agreement(texts)).abs().mean())
    return right, float((cosines - between)[~own].square().mean().sqrt())


def test_images_stand_where_their_captions_stand() -> None:
    texts = scenes()
    alone = plugins.build(part("objectives", "softmax")).double()
    before = gaps(trained(alone, texts), texts)
    both = gaps(trained(make(weight=30.0), texts), texts)
    assert before[0] > 0.1 and before[1] > 0.18
    assert both[0] < before[0] / 3 and both[1] < before[1] / 3


@pytest.mark.parametrize("term", ["positives", "everyone"])
def test_each_term_does_its_own_part(term: str) -> None:
    texts = scenes()
    alone = gaps(trained(plugins.build(part("objectives", "softmax")).double(), texts), texts)
    options = {"positives": False, "everyone": False, term: True}
    found = gaps(trained(make(weight=30.0, **options), texts), texts)
    number = 0 if term == "positives" else 1
    assert found[number] < alone[number] / 2


def test_the_target_is_how_captions_of_one_image_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = step(images=9, more=14)[1]
    ones = torch.ones(len(texts.z), dtype=torch.float64)
    found = compatible._agreement(texts, texts.z, ones)
    torch.testing.assert_close(found, agreement(texts), rtol=1e-12, atol=0)
    monkeypatch.setattr(compatible, "_ROWS", 2)  # images in many pieces
    again = compatible._agreement(texts, texts.z, ones)
    torch.testing.assert_close(again, found, rtol=1e-12, atol=0)
    assert found < 0.99


def test_the_target_where_no_image_has_several_captions() -> None:
    texts = Candidates.alone(unit(torch.randn(5, 8, dtype=torch.float64)), row=torch.arange(5))
    z_image = unit(torch.randn(5, 8, dtype=torch.float64))
    only = {"of": "cosine", "everyone": False}
    far = make(**only)(z_image, texts) - make(of="cosine", everyone=False, target=1.0)(
        z_image, texts
    )
    assert far == 0
    twice = torch.arange(5).repeat_interleave(2)  # the same caption twice is not several
    same = Candidates.alone(texts.z[twice], twice, twice, images=5)
    torch.testing.assert_close(make(**only)(z_image, same), make(**only)(z_image, texts))


def test_a_perfect_index_costs_nothing() -> None:
    """One caption an image, and the image right on it."""
    texts = Candidates.alone(unit(torch.randn(6, 8, dtype=torch.float64)), row=torch.arange(6))
    z_image = texts.z.clone().requires_grad_()
    beside = make(of="cosine", weight=1000.0)(z_image, texts)
    assert beside.item() == pytest.approx(0, abs=1e-12)


def test_rows_need_not_be_known_where_the_inner_objective_needs_none() -> None:
    texts = scenes(6)
    blind = dataclasses.replace(texts, row=None)
    z_image = unit(torch.randn(6, 16, dtype=torch.float64))
    objective = make(of="cosine")
    torch.testing.assert_close(objective(z_image, blind), objective(z_image, texts))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight": 0.0}, "compatible.weight must be above 0, not 0.0"),
        ({"weight": -1.0}, "compatible.weight must be above 0"),
        ({"positives": False, "everyone": False}, "both are off"),
        ({"target": 1.5}, "compatible.target is a cosine in .-1, 1., not 1.5"),
        ({"of": "compatible"}, "compatible.of=compatible is not an objective that ranks"),
    ],
)
def test_impossible_options_stop(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(**options)
