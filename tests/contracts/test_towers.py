"""Every file in towers/ keeps the promises of `lift.terms.Tower`."""

from __future__ import annotations

import io

import pytest
import torch

from lift import plugins
from lift.config import part

TINY = {"width": 32, "depth": 2, "heads": 2, "patch": 8, "resolution": 16}
CLIP = {"class_token": True, "pre_norm": True, "patch_bias": False}

# Small shapes by file; a file that is not named here is tested with its defaults.
SMALL = {
    "vit": [
        TINY,
        TINY | CLIP,
        TINY | CLIP | {"pooling": "token", "activation": "quick_gelu"},
        TINY | {"pooling": "attention", "activation": "gelu_tanh"},
        TINY | CLIP | {"pooling": "attention"},
    ]
}
CASES = [(name, options) for name in plugins.names("towers") for options in SMALL.get(name, [{}])]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def tower(request):
    name, options = request.param
    return plugins.build(part("towers", name, **options))


def images(tower, count=3):
    return torch.randn(count, 3, tower.resolution, tower.resolution)


def test_one_vector_an_image(tower):
    h = tower(images(tower))
    assert h.shape == (3, tower.width) and h.dtype == torch.float32


def test_an_image_ignores_its_neighbours(tower):
    tower.eval()
    batch = images(tower)
    other = batch.clone()
    other[1:] = torch.randn_like(other[1:]) * 100
    torch.testing.assert_close(tower(batch)[0], tower(other)[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(tower(batch)[:1], tower(batch[:1]), rtol=0, atol=1e-6)


def test_images_are_told_apart(tower):
    h = tower.eval()(images(tower))
    assert (h[0] - h[1]).abs().max() > 1e-3


def test_state_survives_a_file(tower):
    file = io.BytesIO()
    torch.save(tower.state_dict(), file)
    file.seek(0)
    twin = type(tower)(tower.config)
    batch = images(tower)
    assert not torch.equal(twin.eval()(batch), tower.eval()(batch))
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(batch), tower(batch))


def test_every_parameter_gets_gradient(tower):
    h = tower.train()(images(tower))
    (h * torch.randn_like(h)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        # By rows of the first axis: a fused matrix must not hide a part that gets none.
        if parameter.ndim > 1:
            assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), name
        else:
            assert parameter.grad.abs().max() > 0, name


def test_weights_follow_the_seed(tower):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in type(tower)(tower.config).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_deterministic_in_eval(tower):
    tower.eval()
    batch = images(tower)
    before = torch.get_rng_state()
    assert torch.equal(tower(batch), tower(batch))
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_autocast_is_finite_and_close(tower):
    batch = images(tower)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = tower.train()(batch)
    h.float().square().mean().backward()
    assert h.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())
    cosine = torch.cosine_similarity(h.float(), tower.eval()(batch))
    assert cosine.min() > 0.99
