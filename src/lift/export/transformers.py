"""The tower as a vision model of transformers, for what takes patch tokens (LLaVA), and the head.

A trunk with class token and norm before its blocks is a `CLIPVisionModel`, one without either a
`SiglipVisionModel`; the paper's B/16 is the first, the small recipes' towers are the second.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lift.bundle import Bundle
from lift.convert.layouts import arguments
from lift.convert.weights import to_layout
from lift.errors import ConfigError
from lift.export import _head_file
from lift.export._pixels import as_pil, pixels_of, ways_apart, write_processor
from lift.export._protocol import Difference, Written, difference
from lift.export._tokens import SAME, same_tokens
from lift.export._trunk import trunk_of
from lift.text.loading import loading, quiet_loading
from lift.towers.vit import ViT

NEEDS = {"transformers": "towers"}

_NAME = "export/transformers"
_CLASSES = {"transformers_clip": "CLIPVision", "transformers_siglip": "SiglipVision"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options: the class follows from the tower."""


def build(_: Config) -> TransformersExporter:
    """Return the exporter."""
    return TransformersExporter()


def layout_of(bundle: Bundle) -> str:
    """Return which of transformers' classes the tower is.

    Raises:
        ConfigError: it is none; the sentence says what stands against each.
    """
    tower = bundle.side.tower
    if not isinstance(tower, ViT):
        raise ConfigError(
            f"{_NAME}: the tower of {bundle.name} is no towers/vit but a network of "
            f"{type(tower).__name__}'s library, which has its files already: take the tower from "
            "where it came, or export the whole image side with --to onnx."
        )
    reasons = []
    for layout in _CLASSES:
        try:
            arguments(tower.config, layout)
        except ConfigError as error:
            reasons.append(str(error))
        else:
            return layout
    raise ConfigError(
        f"{_NAME}: no class of transformers is a trunk like that of {bundle.name}. "
        + " ".join(reasons)
        + " Export it with --to timm or onnx."
    )


class TransformersExporter:
    """See `lift.export._protocol.Exporter`."""

    def write(self, bundle: Bundle, folder: Path) -> Written:
        """Fill the folder."""
        import transformers

        layout, tower = layout_of(bundle), trunk_of(bundle)
        shape = getattr(transformers, f"{_CLASSES[layout]}Config")(
            **arguments(tower.config, layout)
        )
        state = {name: value.cpu() for name, value in tower.state_dict().items()}
        weights = to_layout(tower.config, state, layout)
        network = getattr(transformers, f"{_CLASSES[layout]}Model")(shape)
        if next(iter(network.state_dict())).startswith("vision_model."):  # of older releases
            weights = {f"vision_model.{name}": value for name, value in weights.items()}
        left = network.load_state_dict(weights, strict=False)
        others = [name for name in left.missing_keys if not name.endswith("position_ids")]
        assert not others and not left.unexpected_keys, (others, left.unexpected_keys)
        with _no_bar():
            network.eval().save_pretrained(folder)
        write_processor(bundle.transform, folder)
        _head_file.write_head(bundle, folder, _TAKES[tower.config.pooling])
        return _written(bundle, tower, layout)

    def check(
        self, bundle: Bundle, folder: Path, images: Sequence[np.ndarray]
    ) -> Sequence[Difference]:
        """Reload the folder by transformers, and compare patch tokens layer by layer."""
        layout, tower = layout_of(bundle), bundle.side.tower
        assert isinstance(tower, ViT)
        network, processor = _reloaded(folder)
        pixels = pixels_of(bundle.transform, images)
        first = int(tower.config.class_token)
        ours_z = bundle.encode_images(list(images))
        theirs = processor(as_pil(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            out = network(pixels, output_hidden_states=True)
            found = [
                same_tokens(
                    f"patch tokens of hidden_states[{layer}]", tower, pixels, layer, x[:, first:]
                )
                for layer, x in enumerate(out.hidden_states[:-1])
            ]
            # The last one is the tokens after the norm in SiglipVisionModel, before in CLIP's.
            last, normed = out.last_hidden_state[:, first:], layout == "transformers_siglip"
            what = "patch tokens of last_hidden_state"
            found.append(same_tokens(what, tower, pixels, -1, last, normed=normed))
            z = _head_file.through_head(folder, _rows(network, out, tower))
            found.append(difference("image vectors, from the same pixels", ours_z, z.numpy(), SAME))
            z = _head_file.through_head(folder, _rows(network, network(theirs), tower))
            found.append(difference("image vectors, by the folder's processor", ours_z, z.numpy()))
        return found


def _rows(network: Any, out: Any, tower: ViT) -> Tensor:
    """Return one row an image, which the head takes, of the library's output."""
    if tower.config.pooling != "mean":
        return out.pooler_output
    if not tower.config.class_token:
        return out.last_hidden_state.mean(1)
    norm = getattr(network, "vision_model", network).post_layernorm
    return norm(out.last_hidden_state[:, 1:]).mean(1)


@contextlib.contextmanager
def _no_bar() -> Iterator[None]:
    """Hold back the library's progress bar over files; there is one file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _reloaded(folder: Path) -> tuple[Any, Any]:
    """Return model and image processor as a stranger gets them."""
    import transformers

    with loading(folder), quiet_loading(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*use_fast.*")
        network = transformers.AutoModel.from_pretrained(str(folder), local_files_only=True)
        processor = transformers.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True
        )
    return network.eval(), processor


_TAKES = {
    "mean": "the mean of the patch tokens after the last norm; a class token is not in it",
    "token": "pooler_output",
    "attention": "pooler_output",
}

_ROWS = {
    ("transformers_clip", "mean"): "model.post_layernorm(out.last_hidden_state[:, 1:]).mean(1)",
    ("transformers_clip", "token"): "out.pooler_output",
    ("transformers_siglip", "mean"): "out.last_hidden_state.mean(1)",
    ("transformers_siglip", "attention"): "out.pooler_output",
}
"""Code that makes the rows that the head takes."""


def _written(bundle: Bundle, tower: ViT, layout: str) -> Written:
    name, shape = f"{_CLASSES[layout]}Model", tower.config
    clip = layout == "transformers_clip"
    strategy = "default" if clip else "full"
    why = "drops the class token" if clip else "keeps all tokens: it has no class token"
    notes = [
        f"It is a {name} of {shape.depth} blocks and {shape.width} numbers a token; an image of "
        f"{shape.resolution} x {shape.resolution} pixels has {shape.patches} patches"
        + (" and a class token." if clip else "."),
        f'For LLaVA: vision_feature_layer=-2 and vision_feature_select_strategy="{strategy}" '
        f"(which {why}), image_seq_length={shape.patches}, patch_size={shape.patch}.",
    ]
    if clip and shape.pooling == "mean":
        notes.append(
            "pooler_output is the class token, which this model was never trained to read; its "
            "vectors come of the mean of the patches, as under Use."
        )
    rows = _ROWS[layout, shape.pooling]
    return Written(
        usage=_USAGE.format(
            name=name,
            folder="{folder}",
            rows=rows,
            tokens="[:, 1:]" if clip else "",
            head=_head_file.usage(bundle),
        ),
        notes=(*notes, *ways_apart(bundle.transform)),
        library="transformers",
        tags=("vision-tower",),
    )


_USAGE = """\
```python
import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, {name}

processor = AutoImageProcessor.from_pretrained("{folder}")
model = {name}.from_pretrained("{folder}").eval()
image = ImageOps.exif_transpose(Image.open("image.jpg")).convert("RGB")
pixels = processor([image], return_tensors="pt")["pixel_values"]
with torch.inference_mode():
    out = model(pixels, output_hidden_states=True)
    patches = out.hidden_states[-2]{tokens}  # what LLaVA takes
    h = {rows}
```

Vectors in the text space, by the head in the folder:

```python
{head}
```"""
