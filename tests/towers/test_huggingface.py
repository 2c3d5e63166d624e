"""Networks of transformers as towers: the library's own features, pixels, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lift import plugins
from lift.config import from_dict, part
from lift.data.transform import Transform
from lift.errors import ConfigError
from lift.text import loading
from lift.text.encoder import build_encoder
from lift.towers import huggingface

transformers = pytest.importorskip("transformers")
import tower_folders  # noqa: E402

BOUND = 1e-5


def tower_of(kind, **options):
    folder = tower_folders.folder(kind)
    return plugins.build(part("towers", "huggingface", model=str(folder), **options)).eval()


def library(kind, whole=False):
    """Return the library's own network, found without lift: by the class named in its files."""
    folder = tower_folders.folder(kind)
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    network = getattr(transformers, name).from_pretrained(folder).eval()
    return network if whole or not hasattr(network, "vision_model") else network.vision_model


def check(ours, theirs):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < BOUND


def images(count=2, side=16):
    return torch.randn(count, 3, side, side)


OWN = ["vit", "dinov2", "dinov2_registers", "dinov3", "siglip_vision", "siglip", "clip_vision"]
OWN += ["clip", "convnext", "convnextv2", "swin", "resnet", "aimv2"]


@pytest.mark.parametrize("kind", OWN)
@torch.no_grad()
def test_own_is_what_the_library_pools(kind):
    x = images()
    check(tower_of(kind)(x), library(kind)(x).pooler_output.flatten(1))


FRONT = {"vit": 1, "dinov2": 1, "dinov2_registers": 3, "dinov3": 3, "clip": 1}


@pytest.mark.parametrize("kind", FRONT)
@torch.no_grad()
def test_tokens_are_the_librarys(kind):
    x, network = images(), library(kind)
    last = network(x).last_hidden_state
    if kind == "clip":  # of all of them, it alone norms nothing but what it pools
        last = network.post_layernorm(last)
    assert last.shape[1] == FRONT[kind] + 4
    token, mean = last[:, 0], last[:, FRONT[kind] :].mean(1)
    check(tower_of(kind, pooling="token")(x), token)
    check(tower_of(kind, pooling="mean")(x), mean)
    both = tower_of(kind, pooling="token+mean")
    check(both(x), torch.cat([token, mean], 1))
    assert both.width == 64


@pytest.mark.parametrize("kind", ["siglip_vision", "siglip", "swin", "aimv2"])
@torch.no_grad()
def test_the_mean_where_there_is_no_class_token(kind):
    x = images()
    check(tower_of(kind, pooling="mean")(x), library(kind)(x).last_hidden_state.mean(1))
    with pytest.raises(ConfigError, match=r"no class token; use pooling=mean"):
        tower_of(kind, pooling="token")


@torch.no_grad()
def test_convolutional_networks_pool_their_map():
    x = images()
    own, network = tower_of("convnext"), library("convnext")
    check(tower_of("convnext", pooling="mean")(x), own(x))
    last = network(x).last_hidden_state
    check(tower_of("convnext", pooling="mean", norm=False)(x), last.mean((2, 3)))
    check(tower_of("resnet", pooling="mean")(x), tower_of("resnet")(x))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_projected_is_the_space_shared_with_texts(kind):
    x, network = images(), library(kind, whole=True)
    tower = tower_of(kind, pooling="projected")
    check(tower(x), network.get_image_features(x).pooler_output)
    assert not any("text" in name or "logit" in name for name in tower.state_dict())
    encoder = build_encoder(
        part("text/encoders", "dual", model=str(tower_folders.folder(kind))), "cpu"
    )
    assert encoder.space.dimensions == tower.width


@torch.no_grad()
def test_attention_is_siglips_own():
    x = images()
    check(tower_of("siglip", pooling="attention")(x), library("siglip")(x).pooler_output)


@torch.no_grad()
def test_naflex_networks_take_whole_images():
    """By the library's own way from pixels to patches."""
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    x = images()
    patches = [convert_image_to_patches(one.numpy(), 8) for one in x]
    network = library("siglip2_vision")
    theirs = network(
        torch.from_numpy(np.stack(patches)),
        pixel_attention_mask=torch.ones(2, 4, dtype=torch.int64),
        spatial_shapes=torch.tensor([[2, 2], [2, 2]]),
    )
    check(tower_of("siglip2_vision")(x), theirs.pooler_output)


@pytest.mark.parametrize("kind", ["vit", "dinov2_registers", "clip", "siglip"])
@torch.no_grad()
def test_an_earlier_layer(kind):
    """What a hook on the library's own block sees, with and without the last norm."""
    x, network, seen = images(), library(kind), []
    tower = tower_of(kind, pooling="mean", layer=2, norm=False)
    blocks = next(m for m in network.modules() if isinstance(m, torch.nn.ModuleList))
    blocks[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    network(x)
    hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    front = FRONT.get(kind, 0)
    check(tower(x), hidden[:, front:].mean(1))
    norm = network.layernorm if hasattr(network, "layernorm") else network.post_layernorm
    check(tower_of(kind, pooling="mean", layer=-2)(x), norm(hidden)[:, front:].mean(1))
    assert len(tower.blocks) == 2, "later blocks are not in it"
    for layer in (0, 4, -4):
        with pytest.raises(ConfigError, match=r"the network has 3 blocks; give 1 to 3, or -1"):
            tower_of(kind, pooling="mean", layer=layer)


@pytest.mark.parametrize(("kind", "asks"), [("vit", True), ("siglip", True), ("dinov2", False)])
@torch.no_grad()
def test_another_resolution_interpolates_as_the_library_does(kind, asks):
    x = images(side=24)
    options = {"interpolate_pos_encoding": True} if asks else {}
    tower = tower_of(kind, resolution=24)
    check(tower(x), library(kind)(x, **options).pooler_output)
    assert tower.resolution == 24
    kept = plugins.kept(part("towers", "huggingface", model="x"), tower)
    assert kept.options["resolution"] == 24


@pytest.mark.parametrize("kind", ["vit", "dinov2_registers", "clip", "siglip", "convnext"])
@torch.no_grad()
def test_parts_of_an_image(kind):
    """From all tokens at once: parts of one patch are the patches, row by row."""
    x, tower = images(side=16), tower_of(kind, pooling="mean")
    check(tower.grid(x, 1), tower(x))
    parts = tower.grid(x, 2)
    assert parts.shape == (8, tower.width)
    if kind == "convnext":
        last = library(kind)(x).last_hidden_state  # 4 x 4
        corner = library(kind).layernorm(last[:, :, :2, 2:].mean((2, 3)))
        check(parts.unflatten(0, (2, 4))[:, 1], corner)
    else:
        check(parts.unflatten(0, (2, 4)).mean(1), tower(x))
        patches = tower._tokens(x)[0][:, FRONT.get(kind, 0) :]
        check(parts.unflatten(0, (2, 4)), patches)
    with pytest.raises(ConfigError, match=r"does not divide into 3 x 3 parts"):
        tower.grid(x, 3)
    with pytest.raises(ConfigError, match="not of its parts"):
        tower_of(kind).grid(x, 2)


@torch.no_grad()
def test_the_class_token_stands_before_every_part():
    x, tower = images(), tower_of("vit", pooling="token+mean")
    parts = tower.grid(x, 2).unflatten(0, (2, 4))
    check(parts[:, :, :32], tower(x)[:, None, :32].expand(-1, 4, -1))
    check(tower_of("vit", pooling="token").grid(x, 2), parts[:, :, 32:].flatten(0, 1))


@torch.no_grad()
def test_a_masked_autoencoder_hides_nothing():
    x = images()
    tower = tower_of("mae", pooling="mean")
    assert torch.equal(tower(x), tower(x))
    network = library("mae")
    network.config.mask_ratio = 0.0
    check(tower(x), network(x).last_hidden_state[:, 1:].mean(1))  # shuffled, which a mean forgets
    with pytest.raises(ConfigError, match=r"no weights for the network's own pooling"):
        tower_of("mae")


def test_activations_are_recomputed_when_asked():
    plain = tower_of("siglip", pooling="projected").train()
    saving = tower_of("siglip", pooling="projected", checkpoint_activations=True).train()
    calls = []
    saving.blocks[0].layer_norm1.register_forward_hook(lambda *_: calls.append(1))
    x, gradients = images(), []
    for tower in (plain, saving):
        tower(x).square().sum().backward()
        gradients.append([p.grad for p in tower.parameters()])
    assert len(calls) == 2
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_running_means_stay_as_they_were_published():
    tower, x = tower_of("resnet", pooling="mean").train(), images(3)
    before = {name: value.clone() for name, value in tower.named_buffers()}
    assert any("running_mean" in name for name in before)
    torch.testing.assert_close(tower(x)[:1], tower(x[:1]), rtol=0, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in tower.named_buffers())


# --- pixels ------------------------------------------------------------------------------------

PROCESSORS = {"vit": "ViT", "dinov2": "Bit", "clip": "CLIP", "siglip": "Siglip"}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixels_are_as_its_own_processor_makes_them(kind, tmp_path):
    """A picture of 40 x 40: how a rectangle is cut is lift's own (the whole short side)."""
    folder = tower_folders.folder(kind)
    processor = getattr(transformers, f"{PROCESSORS[kind]}ImageProcessorPil")
    theirs = processor.from_pretrained(folder)
    stated = plugins.pixels(part("towers", "huggingface", model=str(folder)))
    transform = from_dict(Transform, json.loads(json.dumps(stated)))
    assert transform.resolution == 16
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
    expected = theirs(picture, return_tensors="pt")["pixel_values"]
    found = transform.normalise(transform.evaluate(picture)[None])
    unit = 1 / 255 / min(transform.std)
    assert float((found - expected).abs().max()) < 1.5 * unit
    # As newer versions of transformers write it: inside the processor of images and texts.
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "preprocessor_config.json").unlink()
    theirs.save_pretrained(tmp_path / "alone")
    values = json.loads((tmp_path / "alone" / "preprocessor_config.json").read_text())
    (moved / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    assert plugins.pixels(part("towers", "huggingface", model=str(moved))) == stated


def pixels_with(folder, values, **options):
    if values is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return plugins.pixels(part("towers", "huggingface", model=str(folder), **options))


def test_pixels_of_all_kinds(tmp_path):
    folder = shutil.copytree(tower_folders.folder("vit"), tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"no preprocessor_config.json came with .* mean=\["):
        pixels_with(folder, None)
    found = pixels_with(folder, None, mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 1.0], resolution=24)
    assert found["mean"] == (0.1, 0.2, 0.3) and found["resolution"] == 24
    base = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    for size, resize, side in (
        ({"size": 24}, "center_crop", 24),
        ({"size": {"shortest_edge": 24}}, "center_crop", 24),
        ({"size": {"height": 24, "width": 24}}, "squash", 24),
        ({"size": {"shortest_edge": 32}, "crop_size": 24, "do_center_crop": True},
         "center_crop", 24),
        ({"size": {"height": 24, "width": 24}, "crop_size": 20, "do_center_crop": False},
         "squash", 24),
        ({}, "squash", 16),
    ):  # fmt: skip
        found = pixels_with(folder, base | size)
        assert (found["resize"], found["resolution"]) == (resize, side), size
    assert pixels_with(folder, base | {"resample": 2})["interpolation"] == "bilinear"
    assert pixels_with(folder, base | {"resample": 3})["interpolation"] == "bicubic"
    assert pixels_with(folder, {"do_normalize": False})["std"] == (1.0, 1.0, 1.0)
    for values, words in (
        (base | {"rescale_factor": 1.0}, "not divided by 255"),
        (base | {"size": {"height": 24, "width": 32}}, "see squares"),
        (base | {"image_mean": 0.5}, "three numbers"),
        ([], "is no JSON object"),
    ):
        with pytest.raises(ConfigError, match=words):
            pixels_with(folder, values)


@pytest.mark.parametrize(("kind", "mean"), [("clip", 0.48145466), ("siglip", 0.5)])
def test_families_whose_pixels_are_known(kind, mean, tmp_path):
    folder = shutil.copytree(tower_folders.folder(kind), tmp_path / kind)
    (folder / "preprocessor_config.json").unlink()
    found = pixels_with(folder, None)
    assert found["mean"][0] == mean and found["resolution"] == 16
    assert found["resize"] == ("squash" if kind == "siglip" else "center_crop")


# --- what is refused ---------------------------------------------------------------------------


def test_what_does_not_fit_is_told(tmp_path):
    def build(**options):
        return plugins.build(part("towers", "huggingface", **options))

    vit = str(tower_folders.folder("vit"))
    with pytest.raises(ConfigError) as told:
        build(model="nobody/nothing")
    assert str(told.value) == (
        "tower.model=nobody/nothing is neither a folder, nor a hub model that can be had (the hub "
        "can't be reached and there is no copy here); check the name, or download it and give its "
        "folder."
    )
    for options, words in (
        ({}, "needs model=FOLDER_OR_HUB_ID"),
        ({"model": vit, "pooling": "max"}, "Known: attention, mean, own"),
        ({"model": vit, "pooling": "attention"}, "ViTModel has no attention pooling"),
        ({"model": vit, "pooling": "projected"}, "for models of two towers"),
        ({"model": vit, "norm": False}, "norm=false goes with"),
        ({"model": vit, "resolution": 0}, "resolution must be at least 1"),
        ({"model": vit, "resolution": 7}, "images of 7 x 7 pixels don't go through"),
        ({"model": str(tower_folders.folder("convnext")), "layer": 1}, "has stages"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(**options)
    shape = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertModel(shape).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"of the type 'bert' sees no images"):
        build(model=str(tmp_path / "bert"))
    broken = shutil.copytree(vit, tmp_path / "broken")
    values = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 4}))
    with pytest.raises(ConfigError, match=r"lack 16 of the model's weights"):
        build(model=str(broken))
    (broken / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="can't be read"):
        build(model=str(broken))
    (broken / "model.safetensors").unlink()
    (broken / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ConfigError, match="no weights in safetensors"):
        build(model=str(broken))


def test_a_saved_shape_reads_nothing_and_runs_no_code(monkeypatch):
    """The options of a saved model are a stranger's: no file, no hub, no kernel, no own code."""
    tower = tower_of("clip", pooling="projected")
    kept = plugins.kept(part("towers", "huggingface", model="x"), tower)
    hostile = {
        **kept.options["network"],
        "auto_map": {"AutoModel": "evil--x.Evil"},
        "_attn_implementation": "kernels-community/evil",
        "attn_implementation": "kernels-community/evil",
        "dtype": "float16",
        "nested": {"auto_map": {"AutoConfig": "evil--y.Evil"}},
    }
    monkeypatch.setattr(huggingface, "_folder", lambda _: pytest.fail("read a folder"))
    options = {**kept.options, "model": "evil/hub", "network": hostile}
    again = plugins.build(part("towers", "huggingface", **options)).eval()
    again.load_state_dict(tower.state_dict())
    x = images()
    assert torch.equal(again(x), tower(x))
    assert "evil" not in json.dumps(dict(again.config.network))
    assert plugins.pixels(part("towers", "huggingface", **options)) == {}
    for network in ({"model_type": "no-such-thing"}, {"model_type": 3}, {"x": 1}):
        with pytest.raises(ConfigError):
            plugins.build(part("towers", "huggingface", network=network, resolution=16))


def test_hardly_anything_of_the_text_half_is_kept():
    """A CLIP's text half has 63 million numbers, and rebuilding would draw them all."""
    kept = plugins.kept(
        part("towers", "huggingface", model="x"), tower_of("clip", pooling="projected")
    )
    text = kept.options["network"]["text_config"]
    assert text["num_hidden_layers"] == 1 and text["vocab_size"] == 8


def test_a_broken_torchvision_is_said(monkeypatch, tmp_path):
    """transformers would say that ViTModel can't be imported, and nothing of torchvision."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    assert loading.torchvision_fault() is None
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with (
        pytest.raises(ConfigError, match=r"torchvision installed here .*pip uninstall torchvision"),
        loading.loading("a/model", "image tower"),
    ):
        raise ModuleNotFoundError("Could not import module 'ViTModel'.")
    with (
        pytest.raises(ConfigError, match=r"could not be loaded \(ValueError: other\)"),
        loading.loading("a/model", "image tower"),
    ):
        raise ValueError("other")


def test_folders_are_left_as_they_are():
    folder = tower_folders.folder("vit")
    before = {p.name: p.stat().st_mtime_ns for p in Path(folder).iterdir()}
    tower_of("vit")
    assert {p.name: p.stat().st_mtime_ns for p in Path(folder).iterdir()} == before
