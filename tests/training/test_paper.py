"""One real optimiser step of the paper's recipe: ViT-B/16 at 224, rows of 4096 numbers."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import lift
from lift import plugins, recipes
from lift.cache.reader import EmbeddingCache
from lift.data.loader import Loader
from lift.data.source import open_source
from lift.model import TwoSided, build_side, count_parameters
from lift.training.optim import learning_rate, make_optimizer
from lift.training.passes import Means
from lift.training.step import Stepper

DATA = "scenes:count=8,seed=4,resolution=256,short=1,long=0"


def reference_loss(model: TwoSided, images: torch.Tensor, texts: torch.Tensor) -> float:
    """Symmetric InfoNCE in float64, tower and head included, written out."""
    double = copy.deepcopy(model.image).double().eval()
    h = double.head(double.tower(images.double())).detach().numpy()
    z_image = h / np.linalg.norm(h, axis=1, keepdims=True)
    rows = texts.double().numpy()
    z_text = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    logits = z_image @ z_text.T / 0.07
    total = 0.0
    for side in (logits, logits.T):
        for i in range(len(side)):
            total -= side[i, i] - math.log(np.exp(side[i]).sum())
    return total / (2 * len(logits))


@pytest.mark.slow
def test_one_step_of_the_papers_recipe(tmp_path: Path) -> None:
    lift.embed([DATA], out=tmp_path / "cache", encoder="hashing:dimensions=4096", progress=False)
    config = recipes.get("lift_b16_512m")
    config = dataclasses.replace(
        config, loader=dataclasses.replace(config.loader, batch_size=8, workers=0)
    ).resolved()
    cache = EmbeddingCache.open(tmp_path / "cache")
    loader = Loader(open_source(DATA), cache, config.transform, config.loader, config.seed)
    torch.manual_seed(config.seed)
    model = TwoSided(
        build_side(config.image, None, cache.dimensions),
        build_side(config.text, cache.dimensions, cache.dimensions),
        plugins.build(config.objective),
    ).train()
    assert count_parameters(model.image) == 85_799_424 + 19_931_136
    batch = next(loader.batches(0, 1))
    assert batch.images.shape == (8, 3, 224, 224) and batch.texts.shape == (8, 4096)
    assert len(set(batch.row.tolist())) == 8
    expected = reference_loss(model, config.transform.normalise(batch.images), batch.texts)
    optimizer = make_optimizer(model, config.optim)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(0, config.steps, config.optim)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    means = Means(model=model, transform=config.transform, device=torch.device("cpu"))
    stepper = Stepper(means, optimizer, clip_norm=config.optim.clip_norm)
    report = stepper.take([batch], 0)
    assert report.loss == pytest.approx(expected, abs=1e-4)
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert moved == list(before)
