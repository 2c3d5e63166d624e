"""A folder for plain `SentenceTransformer(path)`: texts by the untouched embedder, images by us.

Its first module is a `Router` with two routes. "text" holds the modules of the text encoder as they
are. "image" holds the library's own classes where they can compute the same, else a module file
that comes with the folder and needs `trust_remote_code=True`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.export._pixels import as_pil, pixels_of, ways_apart
from lift.export._protocol import Difference, Written, difference
from lift.export._quiet import quiet
from lift.export._sentence_modules import (
    MODULE,
    bring_module,
    is_dense,
    layout_of,
    library_modules,
    own_module,
)
from lift.heads import Head
from lift.text.encoders._sentence import SentenceEncoder
from lift.text.loading import loading
from lift.text.probes import PROBES
from lift.towers.huggingface import PretrainedTower
from lift.towers.vit import ViT

NEEDS = {"sentence_transformers": "text"}

_NAME = "export/sentence_transformers"
_LIBRARIES = ("sentence_transformers", "transformers", "torch")
_SAME_PIXELS = "image vectors, from the same pixels"
_OWN_PIXELS = "image vectors, from the pictures with the folder's own preprocessing"
_TEXTS = "text vectors, with those of the untouched text encoder"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        own_code: bring the module file even where the library's own classes would do: pictures are
            then resized exactly as the model does, and loading needs `trust_remote_code=True`.
        texts: False leaves the text encoder out: the folder encodes images only.
        tolerance: largest difference of a number of an image vector, from the same pixels.
        text_tolerance: the same of a text vector.
    """

    own_code: bool = False
    texts: bool = True
    tolerance: float = 1e-5
    text_tolerance: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("tolerance", "text_tolerance"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{_NAME}: {name} must be above 0, not {getattr(self, name)}.")


def build(config: Config) -> SentenceTransformersExporter:
    """Return the exporter."""
    return SentenceTransformersExporter(config)


class SentenceTransformersExporter:
    """See `lift.export._protocol.Exporter`."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def write(self, bundle: Bundle, folder: Path) -> Written:
        """Fill the folder."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Router

        reasons = self._reasons(bundle)
        texts = _text_model(bundle) if self.config.texts else None
        with tempfile.TemporaryDirectory() as aside, quiet():
            if reasons and isinstance(bundle.side.tower, ViT):
                image = [own_module(bundle)]
            else:
                image = library_modules(bundle, Path(aside))
            if texts is None:
                model = SentenceTransformer(modules=image, device="cpu")
            else:
                routes: Any = {"text": list(texts), "image": image}
                router = Router(routes, default_route="text", allow_empty_key=False)
                model = SentenceTransformer(
                    modules=[router], device="cpu", **_prompts(texts, bundle.space.prompt)
                )
            model.eval().save(str(folder), create_model_card=False)
        if reasons:
            bring_module(folder)
        return _written(bundle, reasons, texts=texts is not None)

    def check(
        self, bundle: Bundle, folder: Path, images: Sequence[np.ndarray]
    ) -> Sequence[Difference]:
        """Reload the folder as a stranger would, and compare."""
        from sentence_transformers import SentenceTransformer

        trust = bool(self._reasons(bundle))
        own = trust and isinstance(bundle.side.tower, ViT)
        with loading(folder), quiet():
            model = SentenceTransformer(
                str(folder), device="cpu", trust_remote_code=trust, local_files_only=True
            )
        with torch.inference_mode():
            pixels = pixels_of(bundle.transform, images)
            out = model({"pixel_values": pixels, "modality": "image"})["sentence_embedding"]
        ours = bundle.encode_images(images)
        pil: Any = as_pil(images)
        theirs = np.asarray(model.encode(pil, show_progress_bar=False))
        exact = self.config.tolerance if own else None
        found = [
            difference(_SAME_PIXELS, ours, out.float().numpy(), self.config.tolerance),
            difference(_OWN_PIXELS, ours, theirs, exact),
        ]
        if self.config.texts:
            untouched = _text_model(bundle).encode(
                list(PROBES), prompt=bundle.space.prompt, show_progress_bar=False
            )
            rows = np.asarray(model.encode(list(PROBES), show_progress_bar=False))
            found.append(
                difference(_TEXTS, np.asarray(untouched), rows, self.config.text_tolerance)
            )
        return found

    def _reasons(self, bundle: Bundle) -> list[str]:
        """Return why the library's own classes don't do; empty where they do."""
        found = ["own_code=true was asked for"] if self.config.own_code else []
        tower = bundle.side.tower
        if not isinstance(tower, ViT | PretrainedTower):
            raise ConfigError(
                f"{_NAME}: this model's tower is {_tower_name(bundle)}, which no class of the "
                "library is; --to onnx exports it."
            )
        if self.config.own_code and not isinstance(tower, ViT):
            raise ConfigError(
                f"{_NAME}: own_code=true is for towers/vit, and this model's is "
                f"{_tower_name(bundle)}; leave it out."
            )
        if isinstance(tower, ViT) and layout_of(tower) is None:
            shape = tower.config
            traits = {
                "a class token": shape.class_token,
                "a norm before its blocks": shape.pre_norm,
                "no bias in its patches": not shape.patch_bias,
                f"pooling={shape.pooling}": True,
            }
            named = [trait for trait, there in traits.items() if there]
            found.append(f"no class of the library is a trunk with {', '.join(named)}")
        if isinstance(bundle.side.head, Head) and not is_dense(bundle.side.head):
            kind = bundle.side.head.config.kind
            found.append(f"a {kind} head has a branch, which the library's Dense has not")
        return found


# --- texts --------------------------------------------------------------------------------------


def _text_model(bundle: Bundle) -> Any:
    """Return the `SentenceTransformer` that makes the text space. Raises ConfigError."""
    named = bundle.record.encoder
    how = "--set texts=false exports the image side alone"
    if named is None:
        raise ConfigError(
            f"{_NAME}: this model's texts were trained with its images, in a tower that the "
            f"library does not have; {how}."
        )
    if named.name not in ("minilm", "sentence_transformer"):
        raise ConfigError(
            f"{_NAME}: texts come from text/encoders/{named.name} here, which is no model of "
            f"sentence-transformers that could go along; {how}."
        )
    encoder = bundle.text_encoder
    assert isinstance(encoder, SentenceEncoder)
    if encoder.model.get_embedding_dimension() != bundle.space.dimensions:
        raise ConfigError(
            f"{_NAME}: text rows are the first {bundle.space.dimensions} values of longer ones, "
            f"which a Router can't say of one route; {how}."
        )
    strangers = [type(module).__module__ for module in encoder.model.modules()]
    strangers = [name for name in strangers if name.partition(".")[0] not in _LIBRARIES]
    if strangers:
        raise ConfigError(
            f"{_NAME}: the text encoder brings code of its own ({strangers[0]}), which is not "
            f"copied; {how}."
        )
    return encoder.model


def _prompts(texts: Any, prompt: str) -> dict[str, Any]:
    """Return the prompts of the text model, the space's own as what is used unless told."""
    prompts = dict(texts.prompts)
    name = next((known for known, words in prompts.items() if words == prompt), "caption")
    if prompt:
        prompts[name] = prompt
    return {
        "prompts": prompts,
        "default_prompt_name": name if prompt else None,
        "similarity_fn_name": texts.similarity_fn_name,
    }


# --- what is said -------------------------------------------------------------------------------


def _tower_name(bundle: Bundle) -> str:
    part = bundle.record.image.tower
    return "none" if part is None else f"{part.room}/{part.name}"


def _written(bundle: Bundle, reasons: Sequence[str], *, texts: bool) -> Written:
    trust = ", trust_remote_code=True" if reasons else ""
    asked = 'texts = model.encode(["a dog on a beach", "a red car"])\n' if texts else ""
    cosines = "print(model.similarity(texts, images))\n" if texts else "print(images.shape)\n"
    usage = (
        "```python\nfrom PIL import Image, ImageOps\n"
        "from sentence_transformers import SentenceTransformer\n\n"
        f'model = SentenceTransformer("{{folder}}"{trust})\n{asked}'
        'image = ImageOps.exif_transpose(Image.open("photo.jpg"))\n'
        f"images = model.encode([image])\n{cosines}```"
    )
    notes = []
    if reasons:
        notes.append(
            f"It needs trust_remote_code=True, because {'; '.join(reasons)}: {MODULE}.py comes "
            "with the folder and needs torch, numpy, Pillow and safetensors only."
        )
    else:
        notes.append("It needs no trust_remote_code: every module is the library's own.")
    if not (reasons and isinstance(bundle.side.tower, ViT)):
        notes += ways_apart(bundle.transform)
    if not reasons and isinstance(bundle.side.tower, ViT):
        notes.append(
            "`--set own_code=true` exports with the model's own preprocessing, which is exact and "
            "needs trust_remote_code=True."
        )
    if texts:
        notes.append(
            "One call of encode takes images or texts, not both: the library refuses mixed lists."
        )
        notes.append(
            "The library takes a text for an image where it is the path of an image file, and "
            "fetches what is the address of one (https://...jpg). Give such texts by themselves, "
            'with modality="text"; among others they are refused.'
        )
    return Written(
        usage=usage,
        notes=tuple(notes),
        library="sentence-transformers",
        pipeline="sentence-similarity" if texts else "image-feature-extraction",
        tags=("sentence-transformers", *(("custom_code",) if reasons else ())),
        texts=texts,
    )
