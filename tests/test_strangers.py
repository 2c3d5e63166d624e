"""Caches and models of strangers: what they name is not run, and nothing else is read."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import lift
from lift import plugins
from lift.cache import manifest as records
from lift.cache.place import place_of
from lift.config import Part, from_dict, part
from lift.errors import CheckpointError, ConfigError, LiftError
from lift.features import open_tower
from lift.text.encoder import build_encoder
from test_bundle import make

DATA = "scenes:count=6,seed=1,resolution=32"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, Path]:
    """Return a model and its features."""
    folder = tmp_path_factory.mktemp("saved")
    make().save(folder / "m")
    lift.embed_images([DATA], out=folder / "f", tower=str(folder / "m"), progress=False)
    return folder / "m", folder / "f"


@pytest.fixture
def evil(tmp_path: Path) -> tuple[Part, Path]:
    """Return a text encoder with code of its own, and what that writes when it runs."""
    code, trace = tmp_path / "code", tmp_path / "it-ran"
    code.mkdir()
    shape = {"model_type": "evil", "hidden_size": 8, "max_position_embeddings": 32}
    mapped = {"AutoConfig": "mod.C", "AutoModel": "mod.M", "AutoModelForCausalLM": "mod.M"}
    (code / "config.json").write_text(json.dumps({**shape, "vocab_size": 9, "auto_map": mapped}))
    (code / "tokenizer.json").write_text("{}")
    (code / "mod.py").write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "from transformers import PretrainedConfig\n"
        "class C(PretrainedConfig):\n    model_type = 'evil'\nclass M: pass\n"
    )
    options = {"model": str(code), "trust_remote_code": True, "pooling": "last"}
    return Part("text/encoders", "causal_lm", options), trace


def with_tower(features: Path, tower: Part, out: Path) -> Path:
    """Return a copy of a cache whose records are sound and name another tower."""
    shutil.copytree(features, out)
    place = place_of(out)
    plan, manifest = records.read_plan(place), records.read_manifest(place)
    options = {**plan.encoder.options, "tower": dataclasses.asdict(tower)}
    plan = dataclasses.replace(plan, encoder=dataclasses.replace(plan.encoder, options=options))
    (out / records.PLAN).unlink()
    records.write_plan(place, plan)
    records.write_manifest(place, dataclasses.replace(manifest, plan=plan))
    return out


def with_record(model: Path, out: Path, **image) -> Path:
    """Return a copy of a model whose record says something else of its image side."""
    shutil.copytree(model, out)
    values = json.loads((out / "bundle.json").read_text())
    values["image"] |= image
    (out / "bundle.json").write_text(json.dumps(values))
    return out


def test_the_tower_of_a_cache_is_a_tower(saved, evil, tmp_path):
    named, trace = evil
    cache = with_tower(saved[1], named, tmp_path / "f")
    lift.embed([DATA], out=tmp_path / "c", encoder="hashing:dimensions=24", progress=False)
    with pytest.raises(ConfigError, match="A tower can't be of text/encoders/causal_lm"):
        lift.fit(DATA, cache=tmp_path / "c", features=cache, progress=False)
    with pytest.raises(ConfigError, match="A tower can't be of"):
        lift.embed_images([DATA], out=cache, progress=False)
    assert "A tower can't be of" in lift.audit(cache).table()
    assert not trace.exists()
    with pytest.raises(ConfigError, match="A tower can't be of objectives/softmax"):
        open_tower(part("objectives", "softmax"))


def test_the_tower_of_a_model_is_a_tower(saved, evil, tmp_path):
    named, trace = evil
    model = with_record(saved[0], tmp_path / "m", tower=dataclasses.asdict(named))
    with pytest.raises(LiftError, match="A tower can't be of text/encoders/causal_lm"):
        lift.load(model)
    with pytest.raises(LiftError, match=r"room|says nothing of a network"):
        lift.embed_images([DATA], out=tmp_path / "f", tower=str(model), progress=False)
    assert not trace.exists()


def test_a_part_is_of_the_room_that_it_is_for(saved, evil):
    plan = records.read_plan(place_of(saved[1]))
    values = json.loads((saved[1] / records.PLAN).read_text())
    values["space"] = plan.space
    named = dataclasses.asdict(evil[0])
    with pytest.raises(ConfigError, match="must be a part of cache/codecs"):
        from_dict(records.Plan, {**values, "codec": named})
    with pytest.raises(ConfigError, match="A text encoder can't be of towers/vit"):
        build_encoder(part("towers", "vit"))
    with pytest.raises(ConfigError, match="plugin room"):
        plugins.load("commands", "text")


@pytest.mark.parametrize(
    ("tower", "match"),
    [
        (part("towers", "lift_model", model="{here}"), "names the tower of another one"),
        (part("towers", "huggingface", model="somebody/vit"), "does not say the shape"),
        (part("towers", "huggingface", model="{here}"), "does not say the shape"),
    ],
)
def test_a_saved_model_reads_no_other_folder_and_no_hub(saved, tmp_path, tower, match):
    if tower.name == "huggingface":
        pytest.importorskip("transformers")
    options = {name: value.format(here=saved[0]) for name, value in tower.options.items()}
    named = dataclasses.asdict(Part(tower.room, tower.name, options))
    with pytest.raises(LiftError, match=match):
        lift.load(with_record(saved[0], tmp_path / "m", tower=named))


def test_records_that_go_too_deep_are_damaged(saved, tmp_path):
    head = {"layers": 1}
    for _ in range(400):
        head = {"layers": 1, "before": head, "between": 4}
    with pytest.raises(CheckpointError, match="damaged"):
        lift.load(with_record(saved[0], tmp_path / "m", head=head))
    (tmp_path / "m" / "bundle.json").write_text('{"format": 2, "image": ' + "[" * 10**5)
    with pytest.raises(CheckpointError, match="damaged"):
        lift.load(tmp_path / "m")


def test_a_model_without_a_transform_is_no_tower(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "m")
    values = json.loads((tmp_path / "m" / "bundle.json").read_text())
    (tmp_path / "m" / "bundle.json").write_text(json.dumps({**values, "transform": [1]}))
    with pytest.raises(CheckpointError, match="does not say how pixels reach"):
        lift.embed_images([DATA], out=tmp_path / "f", tower=str(tmp_path / "m"), progress=False)
