"""A checkpoint of the paper's own code becomes a model of ours."""

from __future__ import annotations

import math
from pathlib import Path

from lift import bundle, plugins
from lift.bundle import Bundle
from lift.cache.reader import EmbeddingCache
from lift.config import Part, to_dict
from lift.convert.reference import load_reference_checkpoint
from lift.data.transform import Transform
from lift.errors import SpaceMismatch
from lift.model import SideConfig, build_side


def import_reference(checkpoint: str | Path, *, cache: str | Path, out: str | Path) -> Bundle:
    """Save a checkpoint as a model; see `lift.commands.models.import_reference`."""
    found = load_reference_checkpoint(checkpoint)
    stored = EmbeddingCache.open(cache)
    if stored.dimensions != found.shared:
        raise SpaceMismatch(
            f"{checkpoint} makes vectors of {found.shared} numbers, the cache {cache} holds rows "
            f"of {stored.dimensions}: give a cache made with the checkpoint's text encoder."
        )
    tower = plugins.resolve(Part("towers", "vit", to_dict(found.tower)))
    side = SideConfig(tower=tower, head=found.head)
    record = bundle.BundleRecord(
        image=side,
        transform=Transform(resolution=found.tower.resolution),
        space=stored.space,
        encoder=stored.part,
        saw=stored.saw,
        scalars={} if found.log_scale is None else {"scale": math.exp(found.log_scale)},
        origin={"imported from": Path(checkpoint).name},
    )
    model = build_side(side, None, found.shared)
    tensors = {f"tower.{name}": value for name, value in found.tower_state.items()}
    tensors |= {f"head.{name}": value for name, value in found.head_state.items()}
    model.load_state_dict(tensors)
    made = bundle.Bundle(model.eval(), record, name=Path(out).name, probes=stored.probes())
    made.save(out)
    return made
