"""Models of open_clip are judged by the library's own vectors; timm's towers among them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lift.contenders import open_contender
from lift.errors import ConfigError, DataError

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::UserWarning")]

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
SHAPES = {
    "clip": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "custom": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": VISION | {"pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT | {"pool_type": "last", "proj_type": "linear", "no_causal_mask": True},
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
PIXELS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "resize_mode": "squash"}
TEXTS = ["a dog", "two red cats asleep on a sofa", " Ünïcode ", "", "word " * 40]


@pytest.fixture(scope="module", params=SHAPES)
def made(request, tmp_path_factory):
    """Return the library's whole model with norms moved, and its folder."""
    library = pytest.importorskip("open_clip", reason="needs the parity environment")
    torch.manual_seed(1)
    shape = SHAPES[request.param]
    plain = {name: value for name, value in shape.items() if name != "custom_text"}
    whole = library.CLIP if request.param == "clip" else library.CustomTextCLIP
    model = whole(**json.loads(json.dumps(plain)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp(request.param) / "model"
    folder.mkdir()
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    said = {"model_cfg": shape, "preprocess_cfg": PIXELS}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    return model.eval(), folder, library


@pytest.fixture(scope="module")
def judged(made):
    return open_contender(f"open_clip:model={made[1]}", device="cpu")


def pictures(side, count=3):
    return [
        np.random.default_rng(n).integers(0, 256, (side, side, 3), np.uint8) for n in range(count)
    ]


@torch.no_grad()
def test_vectors_are_the_librarys(made, judged):
    model, _, library = made
    side = judged.transform.resolution
    images = pictures(side)  # of the network's own size: nothing is resized
    see = library.image_transform(side, False, mean=PIXELS["mean"], std=PIXELS["std"])
    pixels = torch.stack([see(Image.fromarray(image)) for image in images])
    theirs = model.encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(judged.encode_images(images), theirs, atol=2e-5)
    tokens = library.get_tokenizer(f"local-dir:{made[1]}")
    theirs = model.encode_text(tokens([text.strip() for text in TEXTS]), normalize=True).numpy()
    np.testing.assert_allclose(judged.encode_texts(TEXTS), theirs, atol=2e-5)
    assert judged.cut(TEXTS).tolist() == [False, False, False, False, True]


def test_promises_of_the_room(made, judged, tmp_path):
    images = pictures(judged.transform.resolution)
    z = judged.encode_images(images)
    one = np.concatenate([judged.encode_images([image]) for image in images])
    np.testing.assert_allclose(one, z, atol=2e-6)
    assert np.array_equal(judged.encode_images([Image.fromarray(i) for i in images]), z)
    again = open_contender(f"open_clip:model={made[1]}", device="cpu")
    assert again.identity == judged.identity
    for name in ("visual.", "text" if "text_projection" not in made[0].state_dict() else "token"):
        folder = shutil.copytree(made[1], tmp_path / name)
        state = load_file(folder / "open_clip_model.safetensors")
        next(t for n, t in state.items() if n.startswith(name) and t.ndim > 1).view(-1)[0] += 1
        save_file(state, folder / "open_clip_model.safetensors")
        assert open_contender(f"open_clip:model={folder}").identity != judged.identity
    with pytest.raises(DataError):
        judged.encode_images([b"nothing"])


def test_costs_are_of_one_half_each(made, judged):
    found = judged.efficiency(batches=1)
    model = made[0]
    visual = sum(p.numel() for p in model.visual.parameters())
    every = sum(p.numel() for p in model.parameters())
    assert found.images.parameters == visual
    scale = 1 + (model.logit_bias is not None)
    assert found.texts.parameters == every - visual - scale
    assert found.texts.tokens == 18 and found.texts.flops > 1e5


@pytest.mark.parametrize(
    ("side", "options", "sentence"),
    [
        ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "others can run code"),
        ("text_cfg", {"tokenizer_kwargs": ["clean"]}, "others can run code"),
        ("text_cfg", {"hf_model_name": "/home/somebody/model"}, "no plain name"),
        ("text_cfg", {"hf_tokenizer_name": ["x"]}, "no plain name"),
        ("vision_cfg", {"timm_model_name": "hf-hub:somebody/model"}, "no plain name"),
        ("vision_cfg", {"timm_model_name": "../model"}, "no plain name"),
    ],
)
def test_a_folder_makes_the_library_run_and_read_nothing(made, tmp_path, side, options, sentence):
    folder = shutil.copytree(made[1], tmp_path / "model")
    file = folder / "open_clip_config.json"
    said = json.loads(file.read_text())
    said["model_cfg"][side] = {**said["model_cfg"][side], "hf_tokenizer_name": "bert", **options}
    if side == "vision_cfg":
        del said["model_cfg"][side]["hf_tokenizer_name"]
    mark = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(mark)!r}, 'w')\nclass Mine: pass\n")
    auto = {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}, "tokenizer_class": "Mine"}
    (folder / "tokenizer_config.json").write_text(json.dumps(auto))
    file.write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=sentence):
        open_contender(f"open_clip:model={folder}", device="cpu")
    assert not mark.exists()


def test_what_does_not_fit_is_told(made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "less")
    state = load_file(folder / "open_clip_model.safetensors")
    name = next(n for n in state if n.endswith("ln_final.weight"))
    save_file({n: t for n, t in state.items() if n != name}, folder / "open_clip_model.safetensors")
    with pytest.raises(ConfigError, match=r"lack 1 of the model's weights"):
        open_contender(f"open_clip:model={folder}")
    with pytest.raises(ConfigError, match="give the folder"):
        open_contender(
            f"open_clip:model={made[1]}/open_clip_config.json,"
            f"weights={made[1]}/open_clip_model.safetensors"
        )
    with pytest.raises(ConfigError, match="ViT-B-32"):
        open_contender("open_clip:model=ViT-B-33,weights=none")
