"""Exports to sentence-transformers: which classes go out, what they compute, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tower_folders
from embedder_models import CLIP, model, text_folder
from lift.config import part
from lift.errors import CheckpointError, ConfigError
from lift.export import export_model
from lift.heads import HeadConfig

pytest.importorskip("sentence_transformers")

LIBRARY = {
    "mean": {},
    "attention": {
        "pooling": "attention",
        "activation": "gelu_tanh",
        "transform": {"resize": "center_crop"},
    },
    "clip-token": {
        **CLIP,
        "pooling": "token",
        "activation": "quick_gelu",
        "transform": {"canvas": 40, "interpolation": "bilinear"},
    },
    "no-head": {"head": HeadConfig(layers=0), "width": 24, "transform": {"resolution": 48}},
    "three-layers": {"head": HeadConfig(layers=3, hidden=12, bias=False)},
    "standardised": {"head": HeadConfig(layers=2, hidden=12, unit=True, standardise=True)},
    "before": {
        "head": HeadConfig(
            layers=1, unit=True, before=HeadConfig(layers=1, standardise=True), between=10
        )
    },
}
OWN = {
    "paper": {**CLIP, "pooling": "mean"},
    "gated": {
        "class_token": True,
        "pooling": "token",
        "resolution": 24,
        "head": HeadConfig(kind="gated", hidden=12, unit=True, standardise=True),
        "transform": {"resize": "center_crop"},
    },
    "residual": {
        "pooling": "attention",
        "head": HeadConfig(
            kind="residual",
            layers=3,
            dropout=0.1,
            before=HeadConfig(layers=2, hidden=9),
            between=10,
        ),
        "transform": {"canvas": 40},
    },
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    return text_folder(tmp_path_factory.mktemp("texts") / "embedder")


@pytest.fixture(autouse=True)
def _modules_of_strangers(tmp_path, monkeypatch):
    """Keep module files that are loaded out of the user's own cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))


def largest(exported, word: str) -> float:
    (found,) = (one.largest for one in exported.differences if word in one.what)
    return found


@pytest.mark.parametrize("case", LIBRARY, ids=str)
def test_the_librarys_own_classes_compute_the_same(case, texts, tmp_path):
    done = export_model(model(texts, **LIBRARY[case]), "sentence-transformers", tmp_path / "out")
    assert largest(done, "same pixels") <= 1e-6
    assert largest(done, "text") == 0
    assert 0 < largest(done, "preprocessing") < 0.5
    assert not list((tmp_path / "out").rglob("*.py"))
    assert any("no trust_remote_code" in note for note in done.notes)


@pytest.mark.parametrize("case", OWN, ids=str)
def test_a_module_file_computes_the_same_from_the_pictures_on(case, texts, tmp_path):
    done = export_model(model(texts, **OWN[case]), "sentence_transformers", tmp_path / "out")
    assert largest(done, "same pixels") <= 1e-6
    assert largest(done, "preprocessing") <= 1e-6
    assert largest(done, "text") == 0
    assert [path.name for path in (tmp_path / "out").rglob("*.py")] == ["lift_image.py"]
    assert any("needs trust_remote_code=True, because" in note for note in done.notes)
    assert "trust_remote_code=True" in (tmp_path / "out" / "README.md").read_text()


FRESH = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lift", "jaxtyping"):
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Blocked())
import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer
plain, own, texts, pictures, out = json.loads(sys.argv[1])
try:
    SentenceTransformer(own, device="cpu")
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise AssertionError("code ran without trust")
found = {}
for name, folder, trust in (("plain", plain, False), ("own", own, True)):
    model = SentenceTransformer(folder, device="cpu", trust_remote_code=trust)
    found[name] = model.encode([Image.open(path) for path in pictures], batch_size=3)
    found[name + " paths"] = model.encode(pictures)
    found[name + " query"] = model.encode_query(texts)
    found[name + " texts"] = model.encode(texts)
    found[name + " told"] = model.encode([pictures[0]], modality="text")
    assert np.asarray(model.similarity(found[name], found[name + " texts"])).shape == (6, 3)
    try:
        model.encode([Image.open(pictures[0]), "a dog"])
    except ValueError as error:
        assert "modalit" in str(error), error
    else:
        raise AssertionError("a mixed list went through")
assert not any(name.partition(".")[0] == "lift" for name in sys.modules)
np.savez(out, **found)
"""


@pytest.mark.slow
def test_a_fresh_process_without_lift_loads_both_ways(texts, shared_data, tmp_path):
    """On real photographs, as files, with nothing of ours to be imported."""
    bundle = model(texts, transform={"resize": "center_crop", "canvas": 48}, prompt="find: ")
    export_model(bundle, "sentence-transformers", tmp_path / "plain")
    export_model(bundle, "sentence-transformers", tmp_path / "own", options=["own_code=true"])
    captions = ["a dog on a beach", "zwei rote autos", "snow " * 100]
    pictures = photographs(shared_data, tmp_path)
    words = [str(tmp_path / "plain"), str(tmp_path / "own"), captions, pictures]
    asked = json.dumps([*words, str(tmp_path / "found.npz")])
    run = subprocess.run(
        [sys.executable, "-I", "-c", FRESH, asked],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "hf2"), "HF_HUB_OFFLINE": "1"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = np.load(tmp_path / "found.npz")
    ours = bundle.encode_images(pictures)
    encoder = bundle.text_encoder.model  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["own"], ours, atol=1e-5)
    np.testing.assert_allclose((found["plain"] * ours).sum(1), 1, atol=0.02)
    for name in ("plain", "own"):
        np.testing.assert_array_equal(found[f"{name} paths"], found[name])
        np.testing.assert_array_equal(
            found[f"{name} texts"], encoder.encode(captions, prompt="find: ")
        )
        np.testing.assert_allclose(found[f"{name} texts"], bundle.encode_texts(captions), atol=1e-6)
        assert np.abs(found[f"{name} told"][0] - found[name][0]).max() > 1e-3


def photographs(shared_data: Path, tmp_path: Path) -> list[str]:
    """Return the paths of six photographs."""
    found = []
    with tarfile.open(shared_data / "flickr8k" / "val-0000.tar") as archive:
        for member in archive:
            if member.name.endswith(".jpg") and len(found) < 6:
                path = tmp_path / Path(member.name).name
                path.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
                found.append(str(path))
    return found


def test_a_prompt_of_the_space_is_used_unless_told(texts, tmp_path):
    from sentence_transformers import SentenceTransformer

    for name, prompt in (("known", "find: "), ("new", "picture of ")):
        bundle = model(texts, prompt=prompt)
        done = export_model(bundle, "sentence-transformers", tmp_path / name)
        assert largest(done, "text") == 0 and largest(done, "same pixels") <= 1e-6
        loaded = SentenceTransformer(str(tmp_path / name), device="cpu")
        assert loaded.prompts[loaded.default_prompt_name or ""] == prompt
        assert loaded.prompts["query"] == "find: "
        rows = loaded.encode(["a dog"], prompt="")
        assert np.abs(rows - bundle.encode_texts(["a dog"])).max() > 1e-3


def test_an_empty_prompt_stays_empty_where_the_encoder_has_one_by_itself(tmp_path):
    folder = text_folder(tmp_path / "texts")
    prompts = {"prompts": {"query": "find: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    done = export_model(model(folder, prompt=""), "sentence-transformers", tmp_path / "out")
    assert largest(done, "text") == 0


def test_a_network_of_a_strangers_code_is_refused(texts, tmp_path):
    """It sits within the library's own module, and only its weights would go along."""

    class Theirs(torch.nn.Identity):
        pass

    bundle = model(texts)
    bundle.text_encoder.model[0].add_module("theirs", Theirs())  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="brings code of its own"):
        export_model(bundle, "sentence-transformers", tmp_path / "out")


def test_images_alone_of_a_space_that_is_no_folder(tmp_path):
    from sentence_transformers import SentenceTransformer

    hashing = part("text/encoders", "hashing", dimensions=24)
    for options, trust in ([], False), (["own_code=true"], True):
        bundle, out = model(hashing), tmp_path / str(trust)
        with pytest.raises(ConfigError, match=r"text/encoders/hashing.*texts=false exports the"):
            export_model(bundle, "sentence-transformers", out, options=options)
        assert not out.exists()
        options = [*options, "texts=false"]
        done = export_model(bundle, "sentence-transformers", out, options=options)
        assert not any("text" in one.what for one in done.differences)
        loaded = SentenceTransformer(str(out), device="cpu", trust_remote_code=trust)
        assert loaded.encode([Image.new("RGB", (40, 30))]).shape == (1, 24)
        assert loaded.get_embedding_dimension() == 24


def test_rows_that_are_cut_short_are_refused(texts, tmp_path):
    cut = part(
        "text/encoders", "sentence_transformer", model=str(texts), dimensions=8, matryoshka=True
    )
    with pytest.raises(ConfigError, match="first 8 values of longer ones"):
        export_model(model(cut), "sentence-transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_module_file_stands_alone(texts, tmp_path, monkeypatch):
    """It encodes without sentence-transformers, and sees odd pictures as the model does."""
    bundle = model(texts, **OWN["paper"])
    export_model(bundle, "sentence-transformers", tmp_path / "out")
    source = (tmp_path / "out" / "lift_image.py").read_text()
    imported = {
        line.split()[1].partition(".")[0]
        for line in source.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported == {"json", "os", "numpy", "torch", "PIL", "safetensors"}
    names: dict = {}
    exec(compile(source, "lift_image.py", "exec"), names)
    stranger = names["LiftImage"].load(str(tmp_path / "out"), "image_0_LiftImage")
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (30, 50, 4), np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 65536, (40, 30), np.uint16))
    turned = Image.fromarray(rng.integers(0, 256, (20, 60, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    palette = turned.convert("P")
    odd: list[object] = [
        rgba,
        deep,
        palette,
        turned.convert("L"),
        turned.convert("CMYK"),
        rgba.convert("LA"),
    ]
    odd.append(str(tmp_path / "turned.jpg"))
    np.testing.assert_allclose(stranger.encode_images(odd), bundle.encode_images(odd), atol=1e-6)
    monkeypatch.setitem(names, "MAX_PIXELS", 100)
    with pytest.raises(ValueError, match="50 x 30 pixels is too large"):
        stranger.encode_images([rgba])


def test_what_differs_too_much_is_not_left(texts, tmp_path):
    out = tmp_path / "out"
    first = export_model(model(texts, seed=1), "sentence-transformers", out)
    before = (out / "lift_export.json").read_bytes()
    folded = HeadConfig(layers=1, standardise=True)  # into a matrix: equal but for rounding
    bundle = model(texts, seed=2, head=folded)
    with pytest.raises(CheckpointError, match=r"is not the model: image vectors.*Nothing was left"):
        export_model(bundle, "sentence-transformers", out, options=["tolerance=1e-12"])
    assert (out / "lift_export.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name != "hf"] == ["out"]
    done = export_model(bundle, "sentence-transformers", out, tolerance=0.1)  # replaced
    assert {one.tolerance for one in done.differences} == {None, 0.1}
    assert first.folder == done.folder
    (out / "notes.txt").write_text("somebody's own")
    with pytest.raises(CheckpointError, match="something else than an export"):
        export_model(bundle, "sentence-transformers", out)
    assert (out / "notes.txt").exists()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("siglip_vision", {}), ("dinov2", {"pooling": "token"}), ("convnext", {"pooling": "mean"})],
)
def test_networks_of_transformers_go_out_as_they_are(kind, options, texts, tmp_path):
    """Behind one, a head with a branch is all that the module file is for."""
    tower = part("towers", "huggingface", model=str(tower_folders.folder(kind)), **options)
    looks = {"resolution": 16}
    bundle = model(texts, tower=tower, transform=looks, head=HeadConfig(layers=1))
    done = export_model(bundle, "sentence-transformers", tmp_path / "plain")
    assert largest(done, "same pixels") <= 1e-6 and largest(done, "text") == 0
    assert not list((tmp_path / "plain").rglob("*.py"))
    gated = model(texts, tower=tower, transform=looks, head=HeadConfig(kind="gated", hidden=9))
    done = export_model(gated, "sentence-transformers", tmp_path / "gated")
    assert largest(done, "same pixels") <= 1e-6
    assert [path.name for path in (tmp_path / "gated").rglob("*.py")] == ["lift_image.py"]
    with pytest.raises(ConfigError, match="own_code=true is for towers/vit"):
        export_model(bundle, "sentence-transformers", tmp_path / "no", options=["own_code=true"])


def test_a_network_whose_vector_nobody_else_computes_is_refused(texts, tmp_path):
    folder = tower_folders.folder("vit")
    tower = part("towers", "huggingface", model=str(folder), pooling="token+mean")
    bundle = model(texts, tower=tower, transform={"resolution": 16})
    with pytest.raises(ConfigError, match=r"ViTModel with pooling=token\+mean .* --to onnx"):
        export_model(bundle, "sentence-transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
