"""The two sides that meet on the unit sphere.

A side is an optional tower, an optional head, then unit length; what goes in is raw (pixels) or
stored rows. LIFT's text side is stored rows with nothing to train: the text space never moves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from lift import plugins
from lift.config import Part
from lift.errors import ConfigError, StorageError
from lift.heads import HeadConfig, build_head
from lift.terms import unit

_TOWERS = ("towers", "text_towers")


class Side(nn.Module):
    """An optional tower, an optional head, then unit length."""

    def __init__(self, tower: nn.Module | None, head: nn.Module | None) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    @property
    def is_stored(self) -> bool:
        """Whether what goes in are stored rows, with nothing to compute but their length."""
        return self.tower is None and self.head is None

    def forward(self, x: Tensor, tiles: int = 1) -> Float[Tensor, "n d"]:
        """Return `z`: what went in, through tower and head, at unit length in float32.

        Args:
            x: what the tower takes, or rows.
            tiles: above 1, images are made into mosaics of `tiles` x `tiles` and each gets the
                vector of its tile (see `lift.towers.vit.ViT.regions`).
        """
        return self.finish(self.features(x, tiles))

    def features(self, x: Tensor, tiles: int = 1) -> Float[Tensor, "n width"]:
        """Return `h`: what went in, through the tower, raw; arguments as in `forward`."""
        if self.tower is None:
            return x
        return self.tower(x) if tiles == 1 else self.tower.regions(x, tiles)  # type: ignore[operator]

    def finish(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n d"]:
        """Return `z` of what the tower gave, now or earlier."""
        return unit(h if self.head is None else self.head(h))


@dataclass(frozen=True, kw_only=True)
class SideConfig:
    """A side as options: which tower (None: stored rows come in) and which head."""

    tower: Part | None = None
    head: HeadConfig = field(default_factory=lambda: HeadConfig(layers=0))

    def __post_init__(self) -> None:
        if self.tower is not None and self.tower.room not in _TOWERS:  # a stranger's file may be
            raise ConfigError(f"A tower can't be of {self.tower.room}/{self.tower.name}.")


def build_side(
    config: SideConfig, width_in: int | None, shared: int, *, kept: bool = False
) -> Side:
    """Return the side, its weights drawn from torch's global generator.

    Args:
        config: tower and head.
        width_in: length of stored rows where there is no tower.
        shared: width of the space in which the sides meet.
        kept: whether a saved model says so: then nothing but its options is read.

    Raises:
        ConfigError: no head although the widths differ.
    """
    build = plugins.rebuild if kept else plugins.build
    tower = build(config.tower) if config.tower is not None else None
    width = tower.width if tower is not None else width_in
    assert width is not None, "a side without tower needs the width of its rows"
    if config.head.layers == 0:
        if width != shared:
            is_text = config.tower is None or config.tower.room == "text_towers"
            side, head = ("text", "text_head") if is_text else ("image", "head")
            raise ConfigError(
                f"The {side} side has no head and gives {width} numbers, the shared space has "
                f"{shared}: set {head}.layers to 1 or 2."
            )
        return Side(tower, None)
    return Side(tower, build_head(config.head, width, shared))


class TwoSided(nn.Module):
    """Image side, text side and the objective that joins them."""

    def __init__(self, image: Side, text: Side, objective: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.objective = objective


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module trains."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def digest_of(module: nn.Module, *facts: Any) -> str:
    """Return "sha256:..." of a module's tensors by name (0.3 s for a B/16), and of plain values.

    Args:
        module: whose parameters and buffers are read.
        facts: what else decides its output, ready for JSON.
    """
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(module.state_dict().items()):
        total.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{total.hexdigest()}"


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name as safetensors.

    Raises:
        StorageError: the disk refused.
    """
    try:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path)
    except SafetensorError as error:  # it wraps the system's error in words of its own
        raise StorageError(
            f"Can't write {path}: {error}. Make room there (or choose another folder) and run the "
            "same command again."
        ) from error
