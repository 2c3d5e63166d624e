"""The tower as a VisionTransformer of timm, in a folder that timm itself takes, and the head.

Nothing of timm is needed to write it; to compare it, timm and a torchvision that imports.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.bundle import Bundle
from lift.convert.layouts import arguments
from lift.convert.weights import to_layout
from lift.data.transform import Transform
from lift.errors import ConfigError, MissingPackage
from lift.export import _head_file
from lift.export._pixels import as_pil, pixels_of, ways_apart
from lift.export._protocol import Difference, Written, difference
from lift.export._tokens import SAME, same_tokens
from lift.export._trunk import trunk_of
from lift.model import save_tensors
from lift.plugins import require
from lift.text.loading import torchvision_fault
from lift.towers.vit import ViT

_NAME = "export/timm"
_ARCHITECTURES = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
"""By the epsilon of their norms, which a JSON can't say; all else is said in `model_args`."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options: timm's class holds a tower or doesn't."""


def build(_: Config) -> TimmExporter:
    """Return the exporter."""
    return TimmExporter()


def held_tower(bundle: Bundle) -> ViT:
    """Return the tower. Raises ConfigError unless it is one that timm's class can hold."""
    tower = bundle.side.tower
    if not isinstance(tower, ViT):
        raise ConfigError(
            f"{_NAME}: the tower of {bundle.name} is no towers/vit but a network of another "
            "library: take it from where it came, or export the image side with --to onnx."
        )
    if tower.config.norm_eps not in _ARCHITECTURES:
        known = " or ".join(f"{eps:g}" for eps in _ARCHITECTURES)
        raise ConfigError(
            f"{_NAME}: timm's networks have norms with an epsilon of {known}, this tower's have "
            f"{tower.config.norm_eps:g}; export it with --to transformers or onnx."
        )
    arguments(tower.config, "timm")
    return tower


def description(tower: ViT, transform: Transform) -> dict[str, Any]:
    """Return the content of config.json."""
    shape = arguments(tower.config, "timm")
    left = ("norm_layer", "num_classes")  # a function; said one level higher
    side = transform.resolution
    return {
        "architecture": _ARCHITECTURES[tower.config.norm_eps],
        "num_classes": 0,
        "num_features": tower.width,
        "global_pool": shape["global_pool"],
        "model_args": {name: value for name, value in shape.items() if name not in left},
        "pretrained_cfg": {
            "input_size": [3, side, side],
            "fixed_input_size": True,
            "interpolation": transform.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "squash" if transform.resize == "squash" else "center",
            "mean": list(transform.mean),
            "std": list(transform.std),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


class TimmExporter:
    """See `lift.export._protocol.Exporter`."""

    def write(self, bundle: Bundle, folder: Path) -> Written:
        """Fill the folder."""
        held_tower(bundle)
        tower = trunk_of(bundle)
        state = {name: value.cpu() for name, value in tower.state_dict().items()}
        save_tensors(to_layout(tower.config, state, "timm"), folder / "model.safetensors")
        text = json.dumps(description(tower, bundle.transform), indent=2)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        _head_file.write_head(bundle, folder, "what the model returns with num_classes=0")
        shape = tower.config
        tokens = f"{shape.patches} patch tokens" + (", a class token" * shape.class_token)
        notes = [
            f"It is a VisionTransformer of {shape.depth} blocks with {tokens} and {shape.width} "
            "numbers a token; forward_features gives them after the last norm, "
            "get_intermediate_layers(x, n=[i]) after block i, counted from 0.",
            *ways_apart(bundle.transform),
        ]
        return Written(
            usage=_USAGE.format(folder="{folder}", head=_head_file.usage(bundle)),
            notes=tuple(notes),
            library="timm",
            tags=("timm", "vision-tower"),
        )

    def check(
        self, bundle: Bundle, folder: Path, images: Sequence[np.ndarray]
    ) -> Sequence[Difference]:
        """Reload the folder by timm, and compare tokens and vectors."""
        timm, tower = the_library(), held_tower(bundle)
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
        pixels = pixels_of(bundle.transform, images)
        ours = bundle.encode_images(list(images))
        prefix = int(tower.config.class_token)
        with torch.inference_mode():
            layers = network.get_intermediate_layers(pixels, n=list(range(tower.config.depth)))
            found = [
                same_tokens(f"patch tokens after block {number}", tower, pixels, number, x)
                for number, x in enumerate(layers, 1)
            ]
            x = network.forward_features(pixels)[:, prefix:]
            what = "patch tokens of forward_features"
            found.append(same_tokens(what, tower, pixels, -1, x, normed=True))
            z = _head_file.through_head(folder, network(pixels)).numpy()
            found.append(difference("image vectors, from the same pixels", ours, z, SAME))
            theirs = torch.stack([prepare(image) for image in as_pil(images)])
            z = _head_file.through_head(folder, network(theirs)).numpy()
            found.append(difference("image vectors, by timm's own transform", ours, z))
        return found


def the_library() -> Any:
    """Return timm. Raises MissingPackage."""
    require("timm", "timm", _NAME)
    if (fault := torchvision_fault()) is not None:
        raise MissingPackage(f"{_NAME} needs torchvision: {fault}")
    importlib.import_module("timm.data")
    return importlib.import_module("timm")


_USAGE = """\
```python
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
image = ImageOps.exif_transpose(Image.open("image.jpg")).convert("RGB")
pixels = torch.stack([prepare(image)])
with torch.inference_mode():
    tokens = model.forward_features(pixels)
    h = model(pixels)
```

Vectors in the text space, by the head in the folder:

```python
{head}
```"""
