"""Weights of the ViT tower to and from other libraries' key layouts; none of them is imported.

A layout is a table of rules. A rule says which tensors of ours, joined along their first axis,
are which tensors of theirs (queries, keys and values are one matrix in some libraries and three
in others). Nothing is left over on either side without an error that names it.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lift.config import from_dict, to_dict
from lift.errors import CheckpointError, ConfigError, unknown
from lift.model import HeadConfig
from lift.towers import vit

State = Mapping[str, Tensor]
Rule = tuple[tuple[str, ...], tuple[str, ...]]
"""(ours, theirs): names joined along the first axis. `{i}` is a block's number; `*3` after a name
says that it makes up three of the equal shares (one share if nothing is said)."""


def _pairs(ours: str, theirs: str, kinds: Sequence[str] = ("weight", "bias")) -> list[Rule]:
    """Return a rule for the weight and one for the bias; several names are split by spaces."""

    def named(names: str, kind: str) -> tuple[str, ...]:
        words = (word.partition("*") for word in names.split())
        return tuple(f"{name}.{kind}{star}{share}" for name, star, share in words)

    return [(named(ours, kind), named(theirs, kind)) for kind in kinds]


def _block(table: Mapping[str, str], theirs: str) -> list[Rule]:
    """Return the rules of a block; `theirs` is how the other library begins a block's names."""
    rules = []
    for ours, names in table.items():
        their_names = " ".join(theirs + name for name in names.split())
        rules += _pairs(f"blocks.{{i}}.{ours}", their_names)
    return rules


@dataclass(frozen=True)
class Layout:
    """How another library names and shapes the weights of a ViT.

    Attributes:
        prefix: what its names begin with inside a larger model; optional on the way in.
        rules: see `Rule`.
        lead: axes of length 1 that it puts before a tensor of ours, by our name.
        fixed: fields of our `Config` that it can't vary, with their values.
        poolings: poolings of ours that its classes can be told to do.
        assumed: fields of our `Config` that weights don't show, as its classes have them.
        arguments: what its constructor is called with for a config.
        ballast: names, after the prefix, of tensors that hold nothing learned and may be there.
    """

    prefix: str
    rules: tuple[Rule, ...]
    fixed: Mapping[str, Any]
    poolings: tuple[str, ...]
    assumed: Mapping[str, Any]
    arguments: Callable[[vit.Config], dict[str, Any]]
    lead: Mapping[str, int] = field(default_factory=dict)
    ballast: tuple[str, ...] = ()


def _open_clip_arguments(config: vit.Config) -> dict[str, Any]:
    tanh = {"act_kwargs": {"approximate": "tanh"}} if config.activation == "gelu_tanh" else {}
    vision = {
        "image_size": config.resolution,
        "patch_size": config.patch,
        "width": config.width,
        "layers": config.depth,
        "head_width": config.width // config.heads,
        "mlp_ratio": config.mlp_ratio,
        "no_ln_pre": not config.pre_norm,
        "pool_type": {"mean": "avg", "token": "tok"}[config.pooling],
        "norm_kwargs": {"eps": config.norm_eps},
        **tanh,
    }
    quick = config.activation == "quick_gelu"
    return {"embed_dim": config.width, "vision_cfg": vision, "quick_gelu": quick}


def _timm_arguments(config: vit.Config) -> dict[str, Any]:
    pooling = {"mean": "avg", "token": "token", "attention": "map"}[config.pooling]
    return {
        "img_size": config.resolution,
        "patch_size": config.patch,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_ratio,
        "global_pool": pooling,
        "class_token": config.class_token,
        "pre_norm": config.pre_norm,
        "fc_norm": False,
        "act_layer": config.activation,
        "norm_layer": ("LayerNorm", config.norm_eps),
        "num_classes": 0,
    }


def _transformers_arguments(config: vit.Config) -> dict[str, Any]:
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    return {
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "image_size": config.resolution,
        "patch_size": config.patch,
        "hidden_act": names.get(config.activation, config.activation),
        "layer_norm_eps": config.norm_eps,
    }
