"""The tower in timm: from a folder, by timm alone, equal token by token on real photographs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

from export_models import (
    CLIP,
    SHIM,
    SIGLIP,
    SMALL,
    code_of,
    photographs,
    run_fresh,
    shaped,
    squares,
)
from lift.errors import ConfigError
from lift.export import export_model
from lift.heads import HeadConfig

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed"),
]

SHAPES = {
    "the paper's": (CLIP, HeadConfig(layers=2)),
    "clip": (CLIP | {"pooling": "token", "activation": "quick_gelu"}, HeadConfig(layers=1)),
    "siglip": (SIGLIP, HeadConfig(kind="residual")),
    "small recipes'": (SMALL, HeadConfig(layers=1)),
    "a class token alone": (SMALL | {"class_token": True}, HeadConfig(layers=1)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_layer_is_equal(name, tmp_path, shared_data):
    bundle = shaped(*SHAPES[name], resize="squash")
    exported = export_model(bundle, "timm", tmp_path / "out", images=photographs(shared_data, 3))
    assert not exported.unchecked
    judged = [one for one in exported.differences if one.tolerance is not None]
    assert len(judged) == 3 + 1 + 1
    assert max(one.largest for one in judged) <= 1e-5
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pretrained_cfg"]["crop_mode"] == "squash"


def test_another_resolution_than_the_towers_is_equal_too(tmp_path, shared_data):
    bundle = shaped(CLIP, HeadConfig(layers=1))
    transform = dataclasses.replace(bundle.transform, resolution=48)
    bundle.record = dataclasses.replace(bundle.record, transform=transform)
    exported = export_model(bundle, "timm", tmp_path / "out", images=photographs(shared_data, 2))
    judged = [one for one in exported.differences if one.tolerance is not None]
    assert len(judged) >= 4 and max(one.largest for one in judged) <= 1e-5


def test_the_card_runs_without_lift(tmp_path, shared_data):
    bundle = shaped(*SHAPES["the paper's"], mean=(0.4, 0.5, 0.6))
    photo = squares(photographs(shared_data, 1), 32)
    Image.fromarray(photo[0]).save(tmp_path / "image.jpg", format="PNG")
    export_model(bundle, "timm", tmp_path / "out", images=photo)
    code = SHIM + code_of(tmp_path / "out" / "README.md")
    code += "\nimport numpy\nnumpy.save('z.npy', z.numpy())\nnumpy.save('x.npy', tokens.numpy())"
    run_fresh(code, tmp_path)
    assert np.abs(np.load(tmp_path / "z.npy") - bundle.encode_images(photo)).max() <= 1e-5
    pixels = bundle.transform.normalise(torch.stack([bundle.transform.evaluate(photo[0])]))
    with torch.inference_mode():
        ours = bundle.side.tower.tokens(pixels, normed=True).numpy()
    assert np.abs(np.load(tmp_path / "x.npy")[:, 1:] - ours).max() <= 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize(
    ("shape", "words"),
    [(CLIP | {"patch_bias": True}, "patch_bias=false"), (SMALL | {"norm_eps": 1e-3}, "0.001")],
)
def test_what_timm_has_no_class_for_is_refused(shape, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        export_model(shaped(shape, HeadConfig(layers=1)), "timm", tmp_path / "out")
    assert not list(tmp_path.iterdir())
