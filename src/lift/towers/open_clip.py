"""The image tower of a model of open_clip, by its name there, or by its JSON.

open_clip needs a torchvision that imports.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

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

NEEDS = {"open_clip": "open_clip"}

Output = Literal["projected", "trunk"]

RANDOM = "none"
"""In place of weights: random ones."""

FILE = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"

TRAINING_ONLY = frozenset({"checkpoint_activations"})
"""Options that have no part in what it makes of an image at rest."""

_NAME = "towers/open_clip"
NOT_IN_ROWS = frozenset({"network", "weights", "checkpoint_activations"})
_PREFIX = "visual."
_KEPT = ("embed_dim", "vision_cfg", "quick_gelu")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which network, which weights, which vector.

    Attributes:
        model: its name in open_clip ("ViT-B-32"), a JSON file that says its shape, or a folder
            with an `open_clip_config.json`.
        weights: their name in open_clip ("laion2b_s34b_b79k"; fetched from the hub as
            safetensors), "none" for random ones, a safetensors file, or a folder with one; "" for
            the weights in the model's own folder.
        output: "projected" into the space that the model shares with its texts, or what its
            "trunk" gives before that.
        resolution: pixels of a side; None takes what the model was published for.
        checkpoint_activations: recompute blocks in the backward pass instead of storing them.
        network: the shape as open_clip names it; of a saved model.
    """

    model: str = ""
    weights: str = ""
    output: Output = "projected"
    resolution: int | None = None
    checkpoint_activations: bool = False
    network: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.output not in get_args(Output):
            raise unknown(f"output of {_NAME}", self.output, get_args(Output))
        if not self.model and not self.network:
            raise ConfigError(f"{_NAME} needs model=NAME, a JSON file, or a folder.")
        if self.resolution is not None and self.resolution < 1:
            raise ConfigError(f"{_NAME}: resolution must be at least 1, not {self.resolution}.")


def pixels(config: Config) -> dict[str, Any]:
    """Return fields of a `Transform` that the weights were made with; {} of a saved model.

    Raises:
        ConfigError: no such model, or one that wants its images padded.
        MissingPackage: open_clip, or the torchvision that it needs, can't be imported.
    """
    if config.network:
        return {}
    library = the_library()
    shape, stated = described(config)
    stated = {**stated, **library.pretrained.get_pretrained_cfg(config.model, config.weights)}
    mode = stated.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise ConfigError(
            f"{_NAME}: {config.model!r} wants its images padded to a square (resize_mode {mode}), "
            "which lift does not do; choose another model."
        )
    found = stated.get("interpolation") or "bicubic"
    return {
        "resolution": config.resolution or _side(shape),
        "mean": tuple(stated.get("mean") or library.OPENAI_DATASET_MEAN),
        "std": tuple(stated.get("std") or library.OPENAI_DATASET_STD),
        "interpolation": "bilinear" if found == "bilinear" else "bicubic",
        "resize": "squash" if mode == "squash" else "center_crop",
    }


def kept(config: Config, tower: OpenClipTower) -> Part:
    """Return the part that rebuilds the network from its options alone."""
    return Part("towers", "open_clip", to_dict(tower.config))


def build(config: Config) -> OpenClipTower:
    """Return the tower; of a saved model, with random weights in its shape.

    Raises:
        ConfigError: no such model, or weights that don't come or don't fit.
        MissingPackage: open_clip, or the torchvision that it needs, can't be imported.
    """
    library = the_library()
    shape = dict(config.network) if config.network else described(config)[0]
    missing = [name for name in ("embed_dim", "vision_cfg") if name not in shape]
    if missing:
        raise ConfigError(
            f"{_NAME}: the JSON of {config.model or 'a saved model'!r} lacks {missing[0]}; give "
            "one as open_clip's own models have it."
        )
    shape = {name: shape[name] for name in _KEPT if name in shape}
    side = config.resolution or _side(shape)
    vision = {**shape["vision_cfg"], "image_size": side, "timm_model_pretrained": False}
    name = str(vision.get("timm_model_name") or "")
    if config.network and re.search(r"[^\w.]", name):  # a stranger's: timm shall fetch nothing
        raise ConfigError(f"{_NAME}: {name!r} in a saved model is no name of a network of timm.")
    shape["vision_cfg"] = vision
    try:
        network = library.model._build_vision_tower(
            shape["embed_dim"], dict(vision), bool(shape.get("quick_gelu", False))
        )
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the network of {config.model or 'a saved model'!r} could not be built "
            f"({fault_of(error)}); check its JSON."
        ) from error
    if not config.network and config.weights != RANDOM:
        _load(network, weights_file(config), library, config)
    return OpenClipTower(config, network, side, shape)


def rebuild(config: Config) -> OpenClipTower:
    """Return the network of a saved model with random weights; raises as `build`."""
    if not config.network:
        raise ConfigError(
            f"{_NAME}: the saved model does not say the shape of its network; copy it again from "
            "where it was made."
        )
    return build(config)


class OpenClipTower(SomebodysNetwork):
    """An image tower of open_clip.

    Attributes:
        config: what it was built from, with the shape of its network and without a place on disk.
        width: length of `h_image`.
        resolution: pixels of a side that it was built for.
        network: of open_clip.
        projection: from the trunk to the shared space, where it is a matrix beside the network.
    """

    def __init__(
        self, config: Config, network: Any, resolution: int, shape: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.config = dataclasses.replace(
            config,
            model="" if Path(config.model).expanduser().exists() else config.model,
            weights="" if Path(config.weights).expanduser().exists() else config.weights,
            resolution=resolution,
            network=shape,
        )
        self.resolution = resolution
        matrix = getattr(network, "proj", None)
        if config.output == "trunk":
            _cut(network)
        projection = None
        if isinstance(matrix, nn.Parameter):
            # Beside the network, where it is listed after the blocks.
            network.proj = None
            if config.output == "projected":
                projection = nn.Linear(*matrix.shape, bias=False)
                projection.weight = nn.Parameter(matrix.detach().T.contiguous().float())
        if hasattr(network, "output_tokens"):
            network.output_tokens = False
        self.network = network.float()
        self.projection = projection
        self.width = settle(self, resolution, _NAME)
        if config.checkpoint_activations:
            network.set_grad_checkpointing(True)

    @property
    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, or stages, first to last; empty where they lie apart (ResNet)."""
        return blocks_of(self.network)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b width"]:
        """Return `h_image`, one raw vector an image.

        Args:
            images: normalised pixels.
        """
        h = self.network(images)
        return h if self.projection is None else self.projection(h)


def _cut(network: Any) -> None:
    """Leave out what maps the trunk's vector into the shared space."""
    if hasattr(network, "trunk"):
        if not list(network.head.parameters()) and getattr(network.trunk, "num_classes", 0):
            network.trunk.reset_classifier(0)
        network.head = nn.Identity()
    elif not hasattr(network, "proj"):
        raise ConfigError(
            f"{_NAME}: {type(network).__name__} projects within its pooling; use output=projected."
        )


def the_library() -> Any:
    """Return the library; a torchvision that does not import is said in one sentence.

    Raises:
        MissingPackage: it can't be imported.
    """
    if (fault := torchvision_fault()) is not None:
        raise MissingPackage(f"{_NAME} needs torchvision: {fault}")
    importlib.import_module("open_clip.model")
    return importlib.import_module("open_clip")


def described(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (shape of the model, what is said of its pixels).

    Raises:
        ConfigError: no such model.
    """
    library = the_library()
    path = Path(config.model).expanduser()
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        values = values_of(file, _NAME)
        return values.get("model_cfg", values), values.get("preprocess_cfg", {})
    known = library.list_models()
    if config.model not in known:
        raise unknown("model of open_clip", config.model, known)
    return library.get_model_config(config.model), {}


def _side(shape: Mapping[str, Any]) -> int:
    """Return the pixels of a side that the network is for."""
    size = shape.get("vision_cfg", {}).get("image_size", 224)
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise ConfigError(
            f"{_NAME}: the network wants images of {sorted(sides)} pixels a side, lift's towers "
            "see squares; give resolution."
        )
    return sides.pop()


def weights_file(config: Config) -> Path:
    """Return the safetensors file with the weights, fetched where it lies on the hub.

    Raises:
        ConfigError: no such weights.
    """
    folder, weights = Path(config.model).expanduser(), Path(config.weights).expanduser()
    if not config.weights and folder.is_dir():
        return only_weights(folder, _NAME)
    if config.weights and weights.exists():
        return only_weights(weights, _NAME)
    library = the_library()
    tags = library.list_pretrained_tags_by_model(config.model)
    if config.weights not in tags:
        kind = f"weights of {config.model} (their name, a file, or {RANDOM}):"
        raise unknown(kind, config.weights, tags)
    from huggingface_hub import hf_hub_download

    # Not by open_clip itself: where a repository lacks safetensors, it would take what runs code.
    place = library.pretrained.get_pretrained_cfg(config.model, config.weights).get("hf_hub", "")
    try:
        return Path(hf_hub_download(place.rstrip("/"), WEIGHTS))
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the weights {config.weights!r} of {config.model} don't come from the hub as "
            f"safetensors ({fault_of(error)}); download them and give weights=FILE.safetensors, or "
            f"weights={RANDOM} for random ones."
        ) from error


def _load(network: nn.Module, file: Path, library: Any, config: Config) -> None:
    """Put the image half of a file into the network, positions brought to its size."""
    state = tensors_in(file, _NAME)
    if not any(name.startswith(_PREFIX) for name in state):
        state = {f"{_PREFIX}{name}": value for name, value in state.items()}
    model = SimpleNamespace(visual=network)
    try:
        library.model.resize_pos_embed(state, model)
        state = {n.removeprefix(_PREFIX): t for n, t in state.items() if n.startswith(_PREFIX)}
        found = network.load_state_dict(state, strict=False)
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the weights in {file} don't fit {config.model!r} ({fault_of(error)}); give "
            "the model that they were made for."
        ) from error
    require_weights(file, found.missing_keys)
