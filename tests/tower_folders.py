"""Writes small image networks of transformers as model folders, for tests in more than one place.

They are real ones with random weights, every norm and bias moved, as their makers publish them:
`config.json`, `model.safetensors`, `preprocessor_config.json`.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import dual_folders

SIZES: dict[str, Any] = dual_folders.IMAGE
STAGES: dict[str, Any] = {"depths": [1, 2], "hidden_sizes": [16, 24], "num_stages": 2}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", SIZES),
    "dinov2": ("Dinov2", SIZES),
    "dinov2_registers": ("Dinov2WithRegisters", SIZES | {"num_register_tokens": 2}),
    "dinov3": ("DINOv3ViT", SIZES | {"num_register_tokens": 2}),
    "siglip_vision": ("SiglipVision", SIZES),
    "siglip2_vision": (
        "Siglip2Vision",
        {k: v for k, v in SIZES.items() if k != "image_size"} | {"num_patches": 4},
    ),
    "clip_vision": ("CLIPVision", SIZES),
    "convnext": ("ConvNext", STAGES | {"image_size": 16, "patch_size": 2}),
    "convnextv2": ("ConvNextV2", STAGES | {"image_size": 16, "patch_size": 2}),
    "swin": (
        "Swin",
        {
            "image_size": 16,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 2,
        },
    ),
    "resnet": (
        "ResNet",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"},
    ),
    "mae": ("ViTMAE", SIZES),
    "aimv2": ("Aimv2Vision", SIZES),
}

HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2}
SQUASHED = HALVES | {"size": {"height": 16, "width": 16}, "do_resize": True}
CROPPED = IMAGENET | {
    "size": {"shortest_edge": 16},
    "crop_size": {"height": 16, "width": 16},
    "do_center_crop": True,
    "do_resize": True,
}


def write(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a network of `KINDS`, or a whole "clip" or "siglip", and return the folder."""
    import torch
    import transformers

    if kind in ("clip", "siglip"):
        dual_folders.write(folder, kind)
    else:
        name, values = KINDS[kind]
        with torch.random.fork_rng():
            torch.manual_seed(sum(map(ord, kind)))
            shape = getattr(transformers, f"{name}Config")(**{**values, **changes})
            network = getattr(transformers, f"{name}Model")(shape)
            with torch.no_grad():
                for weights in network.parameters():
                    weights += 0.1 * torch.randn_like(weights)
            network.save_pretrained(folder)
    pixels = SQUASHED if "siglip" in kind or kind == "vit" else CROPPED
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


@functools.cache
def folder(kind: str) -> Path:
    """Return a folder with that network, written once and removed when the tests are over."""
    parent = Path(tempfile.mkdtemp(prefix="lift-tower-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return write(parent / kind, kind)
