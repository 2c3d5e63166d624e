"""Every file in towers/ keeps the promises of `lift.terms.Tower`."""

from __future__ import annotations

import copy
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from lift import plugins
from lift.config import Part, from_dict, part, to_dict
from lift.data.transform import Transform
from lift.errors import MissingPackage

TINY = {"width": 32, "depth": 2, "heads": 2, "patch": 8, "resolution": 16}
CLIP = {"class_token": True, "pre_norm": True, "patch_bias": False}
FIXTURES = Path(__file__).parents[1] / "fixtures"

# Small shapes by file; a file that is not named here is tested with its defaults. "of" is a kind
# of `tower_folders`, written to a folder and given as the model.
SMALL = {
    "vit": [
        TINY,
        TINY | CLIP,
        TINY | CLIP | {"pooling": "token", "activation": "quick_gelu"},
        TINY | {"pooling": "attention", "activation": "gelu_tanh"},
        TINY | CLIP | {"pooling": "attention"},
    ],
    "huggingface": [
        {"of": "vit"},
        {"of": "vit", "pooling": "token+mean", "layer": -2},
        {"of": "dinov2", "pooling": "token+mean"},
        {"of": "dinov2_registers", "pooling": "mean", "norm": False},
        {"of": "dinov3", "pooling": "token+mean"},
        {"of": "siglip_vision", "pooling": "attention"},
        {"of": "siglip", "pooling": "projected", "checkpoint_activations": True},
        {"of": "siglip2_vision"},
        {"of": "clip_vision", "pooling": "token"},
        {"of": "clip", "pooling": "projected", "layer": 2},
        {"of": "clip", "resolution": 24, "pooling": "token+mean"},
        {"of": "convnext"},
        {"of": "swin"},
        {"of": "resnet", "pooling": "mean"},
        {"of": "mae", "pooling": "mean"},
    ],
    "stored": [{"width": 6}],
    "lift_model": [{"model": str(FIXTURES / "bundle-v1")}, {"model": str(FIXTURES / "bundle-v2")}],
    "timm": [
        {"model": "vit_tiny_patch16_224", "weights": "none", "pooling": "token", "layer": 2},
    ],
    "open_clip": [],  # its smallest network is large: see tests/parity/test_towers_open_clip.py
}
CASES = [(name, options) for name in plugins.names("towers") for options in SMALL.get(name, [{}])]


def named(name, options):
    """Return the part of a case, its model written to disk."""
    if "of" in options:
        pytest.importorskip("transformers")
        import tower_folders

        options = options | {"model": str(tower_folders.folder(options["of"]))}
        del options["of"]
    return part("towers", name, **options)


@pytest.fixture(scope="module")
def built():
    """Return what was built for each case, so that it is built once."""
    return {}


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request, built):
    """Return (part, a copy of its tower)."""
    key = str(request.param)
    if key not in built:
        try:
            of = named(*request.param)
            built[key] = of, plugins.build(of)
        except MissingPackage as error:
            pytest.skip(str(error))
    return copy.deepcopy(built[key])


@pytest.fixture
def tower(case):
    return case[1]


@pytest.fixture
def learning(tower):
    if not list(tower.parameters()):
        pytest.skip("nothing in it learns")
    return tower


def images(tower, count=3):
    if not tower.resolution:
        return torch.randn(count, tower.width)
    return torch.randn(count, 3, tower.resolution, tower.resolution)


def test_one_vector_an_image(tower):
    h = tower(images(tower))
    assert h.shape == (3, tower.width) and h.dtype == torch.float32


def test_an_image_ignores_its_neighbours(tower):
    tower.eval()
    batch = images(tower)
    other = batch.clone()
    other[1:] = torch.randn_like(other[1:]) * 100
    torch.testing.assert_close(tower(batch)[0], tower(other)[0], rtol=0, atol=3e-6)
    torch.testing.assert_close(tower(batch)[:1], tower(batch[:1]), rtol=0, atol=3e-6)


def test_images_are_told_apart(tower):
    h = tower.eval()(images(tower))
    assert (h[0] - h[1]).abs().max() > 1e-3


def test_what_is_kept_rebuilds_it(case, tmp_path):
    """As a saved model does: from JSON and its own weights, after everything else is gone."""
    of, tower = case
    if of.name in ("huggingface", "lift_model"):
        moved = shutil.copytree(of.options["model"], tmp_path / "gone")
        of = part("towers", of.name, **{**of.options, "model": str(moved)})
        tower = plugins.build(of)
        shutil.rmtree(moved)
    text = json.dumps(to_dict(plugins.kept(of, tower)))
    assert str(tmp_path) not in text
    kept = from_dict(Part, json.loads(text))
    torch.manual_seed(5)
    twin = plugins.build(kept)
    batch = images(tower)
    if list(tower.parameters()):
        assert not torch.equal(twin.eval()(batch), tower.eval()(batch))
    file = io.BytesIO()
    torch.save(tower.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin.eval()(batch), tower.eval()(batch))
    assert (twin.width, twin.resolution) == (tower.width, tower.resolution)
    again = to_dict(plugins.kept(kept, twin))
    assert again == to_dict(kept) == to_dict(plugins.resolve(kept))
    own, theirs = tower.parameters(), twin.parameters()
    assert [p.requires_grad for p in own] == [p.requires_grad for p in theirs]


def test_every_parameter_gets_gradient(learning):
    h = learning.train()(images(learning))
    (h * torch.randn_like(h)).sum().backward()
    trained = 0
    relus = any("BatchNorm" in type(module).__name__ for module in learning.modules())
    for name, parameter in learning.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None and "mask" in name, name
            continue
        trained += parameter.numel()
        assert parameter.grad is not None, name
        # By rows of the first axis: a fused matrix must not hide a part that gets none. What a ReLU
        # holds at 0 gets none, though.
        if parameter.ndim > 1 and not relus:
            assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), name
        else:
            assert parameter.grad.abs().max() > 0, name
    assert trained > 0.9 * sum(p.numel() for p in learning.parameters())


def test_blocks_stand_between_the_input_and_the_rest(learning):
    """Layer decay and "last blocks only" go by the order in which parameters are listed."""
    where = {id(p): i for i, p in enumerate(learning.parameters())}
    places = [sorted(where[id(p)] for p in block.parameters()) for block in learning.blocks]
    assert len(places) >= 1 and all(places)
    flat = [place for block in places for place in block]
    assert flat == list(range(flat[0], flat[0] + len(flat))), "in order, and nothing between them"
    assert flat[0] > 0


def test_pixels_are_fields_of_a_transform(case):
    of, tower = case
    found = plugins.pixels(of)
    if found:
        transform = from_dict(Transform, json.loads(json.dumps(found)))
        assert transform.resolution == tower.resolution
    assert plugins.pixels(plugins.kept(of, tower)) == ({} if of.name != "timm" else found)


def test_weights_follow_the_seed(case, learning):
    kept = plugins.kept(case[0], learning)

    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in plugins.build(kept).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_deterministic_in_eval(tower):
    tower.eval()
    batch = images(tower)
    before = torch.get_rng_state()
    assert torch.equal(tower(batch), tower(batch))
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_autocast_is_finite_and_close(learning):
    tower, batch = learning, images(learning)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = tower.train()(batch)
    h.float().square().mean().backward()
    assert h.isfinite().all()
    trained = [p for p in tower.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    tower.eval()  # without what training drops
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = tower(batch)
    cosine = torch.cosine_similarity(h.float(), tower(batch))
    assert cosine.min() > 0.99


def test_float64_stays_so(learning):
    h = learning.double().eval()(images(learning).double())
    assert h.dtype == torch.float64
