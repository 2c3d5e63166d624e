"""Stored vectors alone: caches and files, keys and hashes, and what has no vector."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import contender_folders as folders
import lift
from lift.config import part
from lift.contenders import open_contender
from lift.errors import ConfigError, DataError, LiftError, MissingRows
from lift.text.encoder import build_encoder

IMAGES, TEXTS = folders.pictures(), list(folders.TEXTS)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return a folder of images with captions by their side, as `folder` reads it."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, (image, text) in enumerate(zip(IMAGES, TEXTS, strict=True)):
        (folder / f"{number}.png").write_bytes(image)
        (folder / f"{number}.txt").write_text(text)
    return folder


def test_both_sides_from_caches(pairs, tmp_path):
    model = lift.load(folders.bundle(tmp_path / "model"), device="cpu")
    data = [str(pairs)]
    lift.embed(data, out=tmp_path / "texts", encoder="hashing:dimensions=24", progress=False)
    tower = str(tmp_path / "model")
    lift.embed_images(data, out=tmp_path / "images", tower=tower, progress=False)
    words = f"vectors:images={tmp_path / 'images'},texts={tmp_path / 'texts'}"
    with pytest.raises(ConfigError, match=r"have 16 values, those of texts .* have 24"):
        open_contender(words)
    # a space as wide as the tower's
    narrow = part("text/encoders", "hashing", dimensions=16)
    lift.embed(data, out=tmp_path / "narrow", encoder="hashing:dimensions=16", progress=False)
    found = open_contender(f"vectors:images={tmp_path / 'images'},texts={tmp_path / 'narrow'}")
    h = model.features(IMAGES)
    wanted = h / np.linalg.norm(h, axis=1, keepdims=True)
    np.testing.assert_allclose(found.encode_images(IMAGES), wanted, atol=2e-3)  # float16
    rows = build_encoder(narrow).encode(TEXTS).rows
    np.testing.assert_allclose(found.encode_texts(TEXTS), rows, atol=2e-3)
    assert found.space == build_encoder(narrow).space
    again = open_contender(f"vectors:images={tmp_path / 'images'},texts={tmp_path / 'narrow'}")
    assert again.identity == found.identity


def test_images_by_the_keys_of_some_data(pairs, tmp_path):
    folder = folders.vectors(tmp_path, IMAGES, TEXTS)
    by_hash = f"vectors:images=[{folder}/images.npy],texts=[{folder}/texts.npy]"
    (folder / "images.txt").rename(folder / "keys.txt")
    (folder / "keys.txt").write_text("".join(f"{n}\n" for n in range(len(IMAGES))))
    named = f"{folder}/images.npy,texts={folder}/keys.txt"
    by_key = open_contender(
        f"vectors:images=[{named}],texts=[{folder}/texts.npy],data={pairs},name=mine,saw=coco"
    )
    assert by_key.name == "mine" and by_key.saw == ("coco",)
    rows = np.load(folder / "images.npy")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(by_key.encode_images(IMAGES[::-1]), rows[::-1], atol=1e-6)
    with pytest.raises(ConfigError, match=r"named by keys of samples.*give data="):
        open_contender(f"vectors:images=[{named},join=key],texts=[{folder}/texts.npy]")
    (folder / "keys.txt").rename(folder / "images.txt")
    assert open_contender(by_hash).identity != by_key.identity


def test_what_has_no_vector_is_counted(tmp_path):
    folder = folders.vectors(tmp_path, IMAGES[:3], TEXTS[:4])
    found = open_contender(f"vectors:images=[{folder}/images.npy],texts=[{folder}/texts.npy]")
    with pytest.raises(MissingRows, match=r"2 of 5 images have no vector .* hash '[0-9a-f]"):
        found.encode_images(IMAGES)
    with pytest.raises(MissingRows, match=r"1 of 5 texts .* the first is 'nothing at all'"):
        found.encode_texts(TEXTS)
    with pytest.raises(DataError, match="known by the bytes of their files"):
        found.encode_images([Image.new("RGB", (4, 4))])
    with pytest.raises(DataError, match="can't be read"):
        found.encode_images([tmp_path / "none.png"])


def test_nothing_there_is_one_sentence(tmp_path):
    for words in ("vectors:images=x,texts=y", f"vectors:images={tmp_path},texts={tmp_path}"):
        with pytest.raises(LiftError) as caught:
            open_contender(words)
        assert "\n" not in str(caught.value)


def test_a_record_of_costs_goes_through_json(tmp_path):
    folder = folders.vectors(tmp_path, IMAGES, TEXTS)
    found = open_contender(f"vectors:images=[{folder}/images.npy],texts=[{folder}/texts.npy]")
    assert json.loads(json.dumps(found.efficiency().to_dict()))["dimensions"] == folders.WIDTH
