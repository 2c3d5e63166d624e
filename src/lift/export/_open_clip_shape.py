"""What of an image side open_clip's own classes hold: the trunk always, some heads as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lift.bundle import Bundle
from lift.convert.layouts import arguments
from lift.convert.weights import to_layout
from lift.errors import ConfigError
from lift.export._trunk import trunk_of
from lift.heads import Head, MLPHead
from lift.towers import vit
from lift.towers.vit import ViT

_NAME = "export/open_clip"
_SIZES = {"B": "base", "L": "large"}
_SIDES = {"B": (224, 256, 384, 512), "L": (256, 384)}
"""Resolutions of timm's networks in SigLIP's shape with patches of 16 pixels, by size."""


@dataclass(frozen=True, kw_only=True)
class Visual:
    """An image tower of open_clip.

    Attributes:
        shape: its `vision_cfg`.
        tensors: its weights, by the names they have in a whole model.
        dimensions: of what it gives: `embed_dim`.
        quick_gelu: its activation.
        whole: whether the head is in it.
        why: why it is not, in a few words.
    """

    shape: dict[str, Any]
    tensors: dict[str, Tensor]
    dimensions: int
    quick_gelu: bool
    whole: bool
    why: str = ""


def visual_of(bundle: Bundle) -> Visual:
    """Return the image side as open_clip has it.

    Raises:
        ConfigError: open_clip has no class for the trunk; the sentence says why, and what has.
    """
    tower = bundle.side.tower
    if not isinstance(tower, ViT):
        raise ConfigError(
            f"{_NAME}: the tower of {bundle.name} is no towers/vit but a network of another "
            "library: take it from where it came, or export the image side with --to onnx."
        )
    tower = trunk_of(bundle)
    state = {name: value.detach().cpu() for name, value in tower.state_dict().items()}
    try:
        shape = arguments(tower.config, "open_clip")
    except ConfigError as error:
        named = _timm_name(tower.config)
        if named is None:
            raise ConfigError(
                f"{_NAME}: {error} Of timm's networks, which open_clip takes by name, none has "
                "this shape and size. Export it with --to timm, transformers or onnx."
            ) from error
        return _of_timm(bundle, tower, state, named)
    tensors = to_layout(tower.config, state, "open_clip", prefix=True)
    matrix, why = _as_projection(bundle)
    if matrix is not None:
        tensors["visual.proj"] = matrix
    return Visual(
        shape=shape["vision_cfg"],
        tensors=tensors,
        dimensions=tower.width if matrix is None else matrix.shape[1],
        quick_gelu=shape["quick_gelu"],
        whole=not why,
        why=why,
    )


def _as_projection(bundle: Bundle) -> tuple[Tensor | None, str]:
    """Return the head as a matrix [width d], or why it is none; neither without a head."""
    head = bundle.side.head
    if head is None:
        return None, ""
    if (linear := _one_matrix(head)) is None:
        return None, "its visual ends in one matrix"
    if linear.bias is not None and bool(linear.bias.any()):
        return None, "its visual ends in a matrix without bias"
    return linear.weight.detach().cpu().T.contiguous().clone(), ""


def _one_matrix(head: Any) -> torch.nn.Linear | None:
    """Return the matrix that a head is, and nothing else before it."""
    assert isinstance(head, Head)
    shape = head.config
    plain = shape.before is None and not shape.unit and not shape.standardise
    return head.entry if plain and isinstance(head, MLPHead) and head.is_matrix else None


# --- SigLIP's shape, by timm's names ------------------------------------------------------------


def _timm_name(config: vit.Config) -> str | None:
    """Return the network of timm that has this shape, without options."""
    for size, name in _SIZES.items():
        pooled = {"attention": "siglip", "mean": "siglip_gap"}.get(config.pooling)
        side = config.resolution
        if pooled is None or side not in _SIDES[size]:
            continue
        wanted = vit.size(f"{size}/16", resolution=side, pooling=config.pooling)
        if arguments_differ(config, wanted):
            continue
        return f"vit_{name}_patch16_{pooled}_{side}"
    return None


def arguments_differ(config: vit.Config, wanted: vit.Config) -> bool:
    """Return whether two shapes are not the same network at rest."""
    ours, theirs = (
        {**arguments(shape, "timm"), "norm_layer": shape.norm_eps} for shape in (config, wanted)
    )
    return ours != theirs


def _of_timm(bundle: Bundle, tower: ViT, state: dict[str, Tensor], name: str) -> Visual:
    head, dimensions = bundle.side.head, bundle.dimensions
    shape = {
        "image_size": tower.config.resolution,
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": {"attention": "map", "mean": "avg"}[tower.config.pooling],
        "timm_proj": "none",
    }
    tensors = to_layout(tower.config, state, "timm")
    tensors = {f"visual.trunk.{key}": value for key, value in tensors.items()}
    why = ""
    if head is not None and (linears := _as_timm_head(head, dimensions)):
        last = linears[-1][1]
        shape["timm_proj"] = "linear" if len(linears) == 1 else "mlp"
        shape["timm_proj_bias"] = last.bias is not None
        for key, linear in linears:
            for kind, value in linear.state_dict().items():
                tensors[f"visual.head.{key}.{kind}"] = value.detach().cpu().clone()
    elif head is not None:
        why = "behind a network of timm it has one matrix, or two with twice the width in between"
        dimensions = tower.width
    return Visual(
        shape=shape,
        tensors=tensors,
        dimensions=dimensions,
        quick_gelu=False,
        whole=not why,
        why=why,
    )


def _as_timm_head(head: Any, dimensions: int) -> list[tuple[str, torch.nn.Linear]]:
    """Return a head's matrices by open_clip's names, none where it has no such head."""
    if (linear := _one_matrix(head)) is not None:
        return [("proj", linear)]
    shape = head.config
    plain = shape.before is None and not shape.unit and not shape.standardise
    if not (isinstance(head, MLPHead) and plain and shape.layers == 2 and shape.bias):
        return []
    first, last = head.entry, head.last[0]
    return [("mlp.fc1", first), ("mlp.fc2", last)] if len(first.weight) == 2 * dimensions else []
