"""How other libraries name and shape the weights of a ViT; none of them is imported.

A layout is a table of rules. A rule says which tensors of ours, joined along their first axis,
are which tensors of theirs (queries, keys and values are one matrix in some libraries and three
in others).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lift.errors import ConfigError, unknown
from lift.towers import vit

Rule = tuple[tuple[str, ...], tuple[str, ...]]
"""(our names, their names), each joined along the first axis in equal shares; `{i}` is a block."""


@dataclass(frozen=True)
class Layout:
    """How another library names and shapes the weights of a ViT.

    Attributes:
        prefix: what its names begin with inside a larger model.
        rules: which tensors are which.
        activation: what its classes take unless told otherwise; weights don't show it.
        norm_eps: the same; None is 1e-5 with a norm before the blocks and 1e-6 without.
        fixed: fields of a config that its classes can't vary, with the values they would need.
        poolings: poolings of ours that its weights can serve.
        arguments: what its constructor takes for a config.
        lead: axes of length 1 that it puts before a tensor, by our name.
        identity: a square matrix that it can't do without and we don't have.
        ballast: buffers of its older releases that hold nothing learned.
    """

    prefix: str
    rules: tuple[Rule, ...]
    activation: vit.Activation
    norm_eps: float | None
    fixed: Callable[[vit.Config], dict[str, bool]]
    poolings: tuple[str, ...]
    arguments: Callable[[vit.Config], dict[str, Any]]
    lead: Mapping[str, int] = field(default_factory=dict)
    identity: str | None = None
    ballast: tuple[str, ...] = ()


def arguments(config: vit.Config, layout: str) -> dict[str, Any]:
    """Return what the library's own constructor takes to build the same tower.

    For `open_clip` the keys of a model config (without `text_cfg`), for `timm` keyword arguments
    of `VisionTransformer`, for the others those of `CLIPVisionConfig` and `SiglipVisionConfig`.

    Raises:
        ConfigError: as in `to_layout`.
    """
    check_holds(config, layout)
    return find(layout).arguments(config)


def find(name: str) -> Layout:
    """Return a layout by name, or raise ConfigError with the nearest one."""
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    return LAYOUTS[name]


def check_holds(config: vit.Config, layout: str) -> None:
    """Raise ConfigError, with every reason, unless the layout can hold the tower."""
    table = find(layout)
    reasons = [
        f"needs {name}={str(needed).lower()}"
        for name, needed in table.fixed(config).items()
        if getattr(config, name) != needed
    ]
    if config.pooling not in table.poolings:
        reasons.append(f"can't pool by {config.pooling} (only {' or '.join(table.poolings)})")
    if reasons:
        raise ConfigError(f"The layout {layout} can't hold this tower: it {'; it '.join(reasons)}.")


def _rules(whole: Mapping[str, str], modules: Mapping[str, str], begin: str) -> tuple[Rule, ...]:
    """Return rules of single tensors, and of a weight and a bias for each module.

    Several names on a side are split by spaces. Modules named `blocks.*` are those of a block; in
    the other library their names start with `begin`.
    """

    def named(names: str, kind: str, start: str) -> tuple[str, ...]:
        full = [n if "{kind}" in n else n + ".{kind}" for n in names.split()]
        return tuple(start + name.replace("{kind}", kind) for name in full)

    rules: list[Rule] = [((ours,), (theirs,)) for ours, theirs in whole.items()]
    for ours, theirs in modules.items():
        inside = ours.startswith("blocks.")
        start, names = ("blocks.{i}.", ours.removeprefix("blocks.")) if inside else ("", ours)
        for kind in ("weight", "bias"):
            rules.append((named(names, kind, start), named(theirs, kind, begin if inside else "")))
    return tuple(rules)


def _open_clip(config: vit.Config) -> dict[str, Any]:
    vision: dict[str, Any] = {
        "image_size": config.resolution,
        "patch_size": config.patch,
        "width": config.width,
        "layers": config.depth,
        "head_width": config.width // config.heads,
        "mlp_ratio": config.mlp_ratio,
        "no_ln_pre": not config.pre_norm,
        "pool_type": {"mean": "avg", "token": "tok"}[config.pooling],
        "norm_kwargs": {"eps": config.norm_eps},
    }
    if config.activation == "gelu_tanh":
        vision["act_kwargs"] = {"approximate": "tanh"}
    quick = config.activation == "quick_gelu"
    return {"embed_dim": config.width, "quick_gelu": quick, "vision_cfg": vision}


def _timm(config: vit.Config) -> dict[str, Any]:
    return {
        "img_size": config.resolution,
        "patch_size": config.patch,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_ratio,
        "class_token": config.class_token,
        "pre_norm": config.pre_norm,
        "global_pool": {"mean": "avg", "token": "token", "attention": "map"}[config.pooling],
        "fc_norm": False,  # else its mean comes before the final norm
        "act_layer": config.activation,
        "norm_layer": functools.partial(nn.LayerNorm, eps=config.norm_eps),
        "num_classes": 0,
    }


def _transformers(config: vit.Config) -> dict[str, Any]:
    activation = config.activation
    return {
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "image_size": config.resolution,
        "patch_size": config.patch,
        "hidden_act": "gelu_pytorch_tanh" if activation == "gelu_tanh" else activation,
        "layer_norm_eps": config.norm_eps,
    }


def _siglip(config: vit.Config) -> dict[str, Any]:
    return {**_transformers(config), "vision_use_head": config.pooling == "attention"}


_TRANSFORMERS_BLOCK = {
    "blocks.norm1": "layer_norm1",
    "blocks.attention.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "blocks.attention.out": "self_attn.out_proj",
    "blocks.norm2": "layer_norm2",
    "blocks.mlp.fc1": "mlp.fc1",
    "blocks.mlp.fc2": "mlp.fc2",
}

LAYOUTS: dict[str, Layout] = {
    "open_clip": Layout(
        prefix="visual.",
        rules=_rules(
            {
                "patch.weight": "conv1.weight",
                "class_token": "class_embedding",
                "position": "positional_embedding",
            },
            {
                "norm_pre": "ln_pre",
                "blocks.norm1": "ln_1",
                "blocks.attention.qkv": "attn.in_proj_{kind}",
                "blocks.attention.out": "attn.out_proj",
                "blocks.norm2": "ln_2",
                "blocks.mlp.fc1": "mlp.c_fc",
                "blocks.mlp.fc2": "mlp.c_proj",
                "norm": "ln_post",
            },
            "transformer.resblocks.{i}.",
        ),
        activation="gelu",
        norm_eps=1e-5,
        fixed=lambda _: {"class_token": True, "patch_bias": False},
        poolings=("token", "mean"),
        arguments=_open_clip,
        identity="proj",
    ),
    "timm": Layout(
        prefix="",
        rules=_rules(
            {
                "patch.weight": "patch_embed.proj.weight",
                "patch.bias": "patch_embed.proj.bias",
                "class_token": "cls_token",
                "position": "pos_embed",
                "pool.query": "attn_pool.latent",
            },
            {
                "norm_pre": "norm_pre",
                "blocks.norm1": "norm1",
                "blocks.attention.qkv": "attn.qkv",
                "blocks.attention.out": "attn.proj",
                "blocks.norm2": "norm2",
                "blocks.mlp.fc1": "mlp.fc1",
                "blocks.mlp.fc2": "mlp.fc2",
                "norm": "norm",
                "pool.q": "attn_pool.q",
                "pool.k pool.v": "attn_pool.kv",
                "pool.out": "attn_pool.proj",
                "pool.norm": "attn_pool.norm",
                "pool.mlp.fc1": "attn_pool.mlp.fc1",
                "pool.mlp.fc2": "attn_pool.mlp.fc2",
            },
            "blocks.{i}.",
        ),
        activation="gelu",
        norm_eps=None,
        fixed=lambda config: {"patch_bias": not config.pre_norm},
        poolings=("token", "mean", "attention"),
        arguments=_timm,
        lead={"class_token": 2, "position": 1, "pool.query": 2},
    ),
    "transformers_clip": Layout(
        prefix="vision_model.",
        rules=_rules(
            {
                "patch.weight": "embeddings.patch_embedding.weight",
                "class_token": "embeddings.class_embedding",
                "position": "embeddings.position_embedding.weight",
            },
            {"norm_pre": "pre_layrnorm", **_TRANSFORMERS_BLOCK, "norm": "post_layernorm"},
            "encoder.layers.{i}.",
        ),
        activation="quick_gelu",
        norm_eps=1e-5,
        fixed=lambda _: {"class_token": True, "pre_norm": True, "patch_bias": False},
        poolings=("token", "mean"),
        arguments=_transformers,
        ballast=("embeddings.position_ids",),
    ),
    "transformers_siglip": Layout(
        prefix="vision_model.",
        rules=_rules(
            {
                "patch.weight": "embeddings.patch_embedding.weight",
                "patch.bias": "embeddings.patch_embedding.bias",
                "position": "embeddings.position_embedding.weight",
                "pool.query": "head.probe",
            },
            {
                **_TRANSFORMERS_BLOCK,
                "norm": "post_layernorm",
                "pool.q pool.k pool.v": "head.attention.in_proj_{kind}",
                "pool.out": "head.attention.out_proj",
                "pool.norm": "head.layernorm",
                "pool.mlp.fc1": "head.mlp.fc1",
                "pool.mlp.fc2": "head.mlp.fc2",
            },
            "encoder.layers.{i}.",
        ),
        activation="gelu_tanh",
        norm_eps=1e-6,
        fixed=lambda _: {"class_token": False, "pre_norm": False, "patch_bias": True},
        poolings=("attention", "mean"),
        arguments=_siglip,
        lead={"pool.query": 2},
        ballast=("embeddings.position_ids",),
    ),
}
"""The layouts by name."""
