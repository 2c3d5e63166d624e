"""Towers of open_clip give the library's own features, see its pixels, and live on in a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import lift
from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import Part, from_dict, part, to_dict
from lift.data.transform import Transform
from lift.errors import ConfigError
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.text.encoder import build_encoder

pytestmark = pytest.mark.parity
BOUND = 1e-5

TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
SHAPES = {
    "clip": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "mean": {
        "embed_dim": 24,
        "vision_cfg": VISION | {"pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT,
    },
    "resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
        "text_cfg": TEXT,
    },
    "timm": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_pool": "token",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
}
PIXELS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"}


@pytest.fixture(scope="module")
def open_clip():
    return pytest.importorskip("open_clip", reason="needs the parity environment")


@pytest.fixture(scope="module")
def made(open_clip, tmp_path_factory):
    """Return a function: the library's whole model with norms moved, and its folder."""
    known = {}

    def get(kind):
        if kind not in known:
            torch.manual_seed(1)
            shape = SHAPES[kind]
            whole = open_clip.CustomTextCLIP if kind == "timm" else open_clip.CLIP
            model = whole(**json.loads(json.dumps(shape)))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.05 * torch.randn_like(parameter)
            folder = tmp_path_factory.mktemp(kind)
            state = {name: value.contiguous() for name, value in model.state_dict().items()}
            save_file(state, folder / "open_clip_model.safetensors")
            said = {"model_cfg": shape, "preprocess_cfg": {**PIXELS, "resize_mode": "squash"}}
            (folder / "open_clip_config.json").write_text(json.dumps(said))
            known[kind] = model.eval(), folder
        return known[kind]

    return get


def check(ours, theirs):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < BOUND


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_projected_features_are_the_librarys(made, kind):
    model, folder = made(kind)
    tower = plugins.build(part("towers", "open_clip", model=str(folder))).eval()
    x = torch.randn(2, 3, tower.resolution, tower.resolution)
    check(tower(x), model.encode_image(x))
    assert tower.width == 24


@pytest.mark.parametrize("kind", ["clip", "mean", "timm"])
@torch.no_grad()
def test_the_trunk_is_before_the_projection(made, kind):
    model, folder = made(kind)
    tower = plugins.build(part("towers", "open_clip", model=str(folder), output="trunk")).eval()
    x = torch.randn(2, 3, tower.resolution, tower.resolution)
    if kind == "timm":
        check(tower(x), model.visual.trunk(x))
        return
    check(tower(x) @ model.visual.proj, model.encode_image(x))
    assert tower.width == 64


def test_a_resnet_has_no_trunk(made):
    with pytest.raises(ConfigError, match="projects within its pooling"):
        plugins.build(part("towers", "open_clip", model=str(made("resnet")[1]), output="trunk"))


@torch.no_grad()
def test_another_resolution_is_as_the_library_resizes(made, open_clip):
    model, folder = made("clip")
    tower = plugins.build(part("towers", "open_clip", model=str(folder), resolution=48)).eval()
    larger = dict(SHAPES["clip"], vision_cfg=VISION | {"image_size": 48})
    theirs = open_clip.CLIP(**json.loads(json.dumps(larger))).eval()
    state = dict(model.state_dict())
    open_clip.model.resize_pos_embed(state, theirs)
    theirs.load_state_dict(state)
    x = torch.randn(2, 3, 48, 48)
    check(tower(x), theirs.encode_image(x))


def test_pixels_are_the_librarys(made, open_clip):
    _, folder = made("clip")
    assert plugins.pixels(part("towers", "open_clip", model=str(folder))) == {
        "resolution": 32,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.25),
        "interpolation": "bilinear",
        "resize": "squash",
    }
    for name, tag in (("ViT-B-32", "laion2b_s34b_b79k"), ("ViT-B-16-SigLIP", "webli")):
        found = plugins.pixels(part("towers", "open_clip", model=name, weights=tag))
        theirs = open_clip.get_pretrained_cfg(name, tag)
        assert (found["mean"], found["std"]) == (theirs["mean"], theirs["std"])
        assert found["interpolation"] == theirs["interpolation"] and found["resolution"] == 224
        assert (found["resize"] == "squash") == (theirs["resize_mode"] == "squash")
        from_dict(Transform, json.loads(json.dumps(found)))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("clip", {"checkpoint_activations": True}),
        ("mean", {"output": "trunk"}),
        ("resnet", {}),
        ("timm", {}),
    ],
)
def test_the_contract(made, kind, options):
    """Kept and rebuilt without a file, neighbours have no part, all that learns gets gradient."""
    _, folder = made(kind)
    of = part("towers", "open_clip", model=str(folder), **options)
    tower = plugins.build(of)
    text = json.dumps(to_dict(plugins.kept(of, tower)))
    assert str(folder) not in text
    kept = from_dict(Part, json.loads(text))
    twin = plugins.build(kept)
    x = torch.randn(3, 3, tower.resolution, tower.resolution)
    with torch.no_grad():
        assert not torch.equal(twin.eval()(x), tower.eval()(x))
        twin.load_state_dict(tower.state_dict())
        assert torch.equal(twin(x), tower(x))
        torch.testing.assert_close(tower(x)[:1], tower(x[:1]), rtol=0, atol=1e-5)
    assert to_dict(plugins.kept(kept, twin)) == to_dict(kept)
    assert plugins.pixels(kept) == {}
    h = tower.train()(x)
    (h * torch.randn_like(h)).sum().backward()
    for path, parameter in tower.named_parameters():
        assert parameter.requires_grad and parameter.grad is not None, path
        assert parameter.grad.abs().max() > 0, path
    where = {id(p): i for i, p in enumerate(tower.parameters())}
    flat = [i for block in tower.blocks for i in sorted(where[id(p)] for p in block.parameters())]
    if kind == "clip":
        assert [*tower.named_parameters()][-1][0] == "projection.weight"
    if kind != "resnet":
        assert flat == list(range(flat[0], flat[0] + len(flat))) and flat[0] > 0


def test_what_does_not_fit_is_told(made, tmp_path):
    def build(**options):
        return plugins.build(part("towers", "open_clip", **options))

    with pytest.raises(ConfigError, match=r"Did you mean 'ViT-B-32'\?"):
        build(model="ViT-B-31", weights="none")
    with pytest.raises(ConfigError, match=r"Did you mean 'laion2b_s34b_b79k'\?"):
        build(model="ViT-B-32", weights="laion2b_s34b_b78k")
    with pytest.raises(ConfigError, match=r"don't come from the hub as safetensors"):
        build(model="ViT-B-32", weights="laion2b_s34b_b79k")
    with pytest.raises(ConfigError, match=r"needs model="):
        build()
    shape = {**SHAPES["timm"], "vision_cfg": {**SHAPES["timm"]["vision_cfg"]}}
    shape["vision_cfg"]["timm_model_name"] = "hf-hub:somebody/net"
    with pytest.raises(ConfigError, match=r"'hf-hub:somebody/net' in a saved model"):
        build(network=shape)
    (tmp_path / "x.json").write_text('{"embed_dim": 3}')
    with pytest.raises(ConfigError, match=r"lacks vision_cfg"):
        build(model=str(tmp_path / "x.json"), weights="none")
    (tmp_path / "x.json").write_text(json.dumps(SHAPES["mean"] | {"embed_dim": 25}))
    with pytest.raises(ConfigError, match=r"don't fit"):
        build(model=str(tmp_path / "x.json"), weights=str(made("mean")[1]))
    save_file({"visual.proj": torch.zeros(64, 25)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r"lack \d+ of the model's weights"):
        build(model=str(tmp_path / "x.json"), weights=str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
def test_a_trained_head_becomes_a_model(made, kind, tmp_path):
    """Tower, pixels, a linear head fitted to captions, a folder, and what it says of images."""
    if kind == "timm":
        of = part("towers", "timm", model="vit_tiny_patch16_224", weights="none", resolution=32)
    else:
        of = part("towers", "open_clip", model=str(made("clip")[1]))
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=16), "cpu")
    transform = from_dict(Transform, json.loads(json.dumps(plugins.pixels(of))))
    tower = plugins.build(of)
    config = SideConfig(tower=plugins.kept(of, tower), head=HeadConfig(layers=1))
    side = build_side(config, None, 16).eval()
    side.tower.load_state_dict(tower.state_dict())

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 48, 3), np.uint8) for _ in range(12)]
    captions = [f"picture number {i}" for i in range(12)]
    rows = torch.from_numpy(encoder.encode(captions).rows)
    batch = transform.normalise(torch.stack([transform.evaluate(image) for image in images]))
    with torch.no_grad():
        h = side.features(batch)
        ones = torch.cat([h, torch.ones(12, 1)], 1)
        found = torch.linalg.lstsq(ones.double(), rows.double(), driver="gelsd").solution.float()
        side.head.layers[0].weight.copy_(found[:-1].T)
        side.head.layers[0].bias.copy_(found[-1])
    record = BundleRecord(
        image=config, transform=transform, space=encoder.space, encoder=encoder.part
    )
    folder = Bundle(side, record, text_encoder=encoder).save(tmp_path / "model")
    model = lift.load(folder)
    pictures = [Image.fromarray(image) for image in images]
    z = model.encode_images(pictures)
    assert float(np.abs(z - side(batch).detach().numpy()).max()) < BOUND
    assert (z @ encoder.encode(captions).rows.T).argmax(1).tolist() == list(range(12))
    again = part("towers", "lift_model", model=str(folder))
    inner = plugins.build(again).eval()
    with torch.no_grad():
        assert torch.equal(inner(batch), side.features(batch))
    assert plugins.pixels(again)["mean"] == list(transform.mean)
