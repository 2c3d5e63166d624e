"""A model of open_clip, by its name there or as a folder with its JSON: both towers, one space.

Pixels are prepared by our own code from the values that open_clip states, texts by its tokenizer.
Weights are read from safetensors alone. open_clip needs a torchvision that imports.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import nn

from lift.config import Part, to_dict
from lift.contenders._two_towers import TwoTowers
from lift.errors import ConfigError
from lift.image_tower import open_tower, weights_of
from lift.text.encoder import clean
from lift.text.loading import fault_of, require_weights
from lift.text.probes import PROBES
from lift.towers import open_clip as towers
from lift.towers._pretrained_network import tensors_in

NEEDS = {"open_clip": "open_clip"}

_NAME = "contenders/open_clip"
_OF_TEXTS = (
    "text_projection",
    "positional_embedding",
    "token_embedding",
    "transformer",
    "ln_final",
)
"""Where models of CLIP's first form keep their text tower: beside the image tower, unnamed."""

_TOKENIZING = frozenset({"clean", "strip_sep_token", "language", "reduction_mask"})
"""What a folder's JSON may tell a tokenizer."""

_NAMES = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
"""Of networks of timm, and on the hub."""

_PREFIX = "text."
_BATCH = 64
"""Texts that go through the tower together."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: its name in open_clip ("ViT-B-32"), or a folder with an `open_clip_config.json`.
        weights: their name in open_clip ("laion2b_s34b_b79k"; fetched from the hub as
            safetensors), a safetensors file or a folder with one; "" for those in the model's own
            folder.
        resolution: pixels of a side; None takes what the model was published for.
        saw: benchmarks whose captions it was trained on.
    """

    model: str
    weights: str = ""
    resolution: int | None = None
    saw: tuple[str, ...] = ()


def build(config: Config, device: torch.device) -> TwoTowers:
    """Return the model.

    Raises:
        ConfigError: no such model, or weights or a tokenizer that don't come or don't fit.
        MissingPackage: open_clip, or the torchvision that it needs, can't be imported.
    """
    of = towers.Config(model=config.model, weights=config.weights, resolution=config.resolution)
    library = towers.the_library()
    shape = towers.described(of)[0]
    if os.path.exists(Path(config.model).expanduser()):
        _require_harmless(shape, config.model)
    said = {name: value for name, value in to_dict(of).items() if value and name != "output"}
    tower = open_tower(Part("towers", "open_clip", said), device=str(device))
    if "multimodal_cfg" in shape:
        raise ConfigError(
            f"{_NAME}: {config.model!r} writes captions, too (CoCa), and reads texts in a way that "
            "lift does not know; choose a model of two towers."
        )
    network = _text_tower(library, shape, config)
    network.load_state_dict(_state(library, network, of), strict=False)
    texts = _Texts(network.float().eval().to(device), _tokenizer(library, config), device)
    name = Path(config.model).name
    if config.weights and not Path(config.weights).expanduser().exists():
        name = f"{name} {config.weights}"
    return TwoTowers(name, tower, texts, config.saw)


def _require_harmless(shape: Mapping[str, Any], model: str) -> None:
    """Refuse what somebody's JSON could make the library run or read. Raises ConfigError."""
    vision, text = (shape.get(name) for name in ("vision_cfg", "text_cfg"))
    vision, text = (part if isinstance(part, dict) else {} for part in (vision, text))
    options = text.get("tokenizer_kwargs") or {}
    named = {"timm_model_name": vision.get("timm_model_name")} | {
        name: text.get(name) for name in ("hf_model_name", "hf_tokenizer_name")
    }
    for name, value in named.items():
        plain = isinstance(value, str) and _NAMES.fullmatch(value) and not os.path.exists(value)
        if value and not plain:
            raise ConfigError(
                f"{_NAME}: the JSON of {model!r} gives {name}={value!r}, which is no plain name "
                "of a model; mend it."
            )
    if not isinstance(options, dict) or not _TOKENIZING.issuperset(options):
        raise ConfigError(
            f"{_NAME}: the JSON of {model!r} gives tokenizer_kwargs={options!r}; of those only "
            f"{', '.join(sorted(_TOKENIZING))} are let through, for others can run code."
        )


def _text_tower(library: Any, shape: Mapping[str, Any], config: Config) -> Any:
    """Return the network for texts with random weights."""
    options = dict(shape.get("text_cfg", {}))
    if options.get("hf_model_name"):
        options["hf_model_pretrained"] = False
    try:
        return library.model._build_text_tower(
            shape["embed_dim"], options, bool(shape.get("quick_gelu", False))
        )
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the text tower of {config.model!r} could not be built ({fault_of(error)}); "
            "check its JSON."
        ) from error


def _state(library: Any, network: Any, of: towers.Config) -> dict[str, Any]:
    """Return the tensors of the text tower from the file with the model's weights."""
    file = towers.weights_file(of)
    state = tensors_in(file, _NAME)
    found = {n.removeprefix(_PREFIX): t for n, t in state.items() if n.startswith(_PREFIX)}
    found = found or {n: t for n, t in state.items() if n.startswith(_OF_TEXTS)}
    own = network.state_dict()
    require_weights(file, {n for n, _ in network.named_parameters()} - found.keys())
    for name, tensor in found.items():
        if name in own and tensor.shape != own[name].shape:
            raise ConfigError(
                f"{_NAME}: the weights in {file} don't fit {of.model!r} ({name} has the shape "
                f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}); give the model that they "
                "were made for."
            )
    return {name: tensor for name, tensor in found.items() if name in own}


def _tokenizer(library: Any, config: Config) -> Any:
    """Return the model's own tokenizer."""
    folder = Path(config.model).expanduser()
    if folder.is_file():
        raise ConfigError(
            f"{_NAME}: {config.model} says nothing of a tokenizer; give the folder that it lies "
            f"in, as {towers.FILE}."
        )
    try:
        return library.get_tokenizer(f"local-dir:{folder}" if folder.is_dir() else config.model)
    except Exception as error:
        raise ConfigError(
            f"{_NAME}: the tokenizer of {config.model!r} could not be had ({fault_of(error)}); get "
            "the model again."
        ) from error


class _Texts:
    """The texts of a model of open_clip; see `lift.contenders._two_towers.Texts`."""

    def __init__(self, network: Any, tokenizer: Any, device: torch.device) -> None:
        self._network, self._tokenizer, self._device = network, tokenizer, device
        tokens = tokenizer(list(PROBES)).numpy()  # what the tokenizer makes of them stands for it
        ids = hashlib.sha256(np.ascontiguousarray(tokens, np.int64).data).hexdigest()
        self._digest = f"{type(network).__name__} {tokens.shape} {ids} {weights_of(network)}"

    @property
    def identity(self) -> str:
        return self._digest

    @property
    def networks(self) -> Sequence[nn.Module]:
        return [self._network]

    @torch.inference_mode()
    def rows(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        rows = []
        for start in range(0, len(texts), _BATCH):
            ids = self._tokenizer([clean(text) for text in texts[start : start + _BATCH]])
            found = self._network(ids.to(self._device))
            rows.append((found[0] if isinstance(found, tuple) else found).float().cpu().numpy())
        return np.concatenate(rows)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        cap = self._tokenizer.context_length
        return np.array([self.count(text) > cap for text in texts], np.bool_)

    def count(self, text: str) -> int:
        """Return the tokens of a text, the two around it included, uncut."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is None:
            return len(self._tokenizer.encode(clean(text))) + 2
        tidy = getattr(self._tokenizer, "clean_fn", str)
        return len(inner(tidy(clean(text)), truncation=False)["input_ids"])
