"""Any model of sentence-transformers that takes images: a folder, or an id of the hub.

The older kind has one module of a whole CLIP, newer ones have a route for each kind of input. The
library prepares pixels and tokens; only decoding is ours, so that a damaged image is told in one
sentence. Each call of `encode` holds one kind of input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from PIL import Image

from lift.contenders._two_towers import BATCH, Featured, digest
from lift.data.image import decode
from lift.data.many import as_many, chunks
from lift.efficiency import Efficiency, measured
from lift.errors import ConfigError
from lift.terms import ImageLike, unit
from lift.text.encoder import clean
from lift.text.encoders._json_files import read_any_json
from lift.text.encoders._layout import file_hash
from lift.text.encoders._own_code import code_step
from lift.text.encoders._sentence import load_model
from lift.text.encoders._where import LOCAL, locate
from lift.text.loading import loading

NEEDS = {"sentence_transformers": "text"}

_NAME = "contenders/sentence_transformers"
_BOUNDLESS = 1_000_000
"""Tokens above which a tokenizer's cap is none."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: a folder, else an id of the hub.
        revision: branch, tag or commit on the hub.
        trust: whether Python code that comes with the model may run. Read it first.
        prompt: text put before every text; None takes the model's own default.
        prompt_name: the same by its name among the model's prompts ("query").
        max_tokens: texts are cut here; None takes the model's own cap.
        dimensions: keep the first values of every row; None keeps all.
        saw: benchmarks whose captions it was trained on.
    """

    model: str
    revision: str | None = None
    trust: bool = False
    prompt: str | None = None
    prompt_name: str | None = None
    max_tokens: int | None = None
    dimensions: int | None = None
    saw: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_tokens", "dimensions"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{_NAME}: {name} must be at least 1, not {value}.")
        if self.prompt is not None and self.prompt_name is not None:
            raise ConfigError(f"{_NAME}: give prompt or prompt_name, not both.")


def build(config: Config, device: torch.device) -> SentenceModel:
    """Return the model.

    Raises:
        ConfigError: no such model, one that takes no images or brings code that nobody trusts, a
            prompt that it has not, or one that does not load whole.
        MissingPackage: sentence-transformers is not installed.
    """
    folder, name, revision = locate(config.model, config.revision, _NAME)
    _look_for_code(folder, name, config.trust)
    _require_whole(folder)
    local = name == LOCAL
    model, _ = load_model(
        folder if local else name,
        str(device),
        safetensors=True,
        revision=None if local else revision,
        trust_remote_code=config.trust,
        truncate_dim=config.dimensions,
    )
    kinds = tuple(map(str, model.modalities))
    if missing := [kind for kind in ("image", "text") if kind not in kinds]:
        raise ConfigError(
            f"{_NAME}: {config.model!r} takes {' and '.join(kinds) or 'nothing'}, no "
            f"{missing[0]}s; choose a model of images and texts."
        )
    if config.prompt_name is not None and config.prompt_name not in model.prompts:
        raise ConfigError(
            f"{_NAME}: {config.model!r} has no prompt {config.prompt_name!r}, only "
            f"{', '.join(model.prompts) or 'none'}."
        )
    cap = _cap(model, config)
    if cap is not None:
        model.max_seq_length = cap
    options = [config.prompt, config.prompt_name, cap, config.dimensions]
    content = _content(folder) if local else f"{name} {revision}"
    identity = digest(content, json.dumps(options))
    return SentenceModel(config, model.float().eval().requires_grad_(False), identity, cap)


def _content(folder: Path) -> str:
    """Return a digest of all files of a model but its card; routes lie in folders of their own."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".md"]
    return digest(*(f"{file.relative_to(folder).as_posix()} {file_hash(file)}" for file in files))


def _look_for_code(folder: Path, name: str, trust: bool) -> None:
    """Refuse code that comes with the model, unless the user trusts it. Raises ConfigError."""
    folders = {file.parent for file in folder.rglob("*config.json")} | {folder}
    foreign = [kind for kind in _classes(folder) if not kind.startswith("sentence_transformers.")]
    try:
        code_step(sorted(folders), model=name, trusted=trust, ignored=False, classes=foreign)
    except ConfigError as error:
        if trust:
            raise
        raise ConfigError(
            f"{_NAME}: the model brings Python code of its own (or names a class outside the "
            "library); read that code, and give trust=true if you trust it."
        ) from error


def _classes(folder: Path) -> Iterator[str]:
    """Yield the classes that a model's files name: of its modules, and of those in routes."""
    modules = read_any_json(folder / "modules.json", [])
    for module in modules if isinstance(modules, list) else []:
        if isinstance(module, dict):
            yield str(module.get("type", ""))
    for name in ("router_config.json", "config.json"):  # the second is where older ones have it
        for file in sorted(folder.rglob(name)):
            values = read_any_json(file, {})
            types = values.get("types", {}) if isinstance(values, dict) else {}
            yield from map(str, types.values() if isinstance(types, dict) else [])


def _require_whole(folder: Path) -> None:
    """Refuse weights that lie elsewhere, or in pickles. Raises ConfigError."""
    for file in sorted(folder.rglob("adapter_config.json")):
        raise ConfigError(
            f"{_NAME}: {file} is of an adapter, and the weights that it adapts lie elsewhere; "
            "merge the two and save them as one model."
        )
    for file in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(file.parent.glob("*.safetensors")):
            raise ConfigError(
                f"{_NAME}: {file} is a pickle, which can run code; weights are read from "
                "safetensors alone. Save the model with a newer sentence-transformers."
            )


def _cap(model: Any, config: Config) -> int | None:
    """Return the tokens that texts are cut at: never beyond the positions that there are."""
    told = [config.max_tokens, model.max_seq_length]
    for module in model.modules():
        shape = getattr(getattr(module, "config", None), "text_config", None)
        told.append(getattr(shape, "max_position_embeddings", None))
    found = [cap for cap in told if isinstance(cap, int) and cap < _BOUNDLESS]
    return min(found) if found else None


class SentenceModel(Featured):
    """A model of sentence-transformers as an `Encoder`.

    Attributes:
        name, saw: for tables; benchmarks whose captions it was trained on.
        model: the `SentenceTransformer`.
        identity: a digest of the model's files (of the hub: its commit) and of the options.
        max_tokens: texts are cut here; None where nobody knows.
    """

    def __init__(self, config: Config, model: Any, identity: str, cap: int | None) -> None:
        """Use `build` instead."""
        self.name, self.saw = Path(config.model).name, config.saw
        self.model, self.identity, self.max_tokens = model, identity, cap
        self._prompts = {"prompt": config.prompt, "prompt_name": config.prompt_name}

    def features(
        self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = BATCH
    ) -> Float32[np.ndarray, "n d"]:
        """Return the model's own rows of images, whatever their length."""
        rows = []
        for chunk in chunks(as_many(images), batch_size):
            pictures = [Image.fromarray(decode(i).permute(1, 2, 0).numpy()) for i in chunk]
            rows.append(self._encode(pictures, len(pictures)))
        return np.concatenate(rows) if rows else np.zeros((0, self.dimensions), np.float32)

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text."""
        several = [texts] if isinstance(texts, str) else texts
        # By its kind: of a plain string that looks like an address, the library fetches an image.
        asked = [{"text": clean(text)} for text in several]
        if not asked:
            return np.zeros((0, self.dimensions), np.float32)
        return unit(torch.from_numpy(self._encode(asked, BATCH, **self._prompts))).numpy()

    @property
    def dimensions(self) -> int:
        """Length of a row."""
        return len(self._encode([{"text": "a"}], 1)[0])

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"] | None:
        """Return which texts are longer than the cap; None where nobody can tell."""
        lengths = self._lengths(texts)
        if lengths is None or self.max_tokens is None:
            return None
        return np.array([length > self.max_tokens for length in lengths], np.bool_)

    def efficiency(self, *, texts: bool = True, batches: int = 5) -> Efficiency:
        """Measure what it costs on this machine.

        Args:
            texts: whether to measure those, too; not where they come from a cache.
            batches: that are timed.
        """
        return measured(
            dimensions=self.dimensions,
            device=torch.device(self.model.device),
            precision="float32",
            encode_images=self.encode_images,
            image_weights=[self.model],
            encode_texts=self.encode_texts if texts else None,
            text_weights=lambda: [self.model],
            count_tokens=lambda text: (self._lengths([text]) or [0])[0],
            batches=batches,
        )

    def _encode(self, inputs: list[Any], size: int, **prompts: str | None) -> np.ndarray:
        with loading(self.name, "model"):
            rows = self.model.encode(inputs, batch_size=size, show_progress_bar=False, **prompts)
        return np.array(rows, np.float32)

    def _lengths(self, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of texts, uncut; None where the model has no plain tokenizer."""
        tokenizer: Callable[..., Any] | None = getattr(self.model, "tokenizer", None)
        named = self._prompts["prompt_name"] or self.model.default_prompt_name
        prompt = self._prompts["prompt"]
        if prompt is None:
            prompt = self.model.prompts.get(named, "") if named else ""
        try:
            assert tokenizer is not None
            found = tokenizer([prompt + clean(text) for text in texts], truncation=False)
            return [len(ids) for ids in found["input_ids"]]
        except (AssertionError, TypeError, KeyError, ValueError):
            return None
