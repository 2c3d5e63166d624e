"""The image side in open_clip: from a folder, by open_clip alone, equal on real photographs."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
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
    pytest.mark.skipif(
        importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed"
    ),
]

BASE = {"width": 768, "depth": 12, "heads": 12, "patch": 16, "resolution": 224}
MATRIX = HeadConfig(layers=1, bias=False)
SHAPES = {
    "the paper's": (CLIP, HeadConfig(layers=2), False),
    "clip": (CLIP | {"pooling": "token", "activation": "quick_gelu"}, MATRIX, True),
    "a matrix on the mean": (CLIP, MATRIX, True),
    "a bias": (CLIP, HeadConfig(layers=1), False),
    "no norm before": (
        SMALL | {"class_token": True, "patch_bias": False},
        HeadConfig(unit=True),
        False,
    ),
    "gelu_tanh": (CLIP | {"activation": "gelu_tanh"}, MATRIX, True),
}
LARGE = {
    "siglip": (BASE | {"pooling": "attention"}, HeadConfig(layers=1), True),
    "siglip gap": (BASE, HeadConfig(layers=2, hidden=48), True),
    "another head": (BASE, HeadConfig(layers=2), False),
}


@pytest.mark.parametrize("name", [*SHAPES, *LARGE])
def test_every_layer_is_equal(name, tmp_path, shared_data):
    shape, head, whole = (SHAPES | LARGE)[name]
    bundle = shaped(shape, head, resize="squash")
    exported = export_model(
        bundle, "open_clip", tmp_path / "out", images=photographs(shared_data, 2)
    )
    assert not exported.unchecked
    judged = [one for one in exported.differences if one.tolerance is not None]
    assert len(judged) == shape["depth"] + 1
    assert all(one.largest <= one.tolerance for one in judged)
    assert (tmp_path / "out" / "head.json").exists() is not whole


def test_another_resolution_than_the_towers_is_equal_too(tmp_path, shared_data):
    bundle = shaped(CLIP, MATRIX)
    transform = dataclasses.replace(bundle.transform, resolution=48)
    bundle.record = dataclasses.replace(bundle.record, transform=transform)
    exported = export_model(
        bundle, "open_clip", tmp_path / "out", images=photographs(shared_data, 2)
    )
    judged = [one for one in exported.differences if one.tolerance is not None]
    assert len(judged) >= 4 and max(one.largest for one in judged) <= 1e-5


@pytest.mark.parametrize("name", ["the paper's", "clip"])
def test_the_card_runs_without_lift(name, tmp_path, shared_data):
    shape, head, _ = SHAPES[name]
    bundle = shaped(shape, head, std=(0.2, 0.3, 0.4))
    photo = squares(photographs(shared_data, 1), 32)
    Image.fromarray(photo[0]).save(tmp_path / "image.jpg", format="PNG")
    export_model(bundle, "open_clip", tmp_path / "out", images=photo)
    code = SHIM + code_of(tmp_path / "out" / "README.md")
    code += "\nimport numpy\nnumpy.save('z.npy', z.numpy())\nprint(float(model.logit_scale.exp()))"
    code += """
try:
    model.encode_text(open_clip.tokenize(["a dog"]))
except Exception as error:
    print("raised", type(error).__name__)
"""
    said = run_fresh(code, tmp_path)
    assert np.abs(np.load(tmp_path / "z.npy") - bundle.encode_images(photo)).max() <= 1e-5
    assert float(said.split()[0]) == pytest.approx(20.0, rel=1e-6)
    assert "raised" in said, "a text must not become a vector of nothing"


@pytest.mark.parametrize("shape", [SIGLIP, SMALL, CLIP | {"pooling": "attention"}])
def test_what_open_clip_has_no_class_for_is_refused(shape, tmp_path):
    with pytest.raises(ConfigError, match=r"can't hold this tower.+none has this shape and size"):
        export_model(shaped(shape, HeadConfig(layers=1)), "open_clip", tmp_path / "out")
    assert not list(tmp_path.iterdir())
