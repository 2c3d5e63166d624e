"""A checkpoint in the reference's key layout becomes a model with the same features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lift
from lift.convert.weights import to_layout
from lift.errors import SpaceMismatch
from lift.heads import HeadConfig, MLPHead
from lift.terms import unit
from lift.towers import vit


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, vit.ViT, MLPHead]:
    """Write a tiny LIFT in the layout of the released files."""
    tower = vit.build(vit.clip_size("Ti/16", depth=2, width=192, heads=3, resolution=32)).eval()
    head = MLPHead(HeadConfig(layers=2), 192, 48)
    state = to_layout(tower.config, tower.state_dict(), "open_clip", prefix=True)
    state.pop("visual.proj", None)
    for name, tensor in head.state_dict().items():
        state[f"mlp_projector.projector.{name.removeprefix('layers.')}"] = tensor
    state["logit_scale"] = torch.tensor(3.0)
    path = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return path, tower, head


def test_a_reference_checkpoint_becomes_a_model(
    checkpoint: tuple[Path, vit.ViT, MLPHead], tmp_path: Path
) -> None:
    path, tower, head = checkpoint
    data = "scenes:count=4,resolution=32"
    lift.embed([data], out=tmp_path / "cache", encoder="hashing:dimensions=48", progress=False)
    made = lift.import_reference(path, cache=tmp_path / "cache", out=tmp_path / "model")
    model = lift.load(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with torch.no_grad():
        images = model.transform.normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        expected = unit(head(tower(images))).numpy()
    assert np.abs(model.encode_images(pixels) - expected).max() < 1e-5
    assert np.abs(made.encode_images(pixels) - expected).max() < 1e-5
    assert model.record.scalars["scale"] == pytest.approx(np.exp(3.0))
    assert model.space.dimensions == 48 and model.record.transform.mean[0] > 0.48


def test_a_cache_of_another_width_is_refused(
    checkpoint: tuple[Path, vit.ViT, MLPHead], tmp_path: Path
) -> None:
    data = "scenes:count=4,resolution=32"
    lift.embed([data], out=tmp_path / "cache", encoder="hashing:dimensions=32", progress=False)
    with pytest.raises(SpaceMismatch, match=r"vectors of 48 numbers, .* rows of 32"):
        lift.import_reference(checkpoint[0], cache=tmp_path / "cache", out=tmp_path / "model")
    assert not (tmp_path / "model").exists()
