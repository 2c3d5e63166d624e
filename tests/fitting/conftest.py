"""A tower, its stored features, and captions in three spaces: small, real, made once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import lift
from lift.config import part
from lift.features import embed_images
from made_model import made

DATA = "scenes:count=260,seed=1,resolution=32"
OLD, NEW = "hashing:dimensions=32", "hashing:dimensions=24,seed=4"
WIDTH = 40


@dataclasses.dataclass(frozen=True)
class World:
    """Folders: captions in the old and the new space and as wide as the tower, features, model."""

    old: Path
    new: Path
    wide: Path
    features: Path
    model: Path
    data: str = DATA


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the folders."""
    folder = tmp_path_factory.mktemp("world")
    found = World(*(folder / name for name in ("old", "new", "wide", "features", "model")))
    for out, words in (
        (found.old, OLD),
        (found.new, NEW),
        (found.wide, f"hashing:dimensions={WIDTH}"),
    ):
        lift.embed([DATA], out=out, encoder=words, codec="float32", progress=False)
    made(
        dimensions=32,
        width=WIDTH,
        canvas=32,
        scalars={"scale": 20.0},
        origin={"recipe": "made by a test"},
    ).save(found.model)
    tower = part("towers", "lift_model", model=str(found.model))
    embed_images(
        [DATA], tower, found.features, codec=part("cache/codecs", "float32"), progress=False
    )
    return found
