"""The image side as a graph: by onnxruntime equal to the model, alone and with its pixels."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tarfile

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from export_models import CLIP, SIGLIP, code_of, photographs, run_fresh, shaped, squares
from lift import plugins
from lift.config import part
from lift.errors import CheckpointError, ConfigError
from lift.export import _onnx_graph as graphs
from lift.export import _onnx_judged as judged
from lift.export import export_model
from lift.export.onnx import Config, OnnxExporter, session
from lift.heads import HeadConfig, build_head
from lift.model import Side

SHORT = SIGLIP | {"depth": 2}
WITHOUT = ("lift", "torch", "onnx", "transformers")


@pytest.fixture(scope="module")
def bundle():
    return shaped(SHORT, HeadConfig(layers=2), canvas=40)


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory, shared_data):
    out = tmp_path_factory.mktemp("onnx") / "model"
    exported = export_model(bundle, "onnx", out, images=photographs(shared_data, 6))
    assert any("loses of recall was not measured" in note for note in exported.notes)
    by_name = {one.what: one for one in exported.differences}
    assert len(by_name) == 4
    assert by_name["float32 image vectors, from the same pixels"].count == 7
    assert by_name["float32 image vectors, from the same pixels"].largest < 1e-6
    assert 0.99 < by_name["int8 image vectors, from the same pixels"].cosine < 1
    return out


@pytest.mark.parametrize("count", [1, 3, 17])
def test_any_number_of_images(bundle, folder, count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    theirs = session(folder / "model.onnx").run(None, {"pixels": pixels})[0]
    with torch.inference_mode():
        ours = bundle.side(bundle.transform.normalise(torch.from_numpy(pixels))).numpy()
    assert np.abs(theirs - ours).max() < 1e-6
    assert np.abs(np.linalg.norm(theirs, axis=1) - 1).max() < 1e-6


def test_int8_matrices_are_a_quarter_and_take_seven_bits(folder):
    graph = onnx.load(folder / "model_int8.onnx").graph
    arrays = [onnx.numpy_helper.to_array(x) for x in graph.initializer]
    small = [x for x in arrays if x.dtype == np.int8 and x.ndim == 2]
    # 2 blocks of 4, the pool's 6, the head's 2; the fixed query's own matrix is folded
    assert len(small) >= 15
    assert max(np.abs(x).max() for x in small) <= 64
    large = [x for x in arrays if x.dtype == np.float32 and x.ndim == 2 and min(x.shape) > 24]
    assert not large


def test_nothing_of_this_machine_is_in_the_graphs(folder):
    for name in ("model.onnx", "model_int8.onnx", "preprocess.onnx"):
        content = (folder / name).read_bytes()
        for word in (b"/lift/", b"site-packages", b"stack_trace", str(folder.parent).encode()):
            assert word not in content, (name, word)


@pytest.mark.parametrize("resize", ["center_crop", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_of_any_image(bundle, tmp_path, shared_data, resize, interpolation):
    transform = dataclasses.replace(bundle.transform, resize=resize, interpolation=interpolation)
    graphs.write_preprocess(transform, tmp_path / "p.onnx")
    prepare = session(tmp_path / "p.onnx")
    rng = np.random.default_rng(0)
    shapes = [(32, 32), (1, 1), (3, 500), (501, 4), (40, 40), (39, 41)]
    pictures = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    for picture in [*photographs(shared_data, 4), *pictures]:
        theirs = prepare.run(None, {"image": picture})[0][0].astype(int)
        ours = transform.evaluate(picture).numpy().astype(int)
        gap = np.abs(theirs - ours)
        assert gap.max() <= 2 and (gap > 0).mean() < 0.2, picture.shape


def test_the_card_runs_without_torch(bundle, folder, tmp_path, shared_data):
    photo = photographs(shared_data, 1)[0]
    Image.fromarray(squares([photo], 40)[0]).save(tmp_path / "image.png")
    shutil.copytree(folder, tmp_path / "model")
    code = code_of(folder / "README.md") + '\nnp.save("z.npy", vectors(["image.png"]))'
    run_fresh(code, tmp_path, without=WITHOUT)
    ours = bundle.encode_images(squares([photo], 40))
    assert (np.load(tmp_path / "z.npy") @ ours.T).item() > 0.9999


def test_the_example_runs_alone(bundle, folder, tmp_path, shared_data):
    shutil.copytree(folder, tmp_path / "model")
    photo = Image.fromarray(photographs(shared_data, 1)[0])
    seen = Image.new("L", photo.size, 255)
    seen.paste(0, (0, 0, photo.width // 2, photo.height))
    photo.putalpha(seen)
    photo.save(tmp_path / "half.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    code = (
        "import runpy\nsys.argv = ['example.py', 'half.png', 'turned.jpg', 'deep.png']\n"
        "runpy.run_path('model/example.py', run_name='__main__')"
    )
    said = run_fresh(code, tmp_path, without=WITHOUT)
    assert said.split()[:2] == ["1.0000", "half.png"]
    ours = bundle.encode_images([tmp_path / n for n in ("half.png", "turned.jpg", "deep.png")])
    cosines = (np.load(tmp_path / "vectors.npy") * ours).sum(1)
    assert cosines.min() > 0.999
    assert ours[0] @ ours[1] < 0.999


def test_the_facts(bundle, folder):
    facts = json.loads((folder / "preprocess.json").read_text())
    assert facts["input"]["shape"] == ["batch", 3, 32, 32]
    assert facts["sides"] == [40, 32]
    assert facts["scale"] == 20.0
    assert facts["text_space"]["fingerprint"] == bundle.space.fingerprint


def test_a_class_token_and_int8_alone(tmp_path, shared_data):
    bundle = shaped(CLIP | {"depth": 1}, HeadConfig(layers=1))
    exported = export_model(
        bundle,
        "onnx",
        tmp_path / "out",
        options=["precision=int8"],
        images=photographs(shared_data, 2),
    )
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert [one.count for one in exported.differences] == [2, 2]
    exporter = OnnxExporter(Config(precision="int8", least_cosine=1.0))
    with pytest.raises(CheckpointError, match="In int8 the model is another one"):
        exporter.check(bundle, tmp_path / "out", photographs(shared_data, 2))


def test_what_int8_loses_is_told_with_its_interval(tmp_path, shared_data, monkeypatch):
    monkeypatch.setattr(judged, "_BATCH", 16)
    bundle = shaped(SIGLIP | {"depth": 1}, HeadConfig(layers=1))
    with tarfile.open(shared_data / "flickr8k" / "val-0000.tar") as whole:
        members = [m for m in whole.getmembers()[:60] if not m.name.endswith("json")]
        with tarfile.open(tmp_path / "few.tar", "w") as few:
            for member in members:
                few.addfile(member, whole.extractfile(member))
    calls = []

    def blind(pixels):
        calls.append(len(pixels))
        return np.eye(24, dtype=np.float32)[np.zeros(len(pixels), int)]

    words = judged.losses(bundle, blind, str(tmp_path / "few.tar"))
    assert sum(calls) == 20 and max(calls) <= 16
    assert len(words) == 2
    found = re.search(
        r"R@10 is ([0-9.]+)% in int8 and ([0-9.]+)% in float32: (.+?) points", words[1]
    )
    small, large, gap = map(float, found.groups())
    assert gap == pytest.approx(small - large, abs=0.02)
    assert "95% interval" in words[1] and "20 images, 100 captions" in words[1]
    exact = judged.losses(bundle, _model_itself(bundle), str(tmp_path / "few.tar"))
    assert all("+0.00 points, 95% interval -" in sentence for sentence in exact)


def _model_itself(bundle):
    def run(pixels):
        with torch.inference_mode():
            return bundle.side(bundle.transform.normalise(torch.from_numpy(pixels))).numpy()

    return run


class _Fixed(nn.Module):
    """A tower that looks at numbers on its way."""

    width, resolution = 4, 32

    def forward(self, x):
        if float(x.sum()) > 0:
            return x.flatten(1)[:, :4]
        return -x.flatten(1)[:, :4]


class _Two(nn.Module):
    """A tower that takes its number of images for a constant."""

    width, resolution = 4, 32

    def forward(self, x):
        return x.flatten(1)[:, :4] + torch.arange(len(x))[:, None]


@pytest.mark.parametrize(
    ("tower", "words"),
    [
        (_Fixed(), "can't be traced to ONNX"),
        pytest.param(_Two(), "one number of images", marks=pytest.mark.slow),
    ],
)
def test_towers_without_a_graph_are_refused(bundle, tmp_path, tower, words):
    other = shaped(SIGLIP, HeadConfig(layers=1))
    other.side = Side(tower, None)
    with pytest.raises(ConfigError, match=words):
        export_model(other, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"least_cosine": -1.5}, "least_cosine must be from -1 to 1"),
        ({"least_cosine": 2.0}, "least_cosine must be from -1 to 1"),
        ({"precision": "float32", "judge": "x.tar"}, "precision=both or int8"),
    ],
)
def test_options_that_are_none(options, words):
    with pytest.raises(ConfigError, match=words):
        Config(**options)


def test_a_graph_of_another_model_is_no_export_of_this_one(bundle, folder, shared_data):
    other = shaped(SHORT, HeadConfig(layers=2), canvas=40)
    with torch.no_grad():
        other.side.tower.blocks[1].mlp.fc2.weight[0] += 0.05
    found = OnnxExporter(Config()).check(other, folder, photographs(shared_data, 3))
    judged = [one for one in found if one.tolerance is not None]
    assert [one.largest <= one.tolerance for one in judged] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "convnext"])
def test_towers_of_other_libraries(kind, tmp_path):
    """CLIP's and SigLIP's have a step that torch names "embedding"."""
    import tower_folders

    folder = tower_folders.folder(kind)
    tower = plugins.build(part("towers", "huggingface", model=str(folder)))
    bundle = shaped(CLIP, HeadConfig(layers=1))
    bundle.side = Side(tower.eval(), build_head(HeadConfig(layers=1), tower.width, 24))
    transform = dataclasses.replace(bundle.transform, resolution=tower.resolution)
    bundle.record = dataclasses.replace(bundle.record, transform=transform)
    exported = export_model(bundle, "onnx", tmp_path / "out", options=["least_cosine=0.9"])
    assert exported.differences[1].largest <= 1e-5
