"""A model that lift made as the start of another, and rows instead of a tower."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lift
from lift import plugins
from lift.config import from_dict, part
from lift.data.transform import Transform
from lift.errors import CheckpointError, ConfigError

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FIXTURES / "bundle-v2", tmp_path / "run" / "model")


@torch.no_grad()
def test_it_is_the_models_tower(folder):
    model = lift.load(folder)
    of = part("towers", "lift_model", model=str(folder.parent))  # of a run: its model
    tower = plugins.build(of).eval()
    transform = from_dict(Transform, json.loads(json.dumps(plugins.pixels(of))))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (50, 40, 3), np.uint8) for _ in range(3)]
    batch = transform.normalise(torch.stack([transform.evaluate(image) for image in images]))
    z = model.side.finish(tower(batch)).numpy()
    assert np.abs(z - model.encode_images(images)).max() < 1e-6
    stored = load_file(folder / "model.safetensors")
    assert {f"tower.{name}" for name in tower.state_dict()} == {
        name for name in stored if name.startswith("tower.")
    }


def test_what_is_kept_is_the_network_itself(folder):
    of = part("towers", "lift_model", model=str(folder))
    tower = plugins.build(of)
    shutil.rmtree(folder)
    kept = plugins.kept(of, tower)
    assert kept.name == "vit" and kept.options["width"] == tower.width


def test_what_is_no_model_is_told(folder, tmp_path):
    def build(path=folder):
        return plugins.build(part("towers", "lift_model", model=str(path)))

    with pytest.raises(CheckpointError, match=r"neither bundle.json nor model/bundle.json"):
        build(tmp_path / "nothing")
    record = json.loads((folder / "bundle.json").read_text())

    def change(**changes):
        (folder / "bundle.json").write_text(json.dumps({**record, **changes}))

    change(format=99)
    with pytest.raises(CheckpointError, match=r"has format 99, this version reads up to 2"):
        build()
    change(image={"tower": None})
    with pytest.raises(CheckpointError, match="does not say which tower"):
        build()
    inner = {"room": "towers", "name": "lift_model", "options": {"model": str(folder)}}
    change(image={"tower": inner})
    with pytest.raises(CheckpointError, match="names the tower towers/lift_model"):
        build()
    change(image={"tower": {**inner, "room": "text/encoders", "name": "minilm"}})
    with pytest.raises(CheckpointError, match="names the tower text/encoders/minilm"):
        build()
    other = {"room": "towers", "name": "vit", "options": {"width": 24, "heads": 2}}
    change(image={"tower": other})
    with pytest.raises(CheckpointError, match="can't be loaded"):
        build()
    change()
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="can't be loaded"):
        build()
    (folder / "bundle.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        build()


def test_rows_go_through_as_they_are():
    of = part("towers", "stored", width=5, model="somebody's network")
    tower = plugins.build(of)
    rows = torch.randn(3, 5)
    assert tower(rows) is rows and tower.resolution == 0 and plugins.pixels(of) == {}
    assert plugins.kept(of, tower) == of
    for wrong in (torch.randn(3, 4), torch.randn(2, 3, 8, 8)):
        with pytest.raises(ConfigError, match=r"takes rows of 5 numbers .* need the tower"):
            tower(wrong)
    with pytest.raises(ConfigError, match="width must be"):
        plugins.configure(part("towers", "stored", width=-1))
