"""A score with gradients: the model's own cosines, finite differences, something to climb."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lift.bundle import Bundle
from lift.data.transform import Transform
from lift.errors import ConfigError
from lift.merging import Calibration
from lift.scoring import Scorer, similarity
from lift.scoring.resizing import prepared
from made_model import made

TEXTS = ["a cat", "two red dogs", "a bench in the rain"]


@pytest.fixture(scope="module")
def model() -> Bundle:
    return made(canvas=None)


def pictures(height: int, width: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def floats(images: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype) / 255


def test_at_its_own_size_a_score_is_the_models_cosine(model: Bundle) -> None:
    images = pictures(32, 32)
    scorer = Scorer(model, batch_size=2)
    cosines = model.similarity(images, TEXTS)
    every = scorer.score(floats(images), TEXTS, pairs=False)
    assert np.abs(every.numpy() - cosines).max() < 1e-5
    own = scorer.score(floats(images), TEXTS)
    assert np.abs(own.numpy() - np.diag(cosines)).max() < 1e-5
    one = scorer.score(floats(images), TEXTS[1])
    assert np.abs(one.numpy() - cosines[:, 1]).max() < 1e-5
    z_text = torch.from_numpy(3 * model.encode_texts(TEXTS))
    assert torch.allclose(scorer.score(floats(images), z_text), own, atol=1e-6)
    assert scorer.score(floats(images)[:0], TEXTS, pairs=False).shape == (0, 3)


@pytest.mark.parametrize(
    "options",
    [{}, {"canvas": 40}, {"resize": "squash"}, {"interpolation": "bilinear", "canvas": 56}],
)
@pytest.mark.parametrize("size", [(32, 32), (50, 97), (13, 20)])
def test_pixels_are_prepared_as_the_model_does(options: dict, size: tuple[int, int]) -> None:
    transform = Transform(resolution=32, **options)
    images = pictures(*size, count=2)
    exact = transform.normalise(torch.stack([transform.evaluate(image) for image in images]))
    levels = 255 * torch.tensor(transform.std).view(1, 3, 1, 1)
    off = (prepared(transform, floats(images)) - exact).mul(levels).abs()
    assert off.max() < 2.1 and off.mean() < 0.45  # whole numbers are rounded in each resize
    rounded = (prepared(transform, floats(images), rounded=True) - exact).mul(levels).abs()
    assert rounded.max() < 2.1 and (rounded > 0.5).float().mean() < 0.15


def test_gradients_are_those_of_finite_differences(model: Bundle) -> None:
    scorer = Scorer(model, precision="float64", batch_size=1)
    pixels = floats(pictures(6, 9, count=2), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: scorer.score(x, TEXTS[:2], reference=TEXTS), pixels, fast_mode=True
    )
    z = torch.randn(2, 24, dtype=torch.float64, requires_grad=True)
    z_text = torch.randn(3, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: similarity(a, b, False), (z, z_text))


def test_the_model_stays_as_it_is(model: Bundle) -> None:
    images = pictures(32, 32)
    model.side.train()
    before = [p.clone() for p in model.side.parameters()]
    scorer = Scorer(model)
    pixels = floats(images).requires_grad_()
    scorer.score(pixels, TEXTS).sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    assert model.side.training and all(p.grad is None for p in model.side.parameters())
    assert all(p.requires_grad for p in model.side.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.side.parameters(), strict=True))
    # The weights are the same memory: nothing is held twice.
    own = {p.data_ptr() for p in scorer._side.parameters()}
    assert own == {p.data_ptr() for p in model.side.parameters()}
    model.side.eval()


def test_batches_computed_again_give_the_same_gradient(model: Bundle) -> None:
    found = []
    for options in ({}, {"recompute": True, "batch_size": 1}):
        pixels = floats(pictures(20, 20)).requires_grad_()
        Scorer(model, **options).score(pixels, TEXTS).sum().backward()
        assert pixels.grad is not None
        found.append(pixels.grad)
    assert torch.allclose(*found, atol=1e-6)


def test_a_score_can_be_climbed_and_the_file_shows_it(model: Bundle) -> None:
    scorer = Scorer(model, rounded=True)
    text = model.encode_texts(["two red dogs"])
    pixels = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    z = torch.from_numpy(text)
    start = float(scorer.score(pixels, z).detach()[0])
    for _ in range(20):
        (gradient,) = torch.autograd.grad(scorer.score(pixels, z).sum(), pixels)
        with torch.no_grad():
            pixels += 0.05 * gradient.sign()
            pixels.clamp_(0, 1)
    saved = (pixels.detach()[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    assert float((model.encode_images(saved) @ text.T)[0, 0]) > start + 0.2


def test_a_reward_is_a_plain_number_an_image(model: Bundle) -> None:
    pixels = floats(pictures(32, 32)).requires_grad_()
    scorer = Scorer(model)
    found = scorer.reward(pixels, TEXTS)
    assert found.dtype == torch.float32 and not found.requires_grad and found.shape == (3,)
    assert torch.equal(found, scorer.score(pixels, TEXTS).detach())


def test_a_score_beside_a_reference_is_in_its_deviations(model: Bundle) -> None:
    scorer = Scorer(model)
    pixels = floats(pictures(32, 32))
    reference = [f"a thing of the sort {n}" for n in "abcde"]
    cosines = scorer.score(pixels, [*TEXTS, *reference], pairs=False).numpy()
    others = cosines[:, 3:]
    expected = (cosines[:, :3] - others.mean(1)[:, None]) / others.std(1, ddof=1)[:, None]
    found = scorer.reward(pixels, TEXTS, pairs=False, reference=reference)
    assert np.abs(found.numpy() - expected).max() < 1e-3
    assert torch.allclose(scorer.reward(pixels, TEXTS, reference=reference), found.diag())


def test_a_calibration_makes_log_odds(model: Bundle) -> None:
    scorer = Scorer(model)
    pixels = floats(pictures(32, 32))
    found = scorer.score(pixels, TEXTS, calibration=Calibration(20.0, -3.0))
    assert torch.allclose(found, 20 * scorer.score(pixels, TEXTS) - 3, atol=1e-5)


def test_bfloat16_stays_near(model: Bundle) -> None:
    pixels = floats(pictures(32, 32))
    exact = Scorer(model).score(pixels, TEXTS)
    assert (Scorer(model, precision="bfloat16").score(pixels, TEXTS) - exact).abs().max() < 0.05


def test_what_is_no_score_is_refused(model: Bundle) -> None:
    scorer = Scorer(model)
    pixels = floats(pictures(32, 32))
    for wrong in (pixels[0], pixels[:, :1], (pixels * 255).to(torch.uint8)):
        with pytest.raises(ConfigError, match="floats from 0 to 1"):
            scorer.z_images(wrong)
    with pytest.raises(ConfigError, match="show none"):
        scorer.z_images(pixels[..., :0])
    with pytest.raises(ConfigError, match="2 texts don't pair with 3 images"):
        scorer.score(pixels, TEXTS[:2])
    with pytest.raises(ConfigError, match="n x 24"):
        scorer.score(pixels, torch.zeros(3, 7))
    with pytest.raises(ConfigError, match="two texts or more"):
        scorer.score(pixels, TEXTS, reference="one")
    with pytest.raises(ConfigError, match="not by both"):
        scorer.score(pixels, TEXTS, reference=TEXTS, calibration=Calibration(1.0, 0.0))
    with pytest.raises(ConfigError, match="batch_size"):
        Scorer(model, batch_size=0)
