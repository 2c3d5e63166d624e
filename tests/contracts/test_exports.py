"""Every file in export/ writes what its library reloads as the same model, or nothing at all."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

import tower_folders
from embedder_models import CLIP, model, text_folder
from lift import plugins
from lift.config import part
from lift.errors import CheckpointError, ConfigError, LiftError, MissingPackage
from lift.export import export_model
from lift.export._pictures import made
from lift.heads import HeadConfig

pytest.importorskip("sentence_transformers")

MODELS = (
    {"class_token": True, "head": HeadConfig(kind="gated", hidden=8, unit=True, standardise=True)},
    {**CLIP, "pooling": "mean"},
)
CHEAP = {"onnx": ("precision=float32",)}
"""Options of files that would write several forms."""

FILES = (".json", ".md", ".safetensors", ".onnx", ".py", ".txt", ".model", ".jinja", ".data")
HF = "hf"


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    return text_folder(tmp_path_factory.mktemp("texts") / "embedder")


@pytest.fixture(autouse=True)
def _modules_of_strangers(tmp_path, monkeypatch):
    """Keep module files that are loaded out of the user's own cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / HF))


def each(*slow: str) -> pytest.MarkDecorator:
    """Return a parameter `name`: every file; those that take long on the slow floor."""
    names = plugins.names("export")
    params = [pytest.param(n, marks=[pytest.mark.slow] if n in slow else []) for n in names]
    return pytest.mark.parametrize("name", params, indirect=True)


@pytest.fixture
def name(request) -> str:
    try:
        plugins.load("export", request.param)
    except MissingPackage as missing:
        pytest.skip(str(missing))
    return request.param


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {HF}


@functools.cache
def first(name: str, texts: Path):
    """Return the first model that an exporter takes, what was exported, and what was refused."""
    refused = []
    for number, shape in enumerate(MODELS):
        bundle, out = model(texts, **shape), texts.parent / f"{name}-{number}"
        before, rows = bundle.identity, bundle.encode_images(made()[:2])
        try:
            done = export(bundle, name, out)
        except ConfigError as error:
            refused.append(error)
            assert not out.exists()
            continue
        assert bundle.identity == before and (bundle.encode_images(made()[:2]) == rows).all()
        return bundle, done, refused
    raise AssertionError(f"{name} takes no model at all")


def export(bundle, name: str, out: Path, **options):
    """Export in the cheapest way."""
    options = {"images": made()[:4], "options": CHEAP.get(name, ()), **options}
    return export_model(bundle, name, out, **options)


@each("onnx")
def test_what_it_takes_comes_back_as_the_same_model(name, texts):
    """Models are exported, or refused in a sentence with nothing left."""
    _, done, refused = first(name, texts)
    assert all(str(error).endswith(".") for error in refused)
    judged = [one for one in done.differences if one.tolerance is not None]
    assert judged or done.unchecked
    for one in judged:
        assert one.tolerance is not None and one.largest <= one.tolerance
        assert one.cosine is None or one.tolerance <= 1e-4
    check_folder(done.folder, done)


def check_folder(out: Path, done) -> None:
    card = (out / "README.md").read_text()
    front = card.split("---")[1]
    assert re.search(r'^library_name: ".+"$', front, re.MULTILINE) and '"lift"' in front
    assert "{folder}" not in card and "```" in card and "## Text space" in card
    for note in done.notes:
        assert "{folder}" not in note and note.rstrip().endswith("."), note
    marker = json.loads((out / "lift_export.json").read_text())
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {*marker["files"], "lift_export.json"} == there
    for path in out.rglob("*"):
        if path.is_file():
            assert path.suffix in FILES, path
            assert not path.is_symlink()
        if path.suffix == ".py":  # read by people who have no lift
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in getattr(node, "names", [])]
                assert "lift" not in {str(n).partition(".")[0] for n in names}
                assert (getattr(node, "module", None) or "").partition(".")[0] != "lift"


@each("onnx")
def test_killed_or_different_it_leaves_what_was_there(name, texts, tmp_path):
    bundle, done, _ = first(name, texts)
    if done.unchecked:
        pytest.skip(done.unchecked)
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    before = (out / "lift_export.json").read_bytes()
    child = os.fork()
    if child == 0:
        export(bundle, name, out, images=Killing(made()[:2]))
        os._exit(0)  # never
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (out / "lift_export.json").read_bytes() == before
    judged = [one for one in done.differences if one.tolerance is not None]
    if not any(one.largest > 0 for one in judged if one.cosine is not None):
        return  # equal to the last bit
    with pytest.raises(CheckpointError, match=rf"export to {name} is not the model: .*\."):
        export(bundle, name, out, tolerance=1e-30)
    assert left(tmp_path) == {"out"} and (out / "lift_export.json").read_bytes() == before


class Killing(list):
    """Pictures that end the process when they are looked at."""

    def __iter__(self):
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__iter__()


@each()
def test_bad_input_is_refused_before_anything_is_written(name, texts, tmp_path):
    bundle, out = model(texts), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds something else than an export"):
        export_model(bundle, name, out)
    with pytest.raises(ConfigError, match="no_such_option"):
        export_model(bundle, name, tmp_path / "new", options=["no_such_option=1"])
    with pytest.raises(ConfigError, match="above 0"):
        export_model(bundle, name, tmp_path / "new", tolerance=0.0)
    with pytest.raises(LiftError, match="nowhere"):
        export_model(bundle, name, tmp_path / "new", images=str(tmp_path / "nowhere.csv"))
    assert left(tmp_path) == {"out"} and left(out) == {"thesis.tex"}


@each("onnx")
def test_somebody_elses_tower_is_exported_or_refused(name, texts, tmp_path):
    folder = tower_folders.folder("vit")
    tower = part("towers", "huggingface", model=str(folder))
    bundle = model(texts, tower=tower)
    try:
        done = export(bundle, name, tmp_path / "out")
        assert done.differences or done.unchecked
    except ConfigError as refused:
        assert str(refused).endswith(".")
        assert not (tmp_path / "out").exists()
