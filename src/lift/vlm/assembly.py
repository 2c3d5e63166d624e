"""A tower's folder and a language model's become one LLaVA: transformers' own class, our weights.

    assemble("tower", "vicuna-7b", "llava")      # folders that transformers can read
    seeing = open_llava("llava")

The tower is a `CLIPVisionModel` or a `SiglipVisionModel` with its image processor (an exported
model of ours, or anybody's), the language model any causal one. What is saved loads in plain
transformers, without lift.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from lift import plugins
from lift.data.transform import Transform
from lift.errors import CheckpointError, ConfigError
from lift.export._quiet import quiet
from lift.files import is_ours_or_empty, whole_folder
from lift.terms import ImageLike
from lift.text.loading import loading
from lift.vlm.recipes import IMAGE, VICUNA, Template

_CLASS_TOKEN = {"clip_vision_model": True, "siglip_vision_model": False}
"""Kinds of towers that are taken, and whether a class token stands before their patches."""

MARKER = "lift_llava.json"
"""Says that a folder was assembled here, and may be assembled again."""

_CUBIC, _LINEAR = 3, 2
"""Pillow's numbers of what images are resized with."""

_WEIGHED = ("tower", "language model", "LLaVA")
"""What has weights, which are read from safetensors only."""


@dataclass
class Llava:
    """A language model that sees.

    Attributes:
        model: transformers' `LlavaForConditionalGeneration`.
        tokenizer: of the language model, with `<image>` as a token.
        transform: how pixels become what the tower sees.
        patches: tokens of an image.
        folder: where it was read from.
    """

    model: Any
    tokenizer: Any
    transform: Transform
    patches: int
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where its connector is."""
        return self.model.model.multi_modal_projector.linear_1.weight.device

    def pixels(self, images: list[ImageLike]) -> Float32[Tensor, "b 3 r r"]:
        """Return what the tower sees of images.

        Raises:
            BrokenSample: one can't be read.
        """
        seen = torch.stack([self.transform.evaluate(image) for image in images])
        return self.transform.normalise(seen.to(self.device))

    def tokens(self, pixels: Float32[Tensor, "b 3 r r"]) -> Tensor:
        """Return the patch tokens that the connector gets, [b p width]."""
        config, tower = self.model.config, self.model.model.vision_tower
        made = tower(pixels.to(tower.dtype), output_hidden_states=True).hidden_states
        first = int(config.vision_feature_select_strategy == "default")
        return made[config.vision_feature_layer][:, first:]


def assemble(
    tower: str | Path,
    language: str | Path,
    out: str | Path,
    *,
    layer: int = -2,
    template: Template = VICUNA,
    seed: int = 0,
) -> Path:
    """Write the folder of an untrained LLaVA: both networks as they are, a random connector.

    Args:
        tower: folder of a `CLIPVisionModel` or `SiglipVisionModel` with its image processor.
        language: folder of a causal language model with its tokenizer, of safetensors.
        out: where it goes.
        layer: whose patch tokens are taken; -2 is what leaves the last block but one.
        template: how a chat becomes a text, saved with the tokenizer.
        seed: of the connector, and of what the token `<image>` needs in the language model.

    Returns:
        `out`.

    Raises:
        CheckpointError: a folder that transformers can't read, or not as what it should be.
        ConfigError: a layer that the tower has not, an image processor that does what ours can't,
            or an `out` that holds something else.
    """
    out = Path(out)
    if not is_ours_or_empty(out, MARKER):  # any model has a config.json, those given above too
        raise ConfigError(
            f"{out} holds something that was not assembled here; choose an empty folder."
        )
    transformers = _library()
    vision = _read(transformers.AutoModel, tower, "tower")
    kind = vision.config.model_type
    if kind not in _CLASS_TOKEN:
        raise CheckpointError(
            f"{tower} holds a {kind}, not a CLIPVisionModel or SiglipVisionModel; export the tower "
            "with: lift export MODEL --to transformers."
        )
    depth = vision.config.num_hidden_layers
    if not -depth - 1 <= layer <= depth:
        raise ConfigError(f"layer must lie in -{depth + 1}..{depth}, not {layer}.")
    processor = _read(transformers.AutoImageProcessor, tower, "image processor")
    if transform_of(processor).resolution != vision.config.image_size:
        raise ConfigError(
            f"{tower} was trained on {vision.config.image_size} pixels, but its image processor "
            f"makes {transform_of(processor).resolution}."
        )
    tokenizer = _read(transformers.AutoTokenizer, language, "tokenizer")
    if not tokenizer.is_fast or tokenizer.eos_token is None:
        raise CheckpointError(f"{language} needs a fast tokenizer with a token that ends a text.")
    words = _read(transformers.AutoModelForCausalLM, language, "language model", dtype="auto")
    torch.manual_seed(seed)
    model = _joined(transformers, vision, words, tokenizer, layer)
    tokenizer.chat_template = chat_template(template)
    outer = transformers.LlavaProcessor(
        processor,
        tokenizer,
        patch_size=vision.config.patch_size,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
        num_additional_image_tokens=int(_CLASS_TOKEN[kind]),
        chat_template=tokenizer.chat_template,
    )
    with whole_folder(out) as aside, quiet():
        model.save_pretrained(aside)
        outer.save_pretrained(aside)
        processor.save_pretrained(aside)
        about = {"format": 1, "tower": kind, "language": words.config.model_type, "seed": seed}
        (aside / MARKER).write_text(json.dumps(about) + "\n")
    return out


def _joined(transformers: Any, vision: Any, words: Any, tokenizer: Any, layer: int) -> Any:
    """Return the LLaVA of two networks, which stay the very modules that were given."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if len(tokenizer) > words.get_input_embeddings().num_embeddings:
        words.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    seen = vision.config
    config = transformers.LlavaConfig(
        vision_config=seen,
        text_config=words.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(seen.image_size // seen.patch_size) ** 2,
        vision_feature_layer=layer,
        vision_feature_select_strategy="default" if _CLASS_TOKEN[seen.model_type] else "full",
        pad_token_id=tokenizer.pad_token_id,
    )
    # Made without memory: two models of seven billion weights would not fit where one does.
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(config)
    projector = type(model.model.multi_modal_projector)(config)
    for matrix in (projector.linear_1, projector.linear_2):
        torch.nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)
        torch.nn.init.zeros_(matrix.bias)
    model.model.vision_tower = vision.to(words.dtype)
    model.model.multi_modal_projector = projector.to(words.dtype)
    model.model.language_model = words.base_model
    model.lm_head = words.get_output_embeddings()
    model.generation_config = words.generation_config
    return model


def open_llava(folder: str | Path, device: torch.device | str = "cpu") -> Llava:
    """Return a LLaVA from its folder, ready to be trained or asked.

    Raises:
        CheckpointError: transformers can't read the folder as one.
        ConfigError: its image processor does what ours can't.
    """
    transformers = _library()
    folder = Path(folder)
    model = _read(transformers.LlavaForConditionalGeneration, folder, "LLaVA", dtype="auto")
    if getattr(model.config, "model_type", "") != "llava":
        raise CheckpointError(f"{folder} holds a {model.config.model_type}, not a LLaVA.")
    tokenizer = _read(transformers.AutoTokenizer, folder, "tokenizer")
    image = model.config.image_token_index
    if tokenizer.convert_tokens_to_ids(IMAGE) != image:
        raise CheckpointError(
            f"{folder} has no token {IMAGE} where its model expects it ({image})."
        )
    transform = transform_of(_read(transformers.AutoImageProcessor, folder, "image processor"))
    model.to(device).eval()
    return Llava(model, tokenizer, transform, model.config.image_seq_length, folder)


def transform_of(processor: Any) -> Transform:
    """Return what an image processor of transformers does, as ours does it.

    Both resize with antialiasing; a rectangle is squashed, or its central square is taken.

    Raises:
        ConfigError: it does something else.
    """
    told = {
        name: _plain(getattr(processor, name, None))
        for name in ("size", "crop_size", "image_mean", "image_std", "resample", "do_center_crop")
    }
    size, crop = told["size"] or {}, told["crop_size"] or {}
    side, how = size.get("height"), "squash"
    if told["do_center_crop"] and size.get("shortest_edge") == crop.get("height"):
        side, how = crop.get("height"), "center_crop"
        fits = crop.get("width") == side
    else:
        fits = size.get("width") == side and not told["do_center_crop"]
    resample = told["resample"]
    if not fits or not isinstance(side, int) or resample not in (_CUBIC, _LINEAR):
        raise ConfigError(
            f"An image processor of size {size}, crop {crop} and resample {resample} makes pixels "
            "that can't be made here: give it one square size, bicubic or bilinear."
        )
    return Transform(
        resolution=side,
        mean=tuple(told["image_mean"]),
        std=tuple(told["image_std"]),
        interpolation="bicubic" if resample == _CUBIC else "bilinear",
        resize=how,
    )


def chat_template(template: Template) -> str:
    """Return a template as transformers' chat templates are written (Jinja).

    A message's content is a text, or a list of parts of type "image" and "text".
    """
    end = "eos_token" if template.end is None else json.dumps(template.end)
    said = (
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ '<image>\\n' }}"
        "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
    )
    return (
        "{{ " + json.dumps(template.system) + " }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ " + json.dumps(template.user) + " }}" + said + "{{ ' ' }}"
        "{% else %}{{ " + json.dumps(template.assistant + " ") + " }}" + said + "{{ " + end + " }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ " + json.dumps(template.assistant) + " }}{% endif %}"
    )


def _library() -> Any:
    plugins.require("transformers", "text", "A language model that sees")
    import transformers

    return transformers


def _plain(value: Any) -> Any:
    """Return a size as a dictionary, whatever class a release keeps it in."""
    if value is None or isinstance(value, int | float | bool | list | tuple):
        return value
    if isinstance(value, dict):
        return {name: number for name, number in value.items() if number is not None}
    names = ("height", "width", "shortest_edge")
    return {name: getattr(value, name) for name in names if getattr(value, name, None) is not None}


def _read(kind: Any, folder: str | Path, what: str, **options: Any) -> Any:
    """Return what transformers reads from a folder: safetensors only, no code, no network."""
    if not (Path(folder) / "config.json").is_file():
        raise CheckpointError(f"{folder} is no folder of a model (it has no config.json).")
    weights = {"use_safetensors": True} if what in _WEIGHED else {}
    with loading(folder, what), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **weights, **options
        )
