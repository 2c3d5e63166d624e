"""Towers of timm give the library's own features, see its pixels, and live on in a model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from lift import plugins
from lift.config import Part, from_dict, part, to_dict
from lift.data.transform import Transform
from lift.errors import ConfigError

pytestmark = pytest.mark.parity
BOUND = 1e-5

CASES = {
    "ViT": ("vit_tiny_patch16_224", 224),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", 56),
    "ViT of patch means": ("vit_tiny_patch16_224", 64),
    "ConvNeXt": ("convnext_atto", 64),
    "ResNet": ("resnet10t", 64),
    "Swin": ("swin_tiny_patch4_window7_224", 224),
    "EVA": ("eva02_tiny_patch14_224", 56),
}


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="needs the parity environment")


@pytest.fixture(scope="module")
def made(timm, tmp_path_factory):
    """Return a function: the library's network with norms moved, and a file of its weights."""
    known = {}

    def get(name, side):
        if (name, side) not in known:
            torch.manual_seed(1)
            fixed = timm.get_pretrained_cfg(name).fixed_input_size
            model = timm.create_model(name, num_classes=0, **({"img_size": side} if fixed else {}))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.02 * torch.randn_like(parameter)
            folder = tmp_path_factory.mktemp(name)
            save_file(model.state_dict(), folder / "model.safetensors")
            known[name, side] = model.eval(), folder
        return known[name, side]

    return get


def check(ours, theirs):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < BOUND


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_own_features_are_the_librarys(made, case):
    name, side = CASES[case]
    model, folder = made(name, side)
    of = part("towers", "timm", model=name, weights=str(folder), resolution=side)
    tower = plugins.build(of).eval()
    x = torch.randn(2, 3, side, side)
    check(tower(x), model(x))
    assert (tower.width, tower.resolution) == (model.num_features, side)


@pytest.mark.parametrize("case", ["ViT", "DINOv2 with registers", "EVA"])
@torch.no_grad()
def test_tokens_are_the_librarys(made, case):
    name, side = CASES[case]
    model, folder = made(name, side)
    x = torch.randn(2, 3, side, side)
    last = model.forward_features(x)
    if isinstance(model.norm, torch.nn.Identity):  # EVA pools, then norms
        last_of = {"token": model.fc_norm(last[:, 0])}
        last_of["mean"] = model.fc_norm(last[:, model.num_prefix_tokens :].mean(1))
    else:
        last_of = {"token": last[:, 0], "mean": last[:, model.num_prefix_tokens :].mean(1)}
    last_of["token+mean"] = torch.cat([last_of["token"], last_of["mean"]], 1)
    for pooling, theirs in last_of.items():
        options = {"weights": str(folder), "pooling": pooling, "resolution": side}
        tower = plugins.build(part("towers", "timm", model=name, **options)).eval()
        check(tower(x), theirs)


@pytest.mark.parametrize("case", ["DINOv2 with registers", "EVA"])
@torch.no_grad()
def test_parts_of_an_image(made, case):
    name, side = CASES[case]
    options = {"weights": str(made(name, side)[1]), "resolution": side}
    towers = {
        how: plugins.build(part("towers", "timm", model=name, pooling=how, **options)).eval()
        for how in ("mean", "token+mean")
    }
    x = torch.randn(2, 3, side, side)
    check(towers["mean"].grid(x, 1), towers["mean"](x))
    check(towers["token+mean"].grid(x, 1), towers["token+mean"](x))
    assert towers["token+mean"].grid(x, 2).shape == (8, 2 * towers["mean"].width)
    own = plugins.build(part("towers", "timm", model=name, **options))
    with pytest.raises(ConfigError, match="not of its parts"):
        own.grid(x, 2)


@pytest.mark.parametrize(("layer", "index"), [(2, 1), (-2, -2)])
@torch.no_grad()
def test_an_earlier_layer_is_the_librarys(made, layer, index):
    model, folder = made("vit_tiny_patch16_224", 64)
    options = {"weights": str(folder), "pooling": "token+mean", "resolution": 64, "layer": layer}
    x = torch.randn(2, 3, 64, 64)
    for norm in (False, True):
        tower = plugins.build(
            part("towers", "timm", model="vit_tiny_patch16_224", norm=norm, **options)
        ).eval()
        patches, token = model.get_intermediate_layers(
            x, n=[index % 12], return_prefix_tokens=True, norm=norm
        )[0]
        check(tower(x), torch.cat([token[:, 0], patches.mean(1)], 1))
        assert len(tower.blocks) == index % 12 + 1


@torch.no_grad()
def test_attention_pooling_is_the_librarys(timm):
    torch.manual_seed(1)
    name = "vit_base_patch16_siglip_224"
    of = part("towers", "timm", model=name, weights="none", pooling="attention", resolution=64)
    tower = plugins.build(of).eval()
    model = timm.create_model(name, num_classes=0, img_size=64).eval()
    model.load_state_dict(tower.network.state_dict())
    x = torch.randn(1, 3, 64, 64)
    check(tower(x), model.attn_pool(model.forward_features(x)))
    with pytest.raises(ConfigError, match="no class token"):
        plugins.build(part("towers", "timm", model=name, weights="none", pooling="token"))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "resnet10t"])
def test_pixels_are_the_librarys(timm, name):
    found = plugins.pixels(part("towers", "timm", model=name, weights="none"))
    theirs = timm.data.resolve_model_data_config(timm.create_model(name))
    assert found["resolution"] == theirs["input_size"][-1]
    assert (found["mean"], found["std"]) == (theirs["mean"], theirs["std"])
    assert found["interpolation"] == theirs["interpolation"]
    from_dict(Transform, json.loads(json.dumps(found)))


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("ViT", {"pooling": "token+mean", "layer": -3}),
        ("EVA", {"pooling": "mean"}),
        ("ConvNeXt", {}),
        ("ConvNeXt", {"pooling": "mean", "layer": 3}),
        ("ResNet", {"pooling": "mean"}),
        ("Swin", {"checkpoint_activations": True}),
    ],
)
def test_the_contract(made, case, options):
    """Kept and rebuilt without a file, neighbours have no part, all that learns gets gradient."""
    name, side = CASES[case]
    _, folder = made(name, side)
    of = part("towers", "timm", model=name, weights=str(folder), resolution=side, **options)
    tower = plugins.build(of)
    text = json.dumps(to_dict(plugins.kept(of, tower)))
    assert str(folder) not in text
    kept = from_dict(Part, json.loads(text))
    twin = plugins.build(kept)
    x = torch.randn(3, 3, side, side)
    with torch.no_grad():
        assert not torch.equal(twin.eval()(x), tower.eval()(x))
        twin.load_state_dict(tower.state_dict())
        assert torch.equal(twin(x), tower(x))
        torch.testing.assert_close(tower(x)[:1], tower(x[:1]), rtol=0, atol=1e-5)
    assert to_dict(plugins.kept(kept, twin)) == to_dict(kept)
    h = tower.train()(x)
    (h * torch.randn_like(h)).sum().backward()
    trained = 0
    for path, parameter in tower.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, path
            trained += parameter.numel()
    assert trained > 0.95 * sum(p.numel() for p in tower.parameters())
    where = {id(p): i for i, p in enumerate(tower.parameters())}
    flat = [i for block in tower.blocks for i in sorted(where[id(p)] for p in block.parameters())]
    if case != "ResNet":
        assert flat == list(range(flat[0], flat[0] + len(flat))) and flat[0] > 0


def test_what_does_not_fit_is_told(tmp_path):
    def build(**options):
        return plugins.build(part("towers", "timm", **{"weights": "none", **options}))

    with pytest.raises(ConfigError, match=r"Did you mean 'vit_tiny_patch16_224'\?"):
        build(model="vit_tiny_patch16_242")
    with pytest.raises(ConfigError, match=r"no name of timm's own"):
        build(model="hf-hub:somebody/net")
    with pytest.raises(ConfigError, match=r"has 12 blocks or stages; give 1 to 12"):
        build(model="vit_tiny_patch16_224", pooling="mean", layer=13)
    with pytest.raises(ConfigError, match=r"0 are there"):
        build(model="vit_tiny_patch16_224", weights=str(tmp_path))
    with pytest.raises(ConfigError, match=r"don't come from the hub .*weights=FILE"):
        build(model="vit_tiny_patch16_224", weights="")
    with pytest.raises(ConfigError, match=r"no attention pooling"):
        build(model="vit_tiny_patch16_224", pooling="attention")
    with pytest.raises(ConfigError, match=r"images of 7 x 7 pixels don't go"):
        build(model="vit_tiny_patch16_224", resolution=7)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lack 150 of the model's weights"):
        build(model="vit_tiny_patch16_224", weights=str(tmp_path))


@pytest.mark.parametrize("name", ["timm", "open_clip", "huggingface"])
def test_a_broken_torchvision_is_said(name, tmp_path):
    """Without the shim of `conftest.py`: what a user of a CPU torch meets."""
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True)
    if done.returncode == 0:
        pytest.skip("the torchvision here imports")
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = transformers.ViTConfig(image_size=16, patch_size=8, intermediate_size=32, **sizes)
    transformers.ViTModel(shape).save_pretrained(tmp_path)
    model = {"timm": "vit_tiny_patch16_224", "open_clip": "ViT-B-32", "huggingface": str(tmp_path)}
    program = (
        "from lift import plugins\nfrom lift.config import part\n"
        "from lift.errors import LiftError\n"
        f"try:\n    plugins.build(part('towers', {name!r}, model={model[name]!r}))\n"
        "except LiftError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("ConfigError" if name == "huggingface" else "MissingPackage")
    assert "the torchvision installed here can't be imported with torch" in done.stdout
    assert "install the build that was made for this torch" in done.stdout
