"""Images of a model of ours with texts from a server, or from another encoder of its space."""

from __future__ import annotations

import numpy as np
import pytest

import contender_folders as folders
import lift
from embedding_server import EmbeddingServer
from lift.contenders import open_contender
from lift.errors import ConfigError, SpaceMismatch

TEXTS = list(folders.TEXTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.bundle(tmp_path_factory.mktemp("paired") / "model")


def test_a_server_with_an_image_tower(folder):
    """The server runs the model's own text encoder under another name: its rows tell."""
    model = lift.load(folder, device="cpu")
    with EmbeddingServer(dimensions=folders.WIDTH, max_tokens=64) as server:
        text = f"api:model=words,url={server.url},dimensions={folders.WIDTH},max_tokens=999"
        with pytest.raises(SpaceMismatch, match="fingerprint"):
            open_contender(f"paired:model={folder},text=[{text}]")
        found = open_contender(f"paired:model={folder},text=[{text}],by=probes")
        np.testing.assert_allclose(found.encode_texts(TEXTS), model.encode_texts(TEXTS), atol=1e-6)
        assert found.identity != model.identity and found.name == f"{model.name} with texts of api"
        costs = found.efficiency(batches=1)
        assert costs.texts.parameters is None and costs.texts.flops is None
        assert costs.texts.per_second > 0 and costs.images.parameters > 1000
    images = folders.pictures()
    assert np.array_equal(found.encode_images(images), model.encode_images(images))
    assert np.array_equal(found.features(images), model.features(images))


@pytest.mark.parametrize("dimensions, words", [(24, "smallest cosine"), (32, "of 32 values")])
def test_another_encoder_is_refused_by_its_rows(folder, dimensions, words):
    text = f"hashing:dimensions={dimensions},seed=1"
    with pytest.raises(SpaceMismatch, match="fingerprint"):
        open_contender(f"paired:model={folder},text=[{text}]")
    with pytest.raises(SpaceMismatch, match=words):
        open_contender(f"paired:model={folder},text=[{text}],by=probes")


def test_without_a_text_encoder(folder):
    with pytest.raises(ConfigError, match="needs text=ENCODER"):
        open_contender(f"paired:model={folder}")
    (folder / "probes.arrow").rename(folder.parent / "probes.arrow")
    try:
        with pytest.raises(ConfigError, match="holds no probes"):
            open_contender(f"paired:model={folder},text=[hashing:dimensions=24],by=probes")
    finally:
        (folder.parent / "probes.arrow").rename(folder / "probes.arrow")
