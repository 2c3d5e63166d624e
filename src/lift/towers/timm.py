"""Any image network of timm, by its name there.

timm needs a torchvision that imports. `model` names the architecture and, after a dot, the weights.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.config import Part, to_dict
from lift.errors import ConfigError, MissingPackage, unknown
from lift.text.loading import fault_of, require_weights, torchvision_fault
from lift.text.networks import values_of
from lift.towers._pretrained_network import (
    SomebodysNetwork,
    blocks_of,
    only_weights,
    settle,
    tensors_in,
)
from lift.towers._pretrained_pooling import as_tokens, pooled, pooled_parts

NEEDS = {"timm": "timm"}

Pooling = Literal["own", "token", "mean", "token+mean", "attention"]

RANDOM = "none"
"""In place of weights: random ones."""

TRAINING_ONLY = frozenset({"checkpoint_activations"})
"""Options that have no part in what it makes of an image at rest."""

_NAME = "towers/timm"
NOT_IN_ROWS = frozenset({"weights", "checkpoint_activations"})
_WHOLE = ("own", "attention")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which network, which weights, which vector.

    Attributes:
        model: its name in timm ("vit_small_patch14_dinov2.lvd142m", "convnext_tiny.fb_in1k").
        weights: "" for those of the hub, "none" for random ones, else a safetensors file, or a
            folder with one.
        pooling: "own" is what timm itself pools; "token" the class token; "mean" that of the
            patches, without class token and registers, or of a convolutional network's last map, as
            it comes (its norm belongs to "own");
            "token+mean" both, one after the other, twice as wide; "attention" its own attention
            pooling, where it has one (SigLIP).
        layer: the block (or stage) whose tokens are pooled: 1 is the first, -1 the last. Blocks
            after it are left out.
        norm: apply the norm that follows the last block to the tokens that are pooled, also to
            those of an earlier block; "own" and "attention" do always.
        resolution: pixels of a side; None takes what the weights were published for.
        checkpoint_activations: recompute blocks in the backward pass instead of storing them.
    """

    model: str
    weights: str = ""
    pooling: Pooling = "own"
    layer: int = -1
    norm: bool = True
    resolution: int | None = None
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise unknown(f"pooling of {_NAME}", self.pooling, get_args(Pooling))
        if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?", self.model):
            raise ConfigError(
                f"{_NAME}: {self.model!r} is no name of timm's own (architecture.weights); give "
                "such a name, and weights=FOLDER_OR_FILE for weights of your own."
            )
        if self.resolution is not None and self.resolution < 1:
            raise ConfigError(f"{_NAME}: resolution must be at least 1, not {self.resolution}.")
        if self.pooling in _WHOLE and (self.layer != -1 or not self.norm):
            raise ConfigError(
                f"{_NAME}: pooling={self.pooling} is timm's own of the last layer with its norm; "
                "use token, mean or token+mean with layer or norm."
            )


def pixels(config: Config) -> dict[str, Any]:
    """Return fields of a `Transform` that the weights were made with.

    timm's `crop_pct` is not among them: the whole short side is seen.

    Raises:
        ConfigError: no such network.
        MissingPackage: timm, or the torchvision that it needs, can't be imported.
    """
    timm = _timm()
    found = timm.data.resolve_data_config(pretrained_cfg=_published(config))
    return {
        "resolution": config.resolution or found["input_size"][-1],
        "mean": tuple(found["mean"]),
        "std": tuple(found["std"]),
        "interpolation": "bilinear" if found["interpolation"] == "bilinear" else "bicubic",
        "resize": "squash" if found.get("crop_mode") == "squash" else "center_crop",
    }


def kept(config: Config, tower: TimmTower) -> Part:
    """Return the part that builds the network again without any weights."""
    return Part("towers", "timm", to_dict(tower.config))


def build(config: Config) -> TimmTower:
    """Return the tower.

    Raises:
        ConfigError: no such network, weights that don't come or don't fit, or a pooling or layer
            that it doesn't have.
        MissingPackage: timm, or the torchvision that it needs, can't be imported.
    """
    timm = _timm()
    found = _published(config)
    published = found["input_size"][-1]
    resolution = config.resolution or published
    sized = resolution != published and found.get("fixed_input_size")
    try:
        network = timm.create_model(
            config.model,
            pretrained=False,
            num_classes=0,
            **({"img_size": resolution} if sized else {}),
        )
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: {config.model!r} could not be built ({fault_of(error)}); choose another "
            "resolution or network."
        ) from error
    if config.weights != RANDOM:
        _load(network, _fetched(config, found), config)
    return TimmTower(config, network, resolution)


def rebuild(config: Config) -> TimmTower:
    """Return the network of a saved model with random weights; raises as `build`."""
    return build(dataclasses.replace(config, weights=RANDOM))


def _load(network: Any, file: Path, config: Config) -> None:
    """Put the weights of a file into the network, positions brought to its size."""
    state = tensors_in(file, _NAME)
    converted = getattr(
        importlib.import_module(type(network).__module__), "checkpoint_filter_fn", None
    )
    try:
        state = state if converted is None else converted(state, network)
        found = network.load_state_dict(state, strict=False)
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the weights in {file} don't fit {config.model!r} ({fault_of(error)}); give "
            "the network that they were made for."
        ) from error
    require_weights(file, found.missing_keys)


class TimmTower(SomebodysNetwork):
    """A network of timm as an image tower.

    Attributes:
        config: what it was built from, without the place of its weights.
        width: length of `h_image`.
        resolution: pixels of a side that it was built for.
        network: of timm, without what the pooling does not need.
        norm: the norm after the pooling, of networks that have it there.
    """

    def __init__(self, config: Config, network: Any, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.norm: nn.Module | None = None
        self._index = self._keep_needed(config, network)
        layer = -1 if config.layer == -1 else self._index + 1
        self.config = dataclasses.replace(
            config, weights=RANDOM, resolution=resolution, layer=layer
        )
        self.network = network.float()
        self.width = settle(self, resolution, _NAME)
        if config.checkpoint_activations:
            network.set_grad_checkpointing(True)

    @property
    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, or stages, first to last; empty where they lie apart (ResNet)."""
        return blocks_of(self.network)

    def _keep_needed(self, config: Config, network: Any) -> int:
        """Take out what the chosen pooling never reads; return the place of the chosen layer."""
        if config.pooling == "attention" and getattr(network, "attn_pool", None) is None:
            raise ConfigError(
                f"{_NAME}: {config.model!r} has no attention pooling; use pooling=own, mean or "
                "token."
            )
        if config.pooling in _WHOLE:
            return 0
        depth = len(network.feature_info)
        index = config.layer - 1 if config.layer > 0 else depth + config.layer
        if not 0 <= index < depth or not config.layer:
            raise ConfigError(
                f"{_NAME}: layer={config.layer}, but {config.model!r} has {depth} blocks or "
                f"stages; give 1 to {depth}, or -1 (the last) to -{depth}."
            )
        if not hasattr(network, "prune_intermediate_layers"):
            raise ConfigError(
                f"{_NAME}: timm can't take out the layers of {config.model!r}; use pooling=own."
            )
        if config.norm and isinstance(getattr(network, "norm", None), nn.Identity):
            self.norm = getattr(network, "fc_norm", None)  # these pool first
        network.prune_intermediate_layers([index], prune_norm=not config.norm, prune_head=True)
        return index

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b width"]:
        """Return `h_image`, one raw vector an image.

        Args:
            images: normalised pixels.

        Raises:
            ConfigError: a pooling that the network has nothing for.
        """
        if self.config.pooling in _WHOLE:
            return self.network(images)
        x, prefix = self._tokens(images)
        parts = [pooled(x, prefix, part) for part in self._pieces]
        return torch.cat(parts if self.norm is None else [self.norm(part) for part in parts], 1)

    def grid(self, images: Float[Tensor, "b 3 h w"], tiles: int) -> Float[Tensor, "n width"]:
        """Return one raw vector for each of `tiles` x `tiles` equal parts of every image.

        All patches attend to each other; then those of a part are pooled alone (`pooled_parts`).

        Args:
            images: normalised pixels.
            tiles: parts of a side.

        Raises:
            ConfigError: parts that are not made of whole patches, or a pooling of whole images.
        """
        how = self.config.pooling
        if how == "own" or how == "attention":
            raise ConfigError(
                f"{_NAME}: pooling={how} makes a vector of a whole image, not of its parts; use "
                "pooling=mean or token+mean."
            )
        x, prefix = self._tokens(images)
        h = pooled_parts(x, prefix, how, (images.shape[2], images.shape[3]), tiles)
        if self.norm is None:
            return h
        pieces = h.chunk(2, 1) if how == "token+mean" else [h]
        return torch.cat([self.norm(piece) for piece in pieces], 1)

    @property
    def _pieces(self) -> list[Any]:
        """The vectors of which `h` is made, each of which has a norm of its own."""
        return self.config.pooling.split("+")

    def _tokens(self, images: Tensor) -> tuple[Tensor, int]:
        """Return tokens, and how many come before the patches."""
        found = self.network.forward_intermediates(
            images,
            indices=[self._index],
            norm=self.config.norm,
            intermediates_only=True,
            stop_early=True,
            **self._prefixed,
        )[0]
        front, patches = (found[1], found[0]) if isinstance(found, tuple) else (None, found)
        x = as_tokens(patches)
        if front is None:
            return x, 0
        return torch.cat([front, x], 1), front.shape[1]

    @property
    def _prefixed(self) -> Mapping[str, Any]:
        """Ask for the class token where there can be one."""
        has = getattr(self.network, "num_prefix_tokens", 0)
        return {"return_prefix_tokens": True, "output_fmt": "NLC"} if has else {}


def _timm() -> Any:
    """Return the library; a torchvision that does not import is said in one sentence."""
    if (fault := torchvision_fault()) is not None:
        raise MissingPackage(f"{_NAME} needs torchvision: {fault}")
    importlib.import_module("timm.data")
    return importlib.import_module("timm")


def _fetched(config: Config, found: Mapping[str, Any]) -> Path:
    """Return the safetensors file with the weights."""
    if config.weights:
        return only_weights(Path(config.weights).expanduser(), _NAME)
    from huggingface_hub import hf_hub_download

    # Not by timm itself: where a repository lacks safetensors, it would take what can run code.
    stated = Path(found.get("hf_hub_filename") or "model.safetensors")
    try:
        return Path(
            hf_hub_download(str(found.get("hf_hub_id")), str(stated.with_suffix(".safetensors")))
        )
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the weights of {config.model!r} don't come from the hub "
            f"({fault_of(error)}); download them and give weights=FILE.safetensors, or weights="
            "none for random ones."
        ) from error


def _published(config: Config) -> dict[str, Any]:
    """Return what timm knows of the weights: of a folder its config.json, else by their name."""
    timm = _timm()
    name, _, tag = config.model.partition(".")
    if not timm.is_model(name):
        raise unknown("network of timm", name, timm.list_models())
    known = timm.get_pretrained_cfg(config.model if tag else name, allow_unregistered=not tag)
    found = {} if known is None else known.to_dict()
    folder = Path(config.weights).expanduser() if config.weights not in ("", RANDOM) else None
    if folder is not None and (file := folder / "config.json").is_file():
        stated = values_of(file, _NAME)
        found |= stated.get("pretrained_cfg", stated)
    if "input_size" not in found:
        raise ConfigError(
            f"{_NAME}: timm knows no weights {config.model!r}, and so not their pixels; give a "
            "name with known weights (architecture.weights)."
        )
    return found
