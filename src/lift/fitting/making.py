"""From a tower in hand and a linear map to a model like any other."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lift import __version__
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import Part
from lift.data.transform import Transform
from lift.features import ImageTower
from lift.fitting.texts import Texts
from lift.heads import Head
from lift.linear import Linear
from lift.model import Side, SideConfig


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
    """
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
    return Bundle(whole, record, name=name, probes=texts.probes)


def versions() -> dict[str, str]:
    """Return the versions that a fit depends on."""
    return {
        "lift-align": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }


def slope(old: Float[np.ndarray, " n"], new: Float[np.ndarray, " n"]) -> float:
    """Return how fast scores of one space rise with those of another: for their temperature."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    spread = float(((new - new.mean()) ** 2).sum())
    return float(((old - old.mean()) * (new - new.mean())).sum()) / spread if spread > 0 else 1.0
