"""Every file in contenders/ keeps the promises of `lift.terms.Encoder` and of its room."""

from __future__ import annotations

import dataclasses
import io
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import contender_folders as folders
from lift import plugins
from lift.config import Part
from lift.contenders import contender, open_contender
from lift.efficiency import Efficiency
from lift.errors import DataError, LiftError, MissingPackage
from lift.terms import Encoder

IMAGES, TEXTS = folders.pictures(), list(folders.TEXTS)
WORDS = "hashing:dimensions=24"


def _paired(folder: Path) -> str:
    return f"paired:model={folder},text=[{WORDS}]"


def _vectors(folder: Path) -> str:
    return f"vectors:images=[{folder}/images.npy],texts=[{folder}/texts.npy]"


# For each file: models as (what writes a folder, what names it). Those of open_clip are in
# tests/parity/test_contenders_open_clip.py: they need a torchvision.
CASES: dict[str, list[tuple[str, Callable[[Path], Path], Callable[[Path], str]]]] = {
    "lift": [("bundle", folders.bundle, str)],
    "paired": [("bundle", folders.bundle, _paired)],
    "huggingface": [
        ("clip", lambda f: folders.dual(f, "clip"), lambda f: f"huggingface:model={f}"),
        ("siglip", lambda f: folders.dual(f, "siglip"), lambda f: f"huggingface:model={f}"),
    ],
    "sentence_transformers": [
        ("old", folders.old_sentence_model, lambda f: f"sentence_transformers:model={f}"),
        ("router", folders.router, lambda f: f"sentence_transformers:model={f}"),
    ],
    "vectors": [("npy", lambda f: folders.vectors(f, IMAGES, TEXTS), _vectors)],
    "open_clip": [],
}
FLAT = [(name, *case) for name, cases in CASES.items() for case in cases]


@dataclasses.dataclass
class Judged:
    """A contender with what it was made from."""

    kind: str
    folder: Path
    words: Callable[[Path], str]
    encoder: Encoder

    def of(self, folder: Path) -> Encoder:
        return open_contender(self.words(folder), device="cpu")


@pytest.fixture(scope="module", params=FLAT, ids=lambda case: f"{case[0]}-{case[1]}")
def judged(request, tmp_path_factory):
    kind, name, write, words = request.param
    folder = tmp_path_factory.mktemp(name) / "model"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, while a model is saved
            folder = write(folder)
        return Judged(kind, folder, words, open_contender(words(folder), device="cpu"))
    except MissingPackage as error:
        pytest.skip(str(error))


def test_every_file_has_a_case():
    assert set(CASES) == set(plugins.names("contenders"))


def test_rows_have_unit_length_and_one_width(judged):
    z_image, z_text = judged.encoder.encode_images(IMAGES), judged.encoder.encode_texts(TEXTS)
    assert z_image.dtype == z_text.dtype == np.float32
    assert z_image.shape == (len(IMAGES), z_text.shape[1]) and len(z_text) == len(TEXTS)
    for rows in (z_image, z_text):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert np.abs(rows[0] - rows[1]).max() > 1e-4
    assert isinstance(judged.encoder, Encoder) and isinstance(judged.encoder.saw, tuple)
    assert str(judged.folder) not in judged.encoder.name


def test_nothing_gives_no_rows(judged):
    width = judged.encoder.encode_texts(TEXTS).shape[1]
    assert judged.encoder.encode_images([]).shape == (0, width)
    assert judged.encoder.encode_texts([]).shape == (0, width)


def test_order_and_neighbours_make_no_difference(judged):
    z_image, z_text = judged.encoder.encode_images(IMAGES), judged.encoder.encode_texts(TEXTS)
    back = judged.encoder.encode_images(IMAGES[::-1])[::-1]
    one = np.concatenate([judged.encoder.encode_images([image]) for image in IMAGES])
    np.testing.assert_allclose(back, z_image, atol=2e-6)
    np.testing.assert_allclose(one, z_image, atol=2e-6)
    one = np.concatenate([judged.encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(judged.encoder.encode_texts(TEXTS[::-1])[::-1], z_text, atol=2e-6)
    np.testing.assert_allclose(one, z_text, atol=2e-6)


def test_an_image_is_one_however_it_comes(judged, tmp_path):
    z_image = judged.encoder.encode_images(IMAGES[:2])
    paths = [tmp_path / f"{n}.png" for n in range(2)]
    for path, content in zip(paths, IMAGES, strict=False):
        path.write_bytes(content)
    assert np.array_equal(judged.encoder.encode_images(paths), z_image)
    opened = [Image.open(io.BytesIO(content)) for content in IMAGES[:2]]
    if judged.kind == "vectors":
        with pytest.raises(DataError, match="known by the bytes"):
            judged.encoder.encode_images(opened)
        return
    assert np.array_equal(judged.encoder.encode_images(opened), z_image)
    assert np.array_equal(judged.encoder.encode_images([np.array(o) for o in opened]), z_image)


def test_a_damaged_image_is_one_sentence(judged):
    with pytest.raises(LiftError) as caught:
        judged.encoder.encode_images([IMAGES[0], IMAGES[1][:200]])
    assert "\n" not in str(caught.value)


def test_identity_is_of_the_content_alone(judged, tmp_path):
    again = judged.of(judged.folder)
    moved = judged.of(shutil.copytree(judged.folder, tmp_path / "moved"))
    assert again.identity == judged.encoder.identity == moved.identity
    assert np.array_equal(moved.encode_images(IMAGES), judged.encoder.encode_images(IMAGES))
    if judged.kind == "vectors":
        other = judged.of(folders.vectors(tmp_path / "other", IMAGES, TEXTS, seed=1))
    else:
        other = judged.of(folders.changed(judged.folder, tmp_path / "other"))
    assert other.identity != judged.encoder.identity


def test_what_is_longer_than_the_cap_is_told(judged):
    tell = getattr(judged.encoder, "cut", None)
    if tell is None:
        assert judged.kind == "vectors"
        return
    long = " ".join(f"word{n}" for n in range(200))
    assert tell(["a dog", long, ""]).tolist() == [False, True, False]


def test_texts_that_name_images_are_texts(judged, tmp_path):
    """No caption makes a model read a file or an address."""
    if judged.kind == "vectors":
        pytest.skip("stored texts only")
    file = tmp_path / "x.png"
    file.write_bytes(IMAGES[0])
    odd = [str(file), "http://127.0.0.1:9/x.png", "data:image/png;base64,AAAA"]
    z = judged.encoder.encode_texts(odd)
    z_image = judged.encoder.encode_images(IMAGES[:1])
    assert z.shape[0] == 3 and np.abs(z[0] - z_image[0]).max() > 1e-3


def test_costs_are_measured(judged):
    found = judged.encoder.efficiency(batches=1)
    assert Efficiency.from_dict(found.to_dict()) == found
    width = judged.encoder.encode_texts(TEXTS).shape[1]
    assert found.dimensions == width and found.stored["float32"] == 4 * width
    assert "measured on this machine" in found.table()
    if judged.kind == "vectors":
        assert found.images is None and found.texts is None and "elsewhere" in found.notes[0]
        return
    assert found.images.parameters > 1000 and found.images.flops > 1000
    assert found.images.slowest <= found.images.per_second <= found.images.fastest
    if judged.kind in ("huggingface", "sentence_transformers"):
        assert found.texts.parameters > 1000 and found.texts.flops > 1000
        assert 5 < found.texts.tokens < 60
    if judged.kind == "huggingface":
        assert judged.encoder.efficiency(texts=False, batches=1).texts is None


def test_features_are_the_rows_before_their_length(judged):
    if judged.kind in ("vectors", "lift", "paired"):
        pytest.skip("none, or in front of a head")
    h = judged.encoder.features(IMAGES)
    z = torch.nn.functional.normalize(torch.from_numpy(h), dim=1)
    np.testing.assert_allclose(z, judged.encoder.encode_images(IMAGES), atol=1e-6)


def test_words_name_a_contender(judged):
    found = contender(judged.words(judged.folder))
    assert isinstance(found, Part) and (found.room, found.name) == ("contenders", judged.kind)
