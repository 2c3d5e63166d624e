"""The tower's weights to and from other libraries' names: nothing is left over in silence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lift.config import from_dict
from lift.convert.layouts import Layout, Rule, check_holds, find
from lift.errors import CheckpointError
from lift.towers import vit

_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
"""Heads of ViT-T, -S, -B and -L by width. Width / 64 is no rule: so400m (1152), ViT-H (1280), -g
(1408) and -bigG (1664) all have 16."""


def to_layout(
    config: vit.Config, state: Mapping[str, Tensor], layout: str, *, prefix: bool = False
) -> dict[str, Tensor]:
    """Return copies of the tower's weights under another library's names.

    Args:
        config: what the tower was built from.
        state: its `state_dict()`.
        layout: a key of `LAYOUTS`. `transformers_clip` (`CLIPVisionModel`) holds a mean-pooled
            trunk too, but its `pooler_output` is the class token: take the mean over
            `post_layernorm(last_hidden_state[:, 1:])` instead.
        prefix: begin names as inside the library's whole model ("visual.", "vision_model.").

    Raises:
        ConfigError: no such layout, or one that can't hold this tower; the sentence says why.
        CheckpointError: `state` does not fit `config`.
    """
    table = find(layout)
    check_holds(config, layout)
    expected = _expected(config)
    check_names("the tower's weights", expected, state, "lift")
    for name, tensor in expected.items():
        check_shape(name, state[name], tensor.shape)
    theirs = {}
    for ours, names in _instances(table, config.depth):
        if ours[0] in expected:
            whole = torch.cat([state[name].detach() for name in ours])
            whole = whole.reshape((1,) * table.lead.get(ours[0], 0) + whole.shape)
            parts = whole.chunk(len(names)) if len(names) > 1 else [whole]
            theirs.update(zip(names, (part.clone() for part in parts), strict=True))
    if table.identity:
        theirs[table.identity] = torch.eye(
            config.width, dtype=state["norm.weight"].dtype, device=state["norm.weight"].device
        )
    return {(table.prefix if prefix else "") + name: tensor for name, tensor in theirs.items()}


def from_layout(
    state: Mapping[str, Tensor], layout: str, *, without: Iterable[str] = (), **facts: Any
) -> tuple[vit.Config, dict[str, Tensor]]:
    """Return the config and weights of a tower from another library's weights.

    Args:
        state: its state dict, of the vision model alone or (if every vision name has the
            library's prefix) of a larger model.
        layout: a key of `LAYOUTS`.
        without: names to leave out knowingly; one that ends in "." stands for all that begin so.
        facts: fields of `vit.Config` that weights don't show. Unless given, `heads` is that of
            ViT-T, -S, -B or -L at its width (any other width has to be told), `activation` and
            `norm_eps` are those of the library's own classes, `pooling` is "attention" or "token"
            where the weights have a query or a class token, else "mean".

    Raises:
        ConfigError: no such layout or field.
        CheckpointError: names missing or left over, or a shape that does not fit.
    """
    table = find(layout)
    given = _without(state, without)
    if any(name.startswith(table.prefix) for name in given):
        strays = [name for name in given if not name.startswith(table.prefix)]
        refuse_strays("the weights", strays, layout)
        given = {name.removeprefix(table.prefix): tensor for name, tensor in given.items()}
    given = {name: tensor for name, tensor in given.items() if name not in table.ballast}
    if table.identity in given:
        _check_identity(table.identity, given.pop(table.identity), table.prefix)
    config = _infer(given, table, layout, facts)
    expected = _expected(config)
    rules = [r for r in _instances(table, config.depth) if r[0][0] in expected]
    check_names("the weights", [name for _, names in rules for name in names], given, layout)
    ours: dict[str, Tensor] = {}
    for names, theirs in rules:
        lead = table.lead.get(names[0], 0)
        parts = [given[name].detach() for name in theirs]
        check_shape(theirs[0], parts[0], _their_shape(names, theirs, expected, lead))
        for name, part in zip(theirs[1:], parts[1:], strict=True):
            check_shape(name, part, parts[0].shape)
        whole = torch.cat(parts)
        whole = whole.reshape(whole.shape[lead:])
        shares = whole.chunk(len(names)) if len(names) > 1 else [whole]
        ours.update(zip(names, (share.clone() for share in shares), strict=True))
    return config, {name: ours[name] for name in expected}


def _infer(
    given: Mapping[str, Tensor], table: Layout, layout: str, facts: Mapping[str, Any]
) -> vit.Config:
    theirs = {ours[0]: names[0] for ours, names in table.rules}

    def has(name: str) -> bool:
        return theirs.get(name) in given

    def take(name: str, axes: int) -> Tensor:
        key = theirs[name].format(i=0)
        check_names("the weights", [key], {key: given[key]} if key in given else {}, layout)
        if given[key].ndim != axes + table.lead.get(name, 0):
            raise CheckpointError(
                f"{key} has the shape {tuple(given[key].shape)}, not {axes} axes."
            )
        return given[key]

    kernel, position = take("patch.weight", 4), take("position", 2)
    width, patch, prefix = kernel.shape[0], kernel.shape[-1], int(has("class_token"))
    stem = theirs["blocks.{i}.norm1.weight"].partition("{i}")[0]
    block = re.compile(re.escape(stem) + r"([0-9]+)\..*")
    last = max((int(m[1]) for m in map(block.fullmatch, given) if m), default=0)
    side = math.isqrt(max(position.shape[-2] - prefix, 0))
    if not side or side**2 + prefix != position.shape[-2]:
        raise CheckpointError(
            f"{theirs['position']} has {position.shape[-2]} positions, which is no square of "
            f"patches{' and a class token' if prefix else ''}."
        )
    pre_norm = has("norm_pre.weight")
    inferred = {
        "width": width,
        "depth": min(last + 1, len(given)),
        "heads": _HEADS.get(width, 1),
        "patch": patch,
        "resolution": side * patch,
        "mlp_ratio": take("blocks.{i}.mlp.fc1.weight", 2).shape[0] / width,
        "pooling": "attention" if has("pool.query") else "token" if prefix else "mean",
        "class_token": bool(prefix),
        "pre_norm": pre_norm,
        "patch_bias": has("patch.bias"),
        "norm_eps": table.norm_eps or (1e-5 if pre_norm else 1e-6),
        "activation": table.activation,
    }
    if width not in _HEADS and "heads" not in facts:
        raise CheckpointError(
            f"Weights of width {width} don't show their heads, and a wrong number would only show "
            "in wrong features; give heads= as in the model's own config (so400m, ViT-H, -g and "
            "-bigG have 16)."
        )
    return from_dict(vit.Config, {**inferred, **facts}, "towers/vit")


def _expected(config: vit.Config) -> dict[str, Tensor]:
    with torch.device("meta"):
        return vit.build(config).state_dict()


def _instances(table: Layout, depth: int) -> Iterable[Rule]:
    for ours, theirs in table.rules:
        for i in range(depth) if "{i}" in ours[0] else [0]:
            yield tuple(n.format(i=i) for n in ours), tuple(n.format(i=i) for n in theirs)


def _their_shape(
    ours: tuple[str, ...], theirs: tuple[str, ...], expected: Mapping[str, Tensor], lead: int
) -> tuple[int, ...]:
    rows = sum(len(expected[name]) for name in ours) // len(theirs)
    return (1,) * lead + (rows, *expected[ours[0]].shape[1:])


def _without(state: Mapping[str, Tensor], without: Iterable[str]) -> dict[str, Tensor]:
    left = dict(state)
    for entry in without:
        gone = [n for n in left if n == entry or (entry.endswith(".") and n.startswith(entry))]
        if not gone:
            raise CheckpointError(f"The weights have no {entry!r} to leave out.")
        for name in gone:
            del left[name]
    return left


def _check_identity(name: str, matrix: Tensor, prefix: str) -> None:
    if matrix.ndim != 2 or not torch.equal(matrix, torch.eye(*matrix.shape, dtype=matrix.dtype)):
        raise CheckpointError(
            f"{name} projects into a shared space and is no part of a tower: "
            f"take it from the weights as a head, then pass without=['{prefix}{name}']."
        )


def check_names(where: str, expected: Iterable[str], given: Iterable[str], layout: str) -> None:
    """Raise CheckpointError with the names that are missing or left over."""
    expected, given = list(expected), set(given)
    missing = [name for name in expected if name not in given]
    if missing:
        raise CheckpointError(f"Missing in {where} (layout {layout}): {_listed(missing)}.")
    refuse_strays(where, sorted(given - set(expected)), layout)


def refuse_strays(where: str, names: list[str], layout: str) -> None:
    """Raise CheckpointError if there are names that a layout does not have."""
    if names:
        raise CheckpointError(f"No place for names in {where} (layout {layout}): {_listed(names)}.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def check_shape(name: str, tensor: Tensor, shape: Iterable[int]) -> None:
    """Raise CheckpointError unless the tensor has the shape."""
    if tuple(tensor.shape) != tuple(shape):
        raise CheckpointError(
            f"{name} has the shape {tuple(tensor.shape)} where {tuple(shape)} is needed."
        )
