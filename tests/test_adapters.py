"""What adapters do without the projects that they are for; with them: tests/parity."""

from __future__ import annotations

import importlib.util
import pickle

import numpy as np
import pytest
import torch

import contender_folders as folders
from lift.adapters import clip_benchmark, mteb
from lift.contenders import open_contender
from lift.errors import CheckpointError, ConfigError, MissingPackage

IMAGES, TEXTS = folders.pictures(3), list(folders.TEXTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.bundle(tmp_path_factory.mktemp("adapters") / "mine")


def test_clip_benchmark_sees_the_models_own_vectors(folder):
    judged = open_contender(str(folder), device="cpu")
    for words in ((str(folder), "any"), ("lift", str(folder))):
        model, transform, tokenizer = clip_benchmark.load(*words, None, device="cpu")
        transform = pickle.loads(pickle.dumps(transform))  # it goes to workers of a loader
        pixels = torch.stack([transform(image) for image in IMAGES])
        with torch.autocast("cpu", torch.bfloat16):
            z = model.eval().to("cpu").encode_image(pixels)
        assert not z.requires_grad and np.array_equal(z.numpy(), judged.encode_images(IMAGES))
        tokens = tokenizer(TEXTS).to("cpu")
        assert np.array_equal(model.encode_text(tokens).numpy(), judged.encode_texts(TEXTS))
    assert len(tokenizer("a dog")) == 1
    with pytest.raises(CheckpointError):
        clip_benchmark.load("ViT-B-32", "openai", None, device="cpu")


def test_mteb_gets_vectors_by_what_an_item_has(folder):
    judged = open_contender(str(folder), device="cpu")
    adapted = mteb.MtebModel(judged)
    rows = adapted.encode([{"image": IMAGES[:2]}, {"image": IMAGES[2:]}], task_metadata=None)
    np.testing.assert_allclose(rows, judged.encode_images(IMAGES), atol=1e-6)
    assert np.array_equal(adapted.encode([{"text": TEXTS}]), judged.encode_texts(TEXTS))
    with pytest.raises(ConfigError, match="no vector for audio"):
        adapted.encode([{"audio": [0]}])


def test_what_is_not_installed_is_named(folder):
    if importlib.util.find_spec("clip_benchmark") is None:
        with pytest.raises(MissingPackage, match=r"lift-align\[clip_benchmark\]"):
            clip_benchmark.main(["eval"])
    if importlib.util.find_spec("mteb") is None:
        with pytest.raises(MissingPackage, match=r"lift-align\[mteb\]"):
            _ = mteb.model(str(folder), device="cpu").mteb_model_meta
