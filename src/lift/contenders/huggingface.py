"""CLIP, SigLIP and their like, as transformers saves them: an image and a text tower, one space.

Pixels are prepared by our own code from what the model's files say, texts by the rules of the
family (SigLIP's are padded to the last position, CLIP's are not). Weights are read from safetensors
alone, and no code of the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import nn

from lift.config import Part
from lift.contenders._two_towers import TwoTowers
from lift.image_tower import open_tower
from lift.text.encoders import dual
from lift.text.space import TextSpace

NEEDS = {"transformers": "towers"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: a folder, or an id of the hub, with weights in safetensors.
        revision: branch, tag or commit on the hub.
        prompt: text put before every text.
        max_tokens: texts are cut here; None takes all positions that the model has.
        resolution: pixels of a side; None takes what the model was published for.
        mean, std: of the pixels, where no file of the model tells them.
        saw: benchmarks whose captions it was trained on.
    """

    model: str
    revision: str | None = None
    prompt: str = ""
    max_tokens: int | None = None
    resolution: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    saw: tuple[str, ...] = ()


def build(config: Config, device: torch.device) -> DualModel:
    """Return the model.

    Raises:
        ConfigError: no such model, one without both towers, or one that does not load whole.
        MissingPackage: transformers is not installed.
    """
    options = {
        "model": config.model,
        "revision": config.revision,
        "resolution": config.resolution,
        "mean": config.mean,
        "std": config.std,
    }
    said = {name: value for name, value in options.items() if value is not None}
    texts = dual.build(
        dual.Config(
            model=config.model,
            revision=config.revision,
            prompt=config.prompt,
            max_tokens=config.max_tokens,
            saw=config.saw,
        ),
        str(device),
    )
    tower = open_tower(
        Part("towers", "huggingface", {**said, "pooling": "projected"}), device=str(device)
    )
    return DualModel(Path(config.model).name, tower, _Texts(texts), config.saw)


class DualModel(TwoTowers):
    """Both towers of a model of transformers; see `TwoTowers`."""

    _texts: _Texts

    @property
    def space(self) -> TextSpace:
        """The text space that images and texts lie in: caches of the encoder `dual` are of it."""
        return self._texts.encoder.space


class _Texts:
    """The texts of such a model; see `lift.contenders._two_towers.Texts`."""

    def __init__(self, encoder: dual.DualEncoder) -> None:
        self.encoder = encoder

    @property
    def identity(self) -> str:
        return self.encoder.space.fingerprint

    @property
    def networks(self) -> Sequence[nn.Module]:
        return [self.encoder.network]

    def rows(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        return self.encoder.encode(texts).rows

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        return self.encoder.cut(texts)

    def count(self, text: str) -> int:
        return int(self.encoder.encode([text]).tokens[0])
