"""clip_benchmark on a model of ours, its own code as it is.

    python -m lift.adapters.clip_benchmark eval --model lift --pretrained runs/x/model \
        --dataset wds/birds --dataset_root data/birds --no_amp

The model computes in its own precision, whatever the benchmark's `--no_amp` says; with mixed
precision (the benchmark's default) the benchmark itself multiplies in bfloat16 or float16. Its
zero-shot metric (1.6.2) needs NumPy below 2.4.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lift import bundle, plugins
from lift.bundle import Bundle
from lift.data.transform import Transform
from lift.terms import ImageLike
from lift.text_side import at_rest
from lift.world import autocast

KIND = "lift"
"""What `--model_type` calls a model of ours."""


class Sentences(list[str]):
    """Texts where the benchmark expects tokens: they stay texts until they are encoded."""

    def to(self, *_: Any, **__: Any) -> Sentences:
        """Return itself: texts are on no device."""
        return self


@dataclass(frozen=True)
class Pixels:
    """From an image to normalised pixels, as the model's evaluation sees it."""

    transform: Transform

    def __call__(self, image: ImageLike) -> Float32[Tensor, "3 r r"]:
        """Return the pixels of one image. Raises DataError where it can't be read."""
        return self.transform.normalise(self.transform.evaluate(image)[None])[0]


class Model:
    """What clip_benchmark wants of a model.

    Attributes:
        bundle: does the work.
    """

    def __init__(self, model: Bundle) -> None:
        """Hold a model."""
        self.bundle = model

    def eval(self) -> Model:
        """Return itself: it only computes."""
        return self

    def to(self, *_: Any, **__: Any) -> Model:
        """Return itself, on the device that it was loaded on."""
        return self

    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 r r"]) -> Float32[Tensor, "b d"]:
        """Return one unit-length row an image.

        Args:
            images: pixels that `Pixels` made.
        """
        model = self.bundle
        with at_rest(model.side), torch.autocast(model.device.type, enabled=False):
            with autocast(model.device, model.precision):
                return model.side(images.to(model.device)).float()

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float32[Tensor, "n d"]:
        """Return one unit-length row a text."""
        with torch.autocast(self.bundle.device.type, enabled=False):
            return torch.from_numpy(self.bundle.encode_texts(list(texts))).to(self.bundle.device)


def tokenizer(texts: str | Sequence[str]) -> Sentences:
    """Return texts in place of tokens."""
    return Sentences([texts] if isinstance(texts, str) else texts)


def adapted(model: Bundle) -> tuple[Model, Pixels, Callable[[Sequence[str]], Sentences]]:
    """Return (model, transform, tokenizer) for the benchmark's own functions."""
    return Model(model), Pixels(model.transform), tokenizer


def load(
    model_name: str, pretrained: str = "", cache_dir: str | None = None, device: Any = "cpu"
) -> tuple[Model, Pixels, Callable[[Sequence[str]], Sentences]]:
    """Load a model of ours as clip_benchmark asks for it.

    Args:
        model_name: its folder, or any name for the table where `pretrained` is the folder.
        pretrained: its folder, or any word.
        cache_dir: not used.
        device: where to compute.

    Raises:
        CheckpointError: no model there.
    """
    del cache_dir  # nothing is fetched
    folder = pretrained if pretrained and Path(pretrained).exists() else model_name
    return adapted(bundle.load(folder, device=str(device)))


def register() -> None:
    """Let clip_benchmark know of models of ours, as `--model_type lift`, in this process.

    Raises:
        MissingPackage: it is not installed.
    """
    plugins.require("clip_benchmark", "clip_benchmark", "adapters/clip_benchmark")
    models: Any = importlib.import_module("clip_benchmark.models")
    models.TYPE2FUNC[KIND] = load
    if KIND not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(KIND)


def main(words: Sequence[str] | None = None) -> None:
    """Run clip_benchmark's own console on models of ours.

    Args:
        words: of the command line; None takes this process's.
    """
    register()
    given = list(sys.argv[1:] if words is None else words)
    typed = any(word.split("=")[0] == "--model_type" for word in given)
    if given[:1] == ["eval"] and not typed:
        given[1:1] = ["--model_type", KIND]
    before, sys.argv = sys.argv, ["clip_benchmark", *given]
    try:
        importlib.import_module("clip_benchmark.cli").main()
    finally:
        sys.argv = before


if __name__ == "__main__":
    main()
