"""The ViT that goes out: at the resolution of the model's images, whatever it was built for."""

from __future__ import annotations

import dataclasses

import torch

from lift.bundle import Bundle
from lift.towers.vit import ViT


def trunk_of(bundle: Bundle) -> ViT:
    """Return the tower as it is for the model's images: its positions may be learned for others.

    Other libraries have a fixed number of positions; what our ViT interpolates is interpolated
    once, then.
    """
    tower, side = bundle.side.tower, bundle.transform.resolution
    assert isinstance(tower, ViT)
    if side == tower.config.resolution:
        return tower
    with torch.random.fork_rng(devices=[]):
        found = ViT(dataclasses.replace(tower.config, resolution=side)).eval()
    rows = side // tower.config.patch
    with torch.no_grad():
        position = tower._position(rows, rows)
    found.load_state_dict({**tower.state_dict(), "position": position})
    return found
