"""A small model as it was made: nothing was learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import part
from lift.data.transform import Transform
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side


def made(
    *,
    seed: int = 0,
    dimensions: int = 24,
    width: int = 16,
    resolution: int = 32,
    canvas: int = 40,
    layers: int = 2,
    encoder: Mapping[str, Any] | None = None,
    **record: Any,
) -> Bundle:
    """Return a model into the space of hashed words; `encoder` are more options of that."""
    torch.manual_seed(seed)
    texts = plugins.build(
        part("text/encoders", "hashing", dimensions=dimensions, **(encoder or {}))
    )
    shape = {"width": width, "depth": 1, "heads": 2, "patch": 8, "resolution": resolution}
    image = SideConfig(
        tower=plugins.resolve(part("towers", "vit", **shape)), head=HeadConfig(layers=layers)
    )
    known = BundleRecord(
        image=image,
        transform=Transform(resolution=resolution, canvas=canvas),
        space=texts.space,
        encoder=plugins.resolve(texts.part),
        **record,
    )
    return Bundle(build_side(image, None, dimensions), known)
