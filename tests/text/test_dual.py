"""The text half of a two-tower model: the library's own rows, padded as it was trained."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from lift.config import part
from lift.errors import ConfigError
from lift.text.encoder import build_encoder, space_of

transformers = pytest.importorskip("transformers")
import dual_folders  # noqa: E402

TEXTS = ["a dog on the beach", "Two men play cards.", "x", "a very long day " * 20]


def encoder_of(kind, **options):
    of = part("text/encoders", "dual", model=str(dual_folders.folder(kind)), **options)
    return build_encoder(of, "cpu")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_rows_are_the_librarys(kind):
    folder = dual_folders.folder(kind)
    network = getattr(transformers, {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind])
    network = network.from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    # As the library's own pages say: CLIP's batches are padded to their longest text, SigLIP's
    # always to all positions, without a mask.
    padding = "max_length" if kind == "siglip" else True
    inputs = words(TEXTS, padding=padding, truncation=True, max_length=24, return_tensors="pt")
    mask = {"attention_mask": inputs["attention_mask"]} if kind == "clip" else {}
    theirs = network.get_text_features(inputs["input_ids"], **mask).pooler_output
    encoder = encoder_of(kind, normalised=False)
    found = encoder.encode(TEXTS)
    assert np.abs(found.rows - theirs.numpy()).max() < 1e-5
    assert found.truncated.tolist() == [False, False, False, True]
    rows = encoder_of(kind).encode(TEXTS).rows
    unit = torch.nn.functional.normalize(theirs, dim=1).numpy()
    assert np.abs(rows - unit).max() < 1e-6
    assert (encoder.encode(TEXTS[:3]).padded == 3 * 24) == (kind == "siglip")
    assert encoder.space.dimensions == (24 if kind == "clip" else 32)
    assert ("padded24" in encoder.space.pooling) == (kind == "siglip")


def test_the_space_is_known_by_content(tmp_path):
    moved = shutil.copytree(dual_folders.folder("clip"), tmp_path / "moved")
    here = space_of(part("text/encoders", "dual", model=str(dual_folders.folder("clip"))))
    there = space_of(part("text/encoders", "dual", model=str(moved)))
    assert here == there and here.revision.startswith("sha256:")
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(bytes(weights))
    assert space_of(part("text/encoders", "dual", model=str(moved))) != here


def test_the_image_half_is_left_out():
    encoder = encoder_of("clip")
    names = encoder._network.state_dict()
    assert not any(name.startswith(("vision", "visual")) for name in names)
    assert not any(p.requires_grad for p in encoder._network.parameters())


def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"max_tokens is 25, .* has 24 positions"):
        encoder_of("clip", max_tokens=25)
    with pytest.raises(ConfigError, match="max_tokens must be positive"):
        encoder_of("clip", max_tokens=0)
    shape = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=30
    )
    transformers.BertModel(shape).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"is a bert, no model of an image and a text tower"):
        space_of(part("text/encoders", "dual", model=str(tmp_path / "bert")))
    broken = shutil.copytree(dual_folders.folder("clip"), tmp_path / "broken")
    values = json.loads((broken / "config.json").read_text())
    values["text_config"]["num_hidden_layers"] = 3
    (broken / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"lack 16 of the model's weights"):
        build_encoder(part("text/encoders", "dual", model=str(broken)), "cpu")
    values["text_config"] |= {"num_hidden_layers": 2}
    (broken / "config.json").write_text(json.dumps(values))
    (broken / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (broken / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_encoder(part("text/encoders", "dual", model=str(broken)), "cpu")
