"""The two sides that meet on the unit sphere.

A side is an optional tower, an optional head, then unit length; what goes in is raw (pixels) or
stored rows. LIFT's text side is stored rows with nothing to train: the text space never moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from lift import plugins
from lift.config import Part
from lift.errors import ConfigError, StorageError
from lift.terms import unit


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What maps a tower's vector into the shared space.

    Attributes:
        layers: 0 none, 1 one matrix, 2 the paper's MLP (matrix, GELU, matrix), and so on.
        hidden: width between the layers; None is the width of the shared space, as in the paper
            (768-4096-4096, 19,931,136 parameters).
        bias: whether the matrices have a bias.
        dropout: share of hidden units dropped in training.
    """

    layers: int = 2
    hidden: int | None = None
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ConfigError(f"head.layers must be 0 or more, not {self.layers}.")
        if self.hidden is not None and self.hidden < 1:
            raise ConfigError(f"head.hidden must be at least 1, not {self.hidden}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout must lie in [0, 1), not {self.dropout}.")


class MLPHead(nn.Module):
    """`layers` matrices with GELU between them."""

    def __init__(self, config: HeadConfig, width: int, shared: int) -> None:
        super().__init__()
        hidden = config.hidden or shared
        widths = [width, *[hidden] * (config.layers - 1), shared]
        modules: list[nn.Module] = []
        for i, (wide_in, wide_out) in enumerate(itertools.pairwise(widths)):
            if i:
                modules.append(nn.GELU())
                if config.dropout:
                    modules.append(nn.Dropout(config.dropout))
            linear = nn.Linear(wide_in, wide_out, bias=config.bias)
            nn.init.normal_(linear.weight, std=wide_in**-0.5)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
            modules.append(linear)
        self.layers = nn.Sequential(*modules)

    def forward(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b d"]:
        """Return the head's output, raw."""
        return self.layers(h)


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
        if self.tower is not None:
            x = self.tower(x) if tiles == 1 else self.tower.regions(x, tiles)  # type: ignore[operator]
        if self.head is not None:
            x = self.head(x)
        return unit(x)


@dataclass(frozen=True, kw_only=True)
class SideConfig:
    """A side as options: which tower (None: stored rows come in) and which head."""

    tower: Part | None = None
    head: HeadConfig = field(default_factory=lambda: HeadConfig(layers=0))


def build_side(config: SideConfig, width_in: int | None, shared: int) -> Side:
    """Return the side, its weights drawn from torch's global generator.

    Args:
        config: tower and head.
        width_in: length of stored rows where there is no tower.
        shared: width of the space in which the sides meet.

    Raises:
        ConfigError: no head although the widths differ.
    """
    tower = plugins.build(config.tower) if config.tower is not None else None
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
    return Side(tower, MLPHead(config.head, width, shared))


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
