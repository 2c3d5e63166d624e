"""The tower as a vision model of transformers: patch tokens of every layer, vectors, and LLaVA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from export_models import CLIP, SIGLIP, SMALL, code_of, photographs, run_fresh, shaped, squares
from lift.errors import ConfigError
from lift.export import export_model
from lift.export.transformers import TransformersExporter, layout_of
from lift.heads import HeadConfig
from lift.model import Side
from lift.towers import vit

SHAPES = {
    "the paper's": (CLIP, HeadConfig(layers=2), "CLIPVisionModel"),
    "clip": (
        CLIP | {"pooling": "token", "activation": "quick_gelu"},
        HeadConfig(layers=1, bias=False),
        "CLIPVisionModel",
    ),
    "siglip": (SIGLIP, HeadConfig(layers=2, kind="gated", unit=True), "SiglipVisionModel"),
    "small recipes'": (
        SMALL,
        HeadConfig(standardise=True, before=HeadConfig(layers=1), between=20),
        "SiglipVisionModel",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_layer_is_equal(name, tmp_path, shared_data):
    shape, head, kind = SHAPES[name]
    bundle = shaped(shape, head)
    exported = export_model(
        bundle, "transformers", tmp_path / "out", images=photographs(shared_data, 3)
    )
    judged = [one for one in exported.differences if one.tolerance is not None]
    # what enters the first block, what leaves the others, what leaves the last; vectors
    assert len(judged) == 3 + 1 + 1
    assert max(one.largest for one in judged) <= 1e-5
    assert any(kind in note for note in exported.notes)
    strategy = "default" if kind.startswith("CLIP") else "full"
    assert any(f'vision_feature_select_strategy="{strategy}"' in note for note in exported.notes)
    dropped = any("never trained to read" in note for note in exported.notes)
    assert dropped is (name == "the paper's")


@pytest.mark.slow
def test_the_cards_run_without_lift(tmp_path, shared_data):
    """Both classes in one new process: what LLaVA takes, and vectors in the text space."""
    bundles = {}
    code = "import numpy\n"
    photo = squares(photographs(shared_data, 1), 32)
    Image.fromarray(photo[0]).save(tmp_path / "image.jpg", format="PNG")
    for name in ("the paper's", "siglip"):
        shape, head, kind = SHAPES[name]
        bundles[kind] = shaped(shape, head)
        out = tmp_path / kind
        exporter = export_model(bundles[kind], "transformers", out, images=photo)
        assert exporter.differences[-1].largest <= 1e-5  # nothing to resize
        code += code_of(out / "README.md")
        code += f"\nnumpy.save('{kind}-patches.npy', patches)"
        code += f"\nnumpy.save('{kind}-z.npy', z.detach().numpy())\ndel sys.modules['lift_image']\n"
    run_fresh(code, tmp_path)
    for kind, bundle in bundles.items():
        pixels = bundle.transform.normalise(torch.stack([bundle.transform.evaluate(photo[0])]))
        with torch.inference_mode():
            ours = bundle.side.tower.tokens(pixels, -2).numpy()
        patches = np.load(tmp_path / f"{kind}-patches.npy")
        assert patches.shape == ours.shape
        assert np.abs(patches - ours).max() <= 1e-5 * max(1, np.abs(ours).max())
        z = np.load(tmp_path / f"{kind}-z.npy")
        assert np.abs(z - bundle.encode_images(photo)).max() <= 1e-5


def test_the_paper_recipe_is_a_clip_vision_model():
    from lift import recipes

    tower = recipes.get("lift_b16_512m").tower
    config = vit.Config(**tower.options)
    bundle = shaped(CLIP, HeadConfig(layers=1))
    with torch.device("meta"):
        bundle.side = Side(vit.build(config), None)
    assert layout_of(bundle) == "transformers_clip"


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (SMALL | {"class_token": True}, "class_token=false"),
        (CLIP | {"patch_bias": True}, "patch_bias=false"),
        (CLIP | {"pooling": "attention"}, "can't pool by attention"),
    ],
)
def test_trunks_between_the_classes_are_refused(shape, words, tmp_path):
    with pytest.raises(ConfigError, match="no class of transformers is a trunk") as raised:
        export_model(shaped(shape, HeadConfig(layers=1)), "transformers", tmp_path / "out")
    assert words in str(raised.value) and "--to timm or onnx" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_another_librarys_tower_is_refused(tmp_path):
    bundle = shaped(CLIP, HeadConfig(layers=1))
    bundle.side = Side(torch.nn.Flatten(), None)
    with pytest.raises(ConfigError, match="no towers/vit"):
        export_model(bundle, "transformers", tmp_path / "out")


def test_other_weights_are_found_out(tmp_path, shared_data):
    photos = photographs(shared_data, 2)
    bundle = shaped(CLIP, HeadConfig(layers=1))
    export_model(bundle, "transformers", tmp_path / "out", images=photos)
    with torch.no_grad():
        bundle.side.tower.blocks[1].attention.out.bias[0] += 1e-3
    found = TransformersExporter().check(bundle, tmp_path / "out", photos)
    over = [one.what for one in found if one.tolerance and one.largest > one.tolerance]
    assert over[0] == "patch tokens of hidden_states[2]"
