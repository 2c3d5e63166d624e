"""A `Transform` as an image processor of transformers, as near as its classes come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from lift.data.transform import Transform

FILE = "preprocessor_config.json"

_FILTERS = {"bicubic": 3, "bilinear": 2}
"""Pillow's numbers of the filters that both of transformers' backends have."""


def processor(transform: Transform) -> dict[str, Any]:
    """Return the content of preprocessor_config.json that comes nearest to a transform.

    A central square is CLIP's processor, a squashed one SigLIP's. What can't be said there: that
    pixels go over a canvas (they are resized twice then) and that ours crops before it resizes,
    which is measured; how pictures are turned and laid on a background, which is told.
    """
    side = {"height": transform.resolution, "width": transform.resolution}
    found: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": _FILTERS[transform.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(transform.mean),
        "image_std": list(transform.std),
    }
    if transform.resize == "squash":
        return {"image_processor_type": "SiglipImageProcessor", **found, "size": side}
    return {
        "image_processor_type": "CLIPImageProcessor",
        **found,
        "size": {"shortest_edge": transform.resolution},
        "do_center_crop": True,
        "crop_size": side,
    }


def write_processor(transform: Transform, folder: Path) -> None:
    """Write preprocessor_config.json."""
    text = json.dumps(processor(transform), indent=2)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def pixels_of(
    transform: Transform, pictures: Sequence[np.ndarray]
) -> Float32[torch.Tensor, "n 3 r r"]:
    """Return what the model itself sees of pictures, normalised: what other libraries are fed with
    to compare them from the same pixels."""
    return transform.normalise(torch.stack([transform.evaluate(p) for p in pictures]))


def as_pil(pictures: Sequence[np.ndarray]) -> list[Image.Image]:
    """Return pictures as other libraries take them."""
    return [Image.fromarray(p) for p in pictures]


def ways_apart(transform: Transform) -> list[str]:
    """Return sentences on what the processor does otherwise than the model's own transform."""
    found = []
    if transform.canvas is not None and transform.canvas != transform.resolution:
        found.append(
            f"The model resizes twice (to {transform.canvas} pixels, then to "
            f"{transform.resolution}), an image processor once."
        )
    found.append(
        "Resizing is torch's antialiased one in the model; Pillow's (or torchvision's, where that "
        "is installed) rounds otherwise here and there."
    )
    found.append(
        "The model turns pictures upright as EXIF says, lays transparent ones on a background and "
        "reads 16 bits of grey as such; an image processor does none of it: give it upright RGB."
    )
    return found
