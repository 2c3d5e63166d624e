"""A run small enough to take seconds, with every source of randomness switched on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lift
from lift.bundle import Bundle, BundleRecord
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.data.augment import Augment
from lift.data.loader import LoaderConfig
from lift.data.transform import Transform
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.training.config import OptimConfig, RunConfig

TRAIN = "scenes:count=96,seed=1,resolution=32"
VALIDATION = "scenes:count=32,seed=1,start=96,resolution=32"
ENCODER = "hashing:dimensions=32"


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache of the captions of both parts."""
    folder = tmp_path_factory.mktemp("cache") / "captions"
    lift.embed([TRAIN, VALIDATION], out=folder, encoder=ENCODER, progress=False)
    return folder


@pytest.fixture
def tiny(captions: Path) -> Callable[..., RunConfig]:
    """Return a maker of tiny run configs."""

    def make(**changes: Any) -> RunConfig:
        config = RunConfig(
            recipe="tiny",
            data=TRAIN,
            validation=VALIDATION,
            cache=str(captions),
            encoder=part("text/encoders", "hashing", dimensions=32),
            samples=96 * 3,
            transform=Transform(
                resolution=32, canvas=32, augment=Augment(scale=(0.5, 1.0), jitter=0.5, hue=0.1)
            ),
            loader=LoaderConfig(batch_size=16),
            tower=part(
                "towers",
                "vit",
                width=32,
                depth=2,
                heads=2,
                patch=8,
                resolution=32,
                patch_dropout=0.25,
                drop_path=0.1,
            ),
            head=HeadConfig(layers=2),
            optim=OptimConfig(lr=1e-3, warmup_steps=4),
            ema=0.9,
            evaluations=("retrieval",),
            evaluate_every=7,
            checkpoint_every=4,
            log_every=2,
            precision="float32",
            threads=1,
        )
        return dataclasses.replace(config, **changes)

    return make


@pytest.fixture(scope="session")
def tower(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a saved model with a tower of random weights."""
    cache = EmbeddingCache.open(captions)
    torch.manual_seed(0)
    vit = part("towers", "vit", width=32, depth=2, heads=2, patch=8, resolution=32)
    side = SideConfig(tower=vit, head=HeadConfig(layers=1))
    record = BundleRecord(
        image=side,
        transform=Transform(resolution=32),
        space=cache.space,
        encoder=cache.part,
    )
    model = Bundle(build_side(side, None, cache.dimensions), record, probes=cache.probes())
    return model.save(tmp_path_factory.mktemp("tower") / "model")


@pytest.fixture(scope="session")
def features(tower: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the stored features of both parts."""
    folder = tmp_path_factory.mktemp("features") / "features"
    lift.embed_images([TRAIN, VALIDATION], out=folder, tower=str(tower), progress=False)
    return folder
