"""The image side as a model of open_clip: its `visual`, and the head where that can't hold it.

Nothing of open_clip is needed to write it; to compare it, open_clip and a torchvision that imports.
"""

from __future__ import annotations

import importlib
import json
import math
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lift.bundle import Bundle
from lift.data.transform import Transform
from lift.errors import MissingPackage
from lift.export import _head_file
from lift.export._open_clip_shape import Visual, visual_of
from lift.export._pixels import as_pil, pixels_of, ways_apart
from lift.export._protocol import Difference, Written, difference
from lift.export._tokens import SAME, same_tokens
from lift.model import save_tensors
from lift.plugins import require
from lift.text.loading import torchvision_fault
from lift.towers.vit import ViT

_NAME = "export/open_clip"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
"""open_clip can't do without a text tower. This one knows no word: every text raises."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options: what open_clip can hold follows from the model."""


def build(_: Config) -> OpenClipExporter:
    """Return the exporter."""
    return OpenClipExporter()


class OpenClipExporter:
    """See `lift.export._protocol.Exporter`."""

    def write(self, bundle: Bundle, folder: Path) -> Written:
        """Fill the folder."""
        visual = visual_of(bundle)
        text = json.dumps(description(visual, bundle.transform), indent=2)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
        save_tensors({**visual.tensors, **_placeholder(visual, bundle)}, folder / WEIGHTS)
        if not visual.whole:
            _head_file.write_head(bundle, folder, "what model.visual returns")
        return _written(bundle, visual)

    def check(
        self, bundle: Bundle, folder: Path, images: Sequence[np.ndarray]
    ) -> Sequence[Difference]:
        """Reload the folder by open_clip, and compare tokens and vectors."""
        library, tower = the_library(), bundle.side.tower
        assert isinstance(tower, ViT)
        whole = visual_of(bundle).whole
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on QuickGELU, on weights loaded by others' code
            model, prepare = library.create_model_from_pretrained(f"local-dir:{folder}")
        model = model.eval()
        pixels = pixels_of(bundle.transform, images)
        ours = bundle.encode_images(list(images))

        def vectors(x: Tensor) -> np.ndarray:
            if whole:
                return model.encode_image(x, normalize=True).numpy()
            return _head_file.through_head(folder, model.visual(x)).numpy()

        with torch.inference_mode():
            found = [
                same_tokens(f"patch tokens after block {number}", tower, pixels, number, x)
                for number, x in enumerate(_layers(model.visual, pixels, tower), 1)
            ]
            what = "image vectors, from the same pixels"
            found.append(difference(what, ours, vectors(pixels), SAME))
            theirs = torch.stack([prepare(image) for image in as_pil(images)])
            what = "image vectors, by open_clip's own transform"
            found.append(difference(what, ours, vectors(theirs)))
        return found


def _layers(visual: Any, pixels: Tensor, tower: ViT) -> list[Tensor]:
    """Return the patch tokens after every block."""
    out = visual.forward_intermediates(
        pixels,
        indices=list(range(tower.config.depth)),
        intermediates_only=True,
        normalize_intermediates=False,
        output_fmt="NLC",
    )
    return list(out["image_intermediates"])


def the_library() -> Any:
    """Return open_clip. Raises MissingPackage."""
    require("open_clip", "open_clip", _NAME)
    if (fault := torchvision_fault()) is not None:
        raise MissingPackage(f"{_NAME} needs torchvision: {fault}")
    return importlib.import_module("open_clip")


def description(visual: Visual, transform: Transform) -> dict[str, Any]:
    """Return the content of open_clip_config.json."""
    return {
        "model_cfg": {
            "embed_dim": visual.dimensions,
            "quick_gelu": visual.quick_gelu,
            "vision_cfg": visual.shape,
            "text_cfg": _NO_TEXT,
        },
        "preprocess_cfg": {
            "mean": list(transform.mean),
            "std": list(transform.std),
            "interpolation": transform.interpolation,
            "resize_mode": "squash" if transform.resize == "squash" else "shortest",
        },
    }


def _placeholder(visual: Visual, bundle: Bundle) -> dict[str, Tensor]:
    """Return the weights of the text tower that knows no word, and the logarithm of the scale."""
    width = _NO_TEXT["width"]
    norms = ("ln_final", "transformer.resblocks.0.ln_1", "transformer.resblocks.0.ln_2")
    matrices = {"attn.in_proj_": (3, 1), "attn.out_proj.": (1, 1), "mlp.c_fc.": (4, 1)}
    shapes: dict[str, tuple[int, ...]] = {f"{name}.{k}": (width,) for name in norms for k in _KINDS}
    for name, (out, into) in {**matrices, "mlp.c_proj.": (1, 4)}.items():
        shapes[f"transformer.resblocks.0.{name}weight"] = (out * width, into * width)
        shapes[f"transformer.resblocks.0.{name}bias"] = (out * width,)
    shapes |= {"positional_embedding": (1, width), "token_embedding.weight": (1, width)}
    shapes["text_projection"] = (width, visual.dimensions)
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    return {**tensors, "logit_scale": torch.tensor(math.log(bundle.scale or 100.0))}


_KINDS = ("weight", "bias")


def _written(bundle: Bundle, visual: Visual) -> Written:
    if visual.whole:
        code = "z = model.encode_image(pixels, normalize=True)  # in the text space"
        place = "The whole image side is in it: encode_image gives vectors of the text space."
    else:
        code = "h = model.visual(pixels)\n" + _head_file.usage(bundle)
        place = (
            f"open_clip has no place for this head ({visual.why}): it lies beside, in "
            f"{_head_file.WEIGHTS} and {_head_file.FACTS}, and encode_image stops before it."
        )
    notes = (
        place,
        "encode_text raises: open_clip has no place for a text encoder of another library. Texts "
        "are encoded by what the section on the text space names.",
        *ways_apart(bundle.transform),
    )
    return Written(
        usage=_USAGE.format(folder="{folder}", code=textwrap.indent(code, "    ").lstrip()),
        notes=notes,
        library="open_clip",
        tags=("open_clip", "vision-tower"),
    )


_USAGE = """\
```python
import open_clip
import torch
from PIL import Image, ImageOps

model, prepare = open_clip.create_model_from_pretrained("local-dir:{folder}")
model.eval()
image = ImageOps.exif_transpose(Image.open("image.jpg")).convert("RGB")
pixels = torch.stack([prepare(image)])
with torch.inference_mode():
    {code}
```"""
