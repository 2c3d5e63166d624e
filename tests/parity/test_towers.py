"""The ViT tower gives the features of timm and open_clip from the same weights, both ways."""

from __future__ import annotations

import pytest
import torch

from lift.convert.layouts import arguments
from lift.convert.weights import from_layout, to_layout
from lift.errors import CheckpointError
from lift.towers import vit

pytestmark = pytest.mark.parity

TINY = {"width": 64, "depth": 3, "heads": 2, "patch": 8, "resolution": 32, "mlp_ratio": 2.5}
CLIP = TINY | {"class_token": True, "pre_norm": True, "patch_bias": False, "norm_eps": 1e-5}
BOUND = 1e-5


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="needs the parity environment")


@pytest.fixture(scope="module")
def open_clip():
    return pytest.importorskip("open_clip", reason="needs the parity environment")


def check(name, ours, theirs):
    """Check the largest difference; `name` says where it was."""
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).abs().max())
    assert difference < BOUND, (name, difference)


def shake(module):
    """Draw norms and biases too, so that no swap of names can hide."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module.eval()


def pixels(config, count=2):
    return torch.randn(count, 3, config.resolution, config.resolution)


# --- timm --------------------------------------------------------------------------------------

TIMM = {
    "lift": CLIP,
    "clip": CLIP | {"pooling": "token", "activation": "quick_gelu"},
    "siglip": TINY | {"pooling": "attention", "activation": "gelu_tanh"},
    "gap": TINY,
    "clip-map": CLIP | {"pooling": "attention"},
}


@pytest.mark.parametrize("name", TIMM)
@torch.no_grad()
def test_export_to_timm(timm, name):
    config = vit.Config(**TIMM[name])
    tower = shake(vit.build(config))
    model = timm.models.VisionTransformer(**arguments(config, "timm")).eval()
    model.load_state_dict(to_layout(config, tower.state_dict(), "timm"), strict=True)
    x = pixels(config)
    check("pooled", tower(x), model(x))
    layers = model.get_intermediate_layers(x, n=range(config.depth))
    for layer, theirs in enumerate(layers, start=1):
        check(f"layer {layer}", tower.tokens(x, layer), theirs)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("vit_base_patch16_clip_224", {}),
        ("vit_base_patch16_clip_quickgelu_224", {"activation": "quick_gelu"}),
        ("vit_base_patch16_siglip_224", {}),
        ("vit_base_patch16_siglip_gap_224", {}),
        ("vit_small_patch14_reg4_dinov2", None),
    ],
)
@torch.no_grad()
def test_import_from_timm_models(timm, name, facts):
    small = {"embed_dim": 192, "depth": 2, "num_heads": 3}
    model = shake(timm.create_model(name, num_classes=0, **small))
    if facts is None:  # register tokens and layer scale: nothing of ours holds them
        with pytest.raises(CheckpointError, match=r"reg_token|square"):
            from_layout(model.state_dict(), "timm")
        return
    config, state = from_layout(model.state_dict(), "timm", **facts)
    tower = vit.build(config).eval()
    tower.load_state_dict(state)
    x = pixels(config)
    check("pooled", tower(x), model(x))
    check("patches", tower.tokens(x, normed=True), patches(model, x))


def patches(model, x):
    return model.forward_features(x)[:, model.num_prefix_tokens :]


@torch.no_grad()
def test_the_paper_trunk_in_timm(timm):
    config = vit.clip_size("B/16")
    model = timm.create_model(
        "vit_base_patch16_clip_224", num_classes=0, global_pool="avg", fc_norm=False
    ).eval()
    assert sum(p.numel() for p in model.parameters()) == 85_799_424
    tower = vit.build(config).eval()
    model.load_state_dict(to_layout(config, tower.state_dict(), "timm"), strict=True)
    x = pixels(config, 1)
    check("pooled", tower(x), model(x))


@torch.no_grad()
def test_a_larger_image_equals_timm(timm):
    config = vit.Config(**CLIP)
    tower = shake(vit.build(config))
    model = timm.models.VisionTransformer(**arguments(config, "timm"), dynamic_img_size=True)
    model.load_state_dict(to_layout(config, tower.state_dict(), "timm"), strict=True)
    for shape in ((48, 64), (16, 24)):
        x = torch.randn(2, 3, *shape)
        check(f"{shape}", tower(x), model.eval()(x))


# --- open_clip ---------------------------------------------------------------------------------


def visual(open_clip, config):
    """Return open_clip's vision tower as its own model builder makes it."""
    settings = arguments(config, "open_clip")
    return open_clip.model._build_vision_tower(**settings).eval()


@pytest.mark.parametrize(
    "options",
    [
        CLIP,
        CLIP | {"pooling": "token", "activation": "quick_gelu"},
        CLIP | {"pooling": "token", "activation": "gelu_tanh", "pre_norm": False},
    ],
    ids=["lift", "clip", "no-pre-norm"],
)
@torch.no_grad()
def test_export_to_open_clip(open_clip, options):
    config = vit.Config(**options)
    tower = shake(vit.build(config))
    model = visual(open_clip, config)
    model.load_state_dict(to_layout(config, tower.state_dict(), "open_clip"), strict=True)
    x = pixels(config)
    check("pooled", tower(x), model(x))
    found = model.forward_intermediates(x, output_fmt="NLC")["image_intermediates"]
    for layer, theirs in enumerate(found, start=1):
        check(f"layer {layer}", tower.tokens(x, layer), theirs)


@torch.no_grad()
def test_import_from_an_open_clip_model(open_clip):
    vision = {"image_size": 32, "patch_size": 8, "width": 192, "layers": 2}
    text = {"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1}
    model = shake(open_clip.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=text))
    everything = model.state_dict()
    left_out = ["visual.proj", *(name for name in everything if not name.startswith("visual."))]
    config, state = from_layout(everything, "open_clip", without=left_out)
    tower = vit.build(config).eval()
    tower.load_state_dict(state)
    x = pixels(config)
    check("image features", tower(x) @ model.visual.proj, model.encode_image(x))


@torch.no_grad()
def test_the_paper_trunk_in_open_clip(open_clip):
    config = vit.clip_size("B/16")
    model = visual(open_clip, config)
    tower = vit.build(config).eval()
    model.load_state_dict(to_layout(config, tower.state_dict(), "open_clip"), strict=True)
    model.proj = None
    assert sum(p.numel() for p in model.parameters()) == 85_799_424
    x = pixels(config, 1)
    check("pooled", tower(x), model(x))
