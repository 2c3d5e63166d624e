"""The text half of a two-tower model of transformers (CLIP, SigLIP, ...), as it is: frozen.

Its rows lie where the model's own images lie (`towers/huggingface` with pooling=projected), so what
maps them into another text space maps these images too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from lift import plugins
from lift.config import Part, to_dict
from lift.errors import ConfigError
from lift.terms import unit
from lift.text.encoder import EncodedTexts, batches, clean, default_token_budget
from lift.text.encoders._sentence import Weights
from lift.text.encoders._tokens import Tokens, load_tokenizer, pad
from lift.text.encoders._where import LOCAL, locate, require_sentencepiece
from lift.text.loading import loading, quiet_loading, require_weights
from lift.text.networks import alone
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision, choose_device

SAME_VECTORS = frozenset({"weights", "saw"})
"""Options that only round or label: they are in no fingerprint."""

_NAME = "text/encoders/dual"
_PADDED = ("siglip", "siglip2")
"""Families trained on texts padded to their last position, padding read as tokens (2303.15343)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: a folder on disk, else an id of the hub, of the whole model, with weights in
            safetensors.
        revision: branch, tag or commit on the hub; the space always holds the commit.
        prompt: text put before every caption.
        max_tokens: texts are cut here; None takes all positions that the model has.
        normalised: scale rows to unit length.
        weights: number format in which the weights are kept and the network computes.
        saw: benchmarks whose captions the model was trained on.
    """

    model: str
    revision: str | None = None
    prompt: str = ""
    max_tokens: int | None = None
    normalised: bool = True
    weights: Weights = "float32"
    saw: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"{_NAME}: max_tokens must be positive, not {self.max_tokens}.")


def space(config: Config) -> TextSpace:
    """Return the space of these options, from the model's JSON files.

    A local folder is known by the hash of its content, so it has to be there whole.

    Raises:
        ConfigError: no such folder or hub model, no model of two towers, or a cap beyond its
            positions.
        MissingPackage: transformers, which knows what the files leave out, is not installed.
    """
    folder, model, revision = locate(config.model, config.revision, _NAME)
    return _space(config, _shape(folder, config), model, revision)


def _shape(folder: Path, config: Config) -> Any:
    """Return the shape of both towers."""
    plugins.require("transformers", "text", _NAME)
    with loading(config.model):
        import transformers

        with alone(folder, ("config.json",)) as files:
            shape = transformers.AutoConfig.from_pretrained(str(files), trust_remote_code=False)
    if not hasattr(shape, "text_config") or not hasattr(shape, "vision_config"):
        raise ConfigError(
            f"{_NAME}: {config.model!r} is a {shape.model_type}, no model of an image and a text "
            "tower; use the encoder sentence_transformer or causal_lm for models of text alone."
        )
    return shape


def _space(config: Config, shape: Any, model: str, revision: str) -> TextSpace:
    text = shape.text_config
    positions = getattr(text, "max_position_embeddings", None)
    cap = config.max_tokens or positions
    if cap is None or (positions is not None and cap > positions):
        raise ConfigError(
            f"{_NAME}: max_tokens is {config.max_tokens}, and the text tower of {config.model!r} "
            f"has {positions or 'an unknown number of'} positions; give max_tokens, no more than "
            "these."
        )
    width = next(
        found
        for found in (
            getattr(shape, "projection_dim", None),
            getattr(text, "projection_size", None),
            text.hidden_size,
        )
        if isinstance(found, int)
    )
    padded = f" > padded{positions}" if shape.model_type in _PADDED else ""
    return TextSpace(
        encoder="dual",
        model=model,
        revision=revision,
        prompt=config.prompt,
        pooling=f"text-features{padded}",
        max_tokens=cap,
        normalised=config.normalised,
        dimensions=width,
    )


def build(config: Config, device: str = "auto") -> DualEncoder:
    """Return the encoder, its weights loaded onto the device.

    Raises:
        ConfigError: see `space`; also a model that does not load whole.
        MissingPackage: transformers is not installed, or sentencepiece where the tokenizer is one
            of its models.
    """
    folder, name, revision = locate(config.model, config.revision, _NAME)
    shape = _shape(folder, config)
    found = _space(config, shape, name, revision)
    source, commit = (str(folder), None) if name == LOCAL else (name, revision)
    require_sentencepiece(folder, _NAME)
    tokens = Tokens(
        load_tokenizer(source, revision=commit),
        prompt=config.prompt,
        max_tokens=found.max_tokens,
        append_eos=False,
        wanted_by=f"{_NAME} ({config.model})",
    )
    network = _network(config, shape, source, commit).to(choose_device(device))
    exact = {**to_dict(config), "model": source, "revision": commit}
    return DualEncoder(network, tokens, found, Part("text/encoders", "dual", exact), config.saw)


def _network(config: Config, shape: Any, source: str, commit: str | None) -> Any:
    """Return the frozen network without its image tower."""
    with loading(config.model), quiet_loading():
        from transformers import AutoModel

        network, info = AutoModel.from_pretrained(
            source,
            revision=commit,
            config=shape,
            dtype=getattr(torch, config.weights),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if not hasattr(network, "get_text_features"):
        raise ConfigError(
            f"{_NAME}: {type(network).__name__} gives no vectors of texts in a space that it "
            "shares with images; CLIP's and SigLIP's do."
        )
    for name, _ in [*network.named_children()]:
        if name.startswith(("vision", "visual")):
            delattr(network, name)
    require_weights(config.model, set(info["missing_keys"]) & set(network.state_dict()))
    return network.eval().requires_grad_(False)


class DualEncoder:
    """A `TextEncoder` over the text tower of a model; see the attributes there."""

    def __init__(
        self, network: Any, tokens: Tokens, space: TextSpace, part: Part, saw: tuple[str, ...]
    ) -> None:
        """Keep the parts.

        Args:
            network: frozen, on its device.
            tokens: turns texts into ids.
            space: what its files and options say that it computes.
            part: rebuilds the encoder.
            saw: benchmarks whose captions its training saw.
        """
        self.space, self.part, self.saw = space, part, saw
        self.matryoshka, self.probes = False, PROBES
        self._network, self._tokens = network, tokens
        self._device: torch.device = next(network.parameters()).device
        self.device = self._device.type
        text = network.config.text_config
        padded = network.config.model_type in _PADDED
        self._positions: int | None = text.max_position_embeddings if padded else None
        self._pad_id = tokens.pad_id if tokens.pad_id < text.vocab_size else 0
        self._known: int = text.vocab_size

    @property
    def network(self) -> Any:
        """The frozen network, on its device."""
        return self._network

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return rows, token counts and cuts of `texts`, in their order (see `TextEncoder`)."""
        found = self._tokens([clean(text) for text in texts])
        lengths = found.lengths
        if self._positions is not None:
            lengths = np.full_like(lengths, self._positions)
        rows = np.empty((len(texts), self.space.dimensions), np.float32)
        padded = 0
        for batch in batches(lengths, token_budget or default_token_budget(self.device)):
            ids, mask = pad([found.ids[i] for i in batch], self._pad_id, "right")
            if (highest := int(ids.max())) >= self._known:
                raise ConfigError(
                    f"The tokenizer of {self.space.model!r} has a token {highest}, but the network "
                    f"has vectors for {self._known}; both have to be of one model."
                )
            rows[batch] = self._forward(ids, mask, precision)
            padded += len(batch) * int(lengths[batch].max())
        return EncodedTexts(rows, found.tokens, found.truncated, padded)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the cap; nothing but their tokens is computed."""
        return self._tokens([clean(text) for text in texts]).truncated

    def _forward(
        self, ids: Int64[torch.Tensor, "b t"], mask: Int64[torch.Tensor, "b t"], how: Precision
    ) -> Float32[np.ndarray, "b d"]:
        """Return the rows of one batch; only the network itself runs in that precision."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self._positions is not None:
            more = self._positions - ids.shape[1]
            inputs = {"input_ids": torch.nn.functional.pad(ids, (0, more), value=self._pad_id)}
        inputs = {name: value.to(self._device) for name, value in inputs.items()}
        # Also switches off an autocast of the caller, which would change stored rows.
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=how == "bfloat16")
        with torch.inference_mode():
            with half:
                found = self._network.get_text_features(**inputs)
            rows = getattr(found, "pooler_output", found).float()
            rows = unit(rows) if self.space.normalised else rows
        if rows.shape[1] != self.space.dimensions:
            raise ConfigError(
                f"The model {self.space.model!r} makes rows of {rows.shape[1]} values, but its "
                f"config.json promises {self.space.dimensions}; it can't be used here."
            )
        return rows.cpu().numpy()
