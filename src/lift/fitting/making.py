"""From a tower in hand and a linear map to a model like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import Part
from lift.data.provenance import Provenance, origin_of
from lift.data.transform import Transform
from lift.features import ImageTower
from lift.fitting.texts import Texts
from lift.heads import Head
from lift.linear import Linear
from lift.model import Side, SideConfig
from lift.world import versions


def tensors_of(
    linear: Linear, shift: Float64[np.ndarray, " w"] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the float32 weight and bias of a head; no bias where it is all zeros.

    Args:
        linear: the map.
        shift: added to what comes in, where that lies apart from what was fitted on.
    """
    bias = linear.bias if shift is None else linear.bias + linear.weight @ shift
    weight = torch.from_numpy(linear.weight).float()
    return weight, torch.from_numpy(bias).float() if bias.any() else None


def transform_of(tower: ImageTower) -> Transform:
    """Return how pixels reach a tower; the default where only rows do."""
    return Transform() if tower.takes_rows else tower.transform


def model_of(
    tower: Part | None,
    side: Side,
    head: Head,
    transform: Transform,
    texts: Texts,
    origin: Mapping[str, Any],
    name: str,
    scale: float | None = None,
    trained_on: Provenance | None = None,
) -> Bundle:
    """Return the model.

    Args:
        tower: the part that rebuilds the tower.
        side: has the tower's module.
        head: what goes behind it.
        transform: how pixels reach the tower.
        texts: of the space that the model's vectors are in.
        origin: plain values about how it was made; "recipe" among them.
        name: for tables.
        scale: inverse temperature, where one is known.
        trained_on: the samples that it was fitted on, where that is known.
    """
    if trained_on is not None:
        origin = {**origin, "trained_on": origin_of(trained_on)}
    record = BundleRecord(
        image=SideConfig(tower=tower, head=head.config),
        transform=transform,
        space=texts.space,
        encoder=texts.part,
        saw=texts.saw,
        scalars={} if scale is None else {"scale": scale},
        origin={**origin, "versions": versions()},
    )
    whole = Side(side.tower, head).eval()
    path = None if trained_on is None else trained_on.path
    return Bundle(whole, record, name=name, probes=texts.probes, trained_on=path)


def slope(old: Float[np.ndarray, " n"], new: Float[np.ndarray, " n"]) -> float:
    """Return how fast scores of one space rise with those of another: for their temperature."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    spread = float(((new - new.mean()) ** 2).sum())
    return float(((old - old.mean()) * (new - new.mean())).sum()) / spread if spread > 0 else 1.0
