"""Any image network that transformers loads without code of its own: ViT, DINO, CLIP, SigLIP, ...

With the image half of a two-tower model the text half is left in its file. Which vector an image
gets is a choice: `pooling`, `layer` and `norm` in `Config`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.config import Part, to_dict
from lift.errors import ConfigError, unknown
from lift.text.loading import loading, quiet_loading, require_weights
from lift.text.networks import READ, alone, found_folder, plain, shape_values, values_of
from lift.towers._pretrained_network import SomebodysNetwork, blocks_of, settle
from lift.towers._pretrained_pixels import FILES, read_pixels, require_statistics
from lift.towers._pretrained_pooling import (
    First,
    OfTokens,
    as_patches,
    as_tokens,
    pooled,
    pooled_parts,
)
from lift.towers._pretrained_shapes import (
    halved,
    image_shape,
    network_of,
    projection,
    side_of,
    wanted_shape,
)

NEEDS = {"transformers": "towers"}

Pooling = Literal["own", "token", "mean", "token+mean", "attention", "projected"]

TRAINING_ONLY = frozenset({"checkpoint_activations"})
"""Options that have no part in what it makes of an image at rest."""

_NAME = "towers/huggingface"
NOT_IN_ROWS = frozenset({"network", "mean", "std", "checkpoint_activations"})
_OF_TOKENS = get_args(OfTokens)
_NORMS = ("layernorm", "post_layernorm", "norm", "layer_norm", "rms_norm", "final_layernorm")
"""What transformers calls the norm after the last block."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where the network comes from, and which vector it gives.

    Attributes:
        model: a folder, or an id of the hub, with weights in safetensors.
        revision: branch, tag or commit of a hub model.
        pooling: "own" is what the model itself gives out (`pooler_output`); "token" its class
            token; "mean" that of its patches, without class token and registers; "token+mean" both,
            one after the other, twice as wide (dino.txt, SAIL, freeze-align); "attention" its own
            attention pooling, where it has one (SigLIP); "projected" a two-tower model's vector in
            the space that it shares with its texts (CLIP, SigLIP).
        layer: the block whose tokens are pooled: 1 is the first, -1 the last. An earlier one can
            lie nearer to texts (STRUCTURE, 2506.16895). Blocks after it are left out.
        norm: apply the norm that follows the last block to the tokens that are pooled, also to
            those of an earlier block; models with "own", "attention" or "projected" do always.
        resolution: pixels of a side; None takes what the model was published for. Other ones need
            a network that can interpolate its positions.
        mean, std: of the pixels, where no preprocessor_config.json tells them.
        checkpoint_activations: recompute blocks in the backward pass instead of storing them.
        network: the shape as transformers names it; of a saved model. Then no weights are read.
    """

    model: str = ""
    revision: str | None = None
    pooling: Pooling = "own"
    layer: int = -1
    norm: bool = True
    resolution: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    checkpoint_activations: bool = False
    network: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise unknown(f"pooling of {_NAME}", self.pooling, get_args(Pooling))
        if not self.model and not self.network:
            raise ConfigError(f"{_NAME} needs model=FOLDER_OR_HUB_ID.")
        if self.resolution is not None and self.resolution < 1:
            raise ConfigError(f"{_NAME}: resolution must be at least 1, not {self.resolution}.")
        if not self.norm and self.pooling not in _OF_TOKENS:
            raise ConfigError(f"{_NAME}: norm=false goes with token, mean or token+mean.")


def pixels(config: Config) -> dict[str, Any]:
    """Return fields of a `Transform` that the weights were made with; {} of a saved model.

    Raises:
        ConfigError: no such model, or nothing that tells mean and deviation of its pixels.
    """
    if config.network:
        return {}
    folder = _folder(config)
    found = _stated(config, folder)
    require_statistics(found, config.model, _NAME)
    if "resolution" not in found:
        with loading(config.model, "image tower"):
            found["resolution"] = side_of(image_shape(_shape(folder), _NAME)) or 224
    return found


def kept(config: Config, tower: PretrainedTower) -> Part:
    """Return the part that rebuilds the network from its options alone."""
    return Part("towers", "huggingface", to_dict(tower.config))


def build(config: Config) -> PretrainedTower:
    """Return the tower with the model's weights; of a saved model, random ones in its shape.

    Raises:
        MissingPackage: transformers is not installed.
        ConfigError: no such model, one that can't be loaded, or a pooling or layer it doesn't have.
    """
    if config.network:
        return rebuild(config)
    folder = _folder(config)
    stated = _stated(config, folder).get("resolution")
    with loading(config.model, "image tower"), quiet_loading():
        shape = wanted_shape(_shape(folder), config.pooling, config.layer, _NAME)
        with alone(folder) as files:
            network, info = network_of(shape, _NAME).from_pretrained(
                str(files),
                config=shape,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        side = stated or side_of(image_shape(shape, _NAME)) or 224
        tower = PretrainedTower(config, network, side)
    missing = set(info["missing_keys"]) & tower.needed
    if missing and all("pooler" in name.split(".") for name in missing):
        raise ConfigError(
            f"{_NAME}: the files of {config.model!r} have no weights for the network's own pooling "
            f"({min(missing)}, ...); use pooling=token or mean."
        )
    require_weights(config.model, missing)
    return tower


def rebuild(config: Config) -> PretrainedTower:
    """Return a saved model's network with random weights. Raises ConfigError."""
    values = plain(config.network)
    kind = values.pop("model_type", None)
    if not isinstance(kind, str) or config.resolution is None:
        raise ConfigError(
            f"{_NAME}: the saved model does not say the shape of its network; copy it again from "
            "where it was made."
        )
    with loading(kind, "image tower"), quiet_loading():
        import transformers

        shape = transformers.AutoConfig.for_model(kind, **values)
        shape = wanted_shape(shape, config.pooling, config.layer, _NAME)
        network = network_of(shape, _NAME)._from_config(shape, dtype=torch.float32)
        return PretrainedTower(config, network, config.resolution)


class PretrainedTower(SomebodysNetwork):
    """A network of transformers as an image tower.

    Attributes:
        config: what it was built from, the network's shape in place of its files.
        width: length of `h_image`.
        resolution: pixels of a side that it was built for.
        network: of transformers, without what the pooling does not need.
        norm: the norm after the last block, where it is applied here.
        needed: names of the network's weights.
    """

    def __init__(self, config: Config, network: Any, resolution: int) -> None:
        super().__init__()
        shape = halved(network.config)
        self.config = _without_place(config, shape, resolution)
        self.resolution = resolution
        self._projects = config.pooling == "projected"
        self._takes_patches = image_shape(shape, _NAME).model_type.startswith("siglip2")
        self._patch: Any = getattr(image_shape(shape, _NAME), "patch_size", None)
        self._side = side_of(image_shape(shape, _NAME))
        method = projection(network, _NAME) if self._projects else network.forward
        self._interpolates = "interpolate_pos_encoding" in inspect.signature(method).parameters
        self.network = network.float()
        taken_out = self._without_unused()
        self.norm = taken_out if config.norm else None
        self.needed = {name for name, _ in self.network.named_parameters()}
        for name, _ in () if self.norm is None else self.norm.named_parameters():
            self.needed.add(f"{self._norm_name}.{name}")
        self.width = settle(self, resolution, _NAME)
        if config.checkpoint_activations:
            half = getattr(network, "vision_model", network)
            enable = getattr(half, "activation_checkpointing_enable", None)
            enable = enable or half.gradient_checkpointing_enable  # its older name
            enable({"use_reentrant": False})

    @property
    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, or stages, first to last."""
        return blocks_of(getattr(self.network, "vision_model", self.network))

    def _without_unused(self) -> nn.Module | None:
        """Take out what the chosen pooling never reads, and return the last norm if it is out."""
        network, pooling = self.network, self.config.pooling
        if self._projects:
            for name, _ in [*network.named_children(), *network.named_parameters(recurse=False)]:
                if name.startswith(("text", "logit")):
                    delattr(network, name)
            return None
        if pooling == "attention" and not isinstance(getattr(network, "head", None), nn.Module):
            raise ConfigError(
                f"{_NAME}: {type(network).__name__} has no attention pooling; use pooling=own, "
                "mean or token."
            )
        if pooling in ("own", "attention"):
            return None
        name = next((n for n in _NORMS if isinstance(getattr(network, n, None), nn.Module)), None)
        if name is None and not self.config.norm:
            raise ConfigError(
                f"{_NAME}: no norm after the last block is known of {type(network).__name__}; "
                "leave out norm=false."
            )
        norm = None
        if name is not None:
            self._norm_name, norm = name, getattr(network, name)
            setattr(network, name, nn.Identity())
        for name in ("pooler", "head"):
            if isinstance(getattr(network, name, None), nn.Module):
                setattr(network, name, First())
        return norm

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b width"]:
        """Return `h_image`, one raw vector an image.

        Args:
            images: normalised pixels.

        Raises:
            ConfigError: a pooling that the network has nothing for.
        """
        how: Any = self.config.pooling
        if how not in _OF_TOKENS:
            found = self._run(images)
            h = getattr(found, "pooler_output", found)
            if not isinstance(h, Tensor):
                raise ConfigError(
                    f"{_NAME}: {type(self.network).__name__} makes no vector of its own; use "
                    "pooling=mean, or token where it has a class token."
                )
            return h.flatten(1)
        x, prefix, late = self._tokens(images)
        return late(pooled(x, prefix, how))

    def grid(self, images: Float[Tensor, "b 3 h w"], tiles: int) -> Float[Tensor, "n width"]:
        """Return one raw vector for each of `tiles` x `tiles` equal parts of every image.

        All patches attend to each other; then those of a part are pooled alone (`pooled_parts`).

        Raises:
            ConfigError: parts that are not made of whole patches, or a pooling of whole images.
        """
        how: Any = self.config.pooling
        if how not in _OF_TOKENS:
            raise ConfigError(
                f"{_NAME}: pooling={how} makes a vector of a whole image, not of its parts; use "
                "pooling=mean or token+mean."
            )
        x, prefix, late = self._tokens(images)
        return late(pooled_parts(x, prefix, how, (images.shape[2], images.shape[3]), tiles))

    def _tokens(self, images: Tensor) -> tuple[Tensor, int, Any]:
        """Return tokens, how many come before the patches, and the norm behind the pooling."""
        last = self._run(images).last_hidden_state
        x, norm = as_tokens(last), self.norm or nn.Identity()
        if last.ndim == 4:  # convolutional: the norm comes after the mean
            return x, 0, norm
        return norm(x), self._prefix(x.shape[1], images), nn.Identity()

    def _run(self, images: Tensor) -> Any:
        options: dict[str, Any] = {}
        other = self._side is not None and images.shape[-2:] != (self._side, self._side)
        if self._interpolates and other:
            options["interpolate_pos_encoding"] = True
        values = images
        if self._takes_patches:
            values, more = as_patches(images, self._patch)
            options = more
        run = projection(self.network, _NAME) if self._projects else self.network
        return run(values, **options)

    def _prefix(self, tokens: int, images: Tensor) -> int:
        """Return the tokens in front of the patches: class token and registers."""
        if not isinstance(self._patch, int):
            return 0
        height, width = images.shape[-2:]
        # Hierarchical networks have fewer tokens than first patches, and none in front.
        return max(0, tokens - (height // self._patch) * (width // self._patch))


def _without_place(config: Config, shape: Any, resolution: int) -> Config:
    """Return the options of a saved model: the shape of its network instead of its files."""
    local = Path(config.model).expanduser().is_dir()
    depth = getattr(image_shape(shape, _NAME), "num_hidden_layers", -1)
    return dataclasses.replace(
        config,
        model="" if local else config.model,
        revision=None if local else config.revision,
        layer=-1 if config.layer == -1 else depth,
        resolution=resolution,
        mean=None,
        std=None,
        network=shape_values(shape),
    )


def _folder(config: Config) -> Path:
    """Return the folder with the model's files."""
    return found_folder(
        config.model,
        config.revision,
        wanted_by=_NAME,
        extra="towers",
        files=[*READ, *FILES],
        unknown=f"tower.model={config.model} is neither a folder, nor a hub model that can be had "
        "({}); check the name, or download it and give its folder.",
    )


def _shape(folder: Path) -> Any:
    import transformers

    values_of(folder / "config.json", _NAME)  # its words are clearer
    with alone(folder, ("config.json",)) as files:
        return transformers.AutoConfig.from_pretrained(str(files), trust_remote_code=False)


def _stated(config: Config, folder: Path) -> dict[str, Any]:
    """Return what files and options say of the pixels."""
    kind = values_of(folder / "config.json", _NAME).get("model_type")
    found = read_pixels(folder, str(kind), _NAME)
    for name in ("resolution", "mean", "std"):
        if (value := getattr(config, name)) is not None:
            found[name] = value
    return found
