"""A text encoder that is there already, to be tuned with the images or held still.

Held still, it tells what freezing alone changes; tuned, what pre-training alone does (LiT, Zhai et
al. 2022, arXiv 2111.07991, compares the two on the image side).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.errors import ConfigError, unknown
from lift.text.encoders import minilm
from lift.text.encoders._training_data import seen_by
from lift.text.loading import loading, quiet_loading, require_weights
from lift.text.networks import READ, alone, found_folder, plain, shape_values, values_of
from lift.text.tokenizer import FILE, Tokenizer
from lift.text_towers._pooling import is_token, pooled, require_fits

NEEDS = {"transformers": "text"}

MINILM = "minilm"
LONGEST = 512
"""Tokens of a text where neither the options nor the model's own files ask for fewer."""

_NAME = "text_towers/pretrained"
_LIMITS = ("sentence_bert_config.json", "tokenizer_config.json")
_OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer")
"""Families whose first position is behind that of the padding."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where the tower begins.

    Attributes:
        model: "minilm" for all-MiniLM-L6-v2 from its package, checked by hash; else a folder or a
            hub id of a text model that transformers loads without code of its own, with weights in
            safetensors and a `tokenizer.json`.
        revision: branch, tag or commit of a hub model.
        context: tokens that a text is cut to; None takes the model's own limit, 512 at most.
        pooling: how the vectors of a text's tokens become one: their "mean", "cls" (the first) or
            the "last".
        dropout: share of numbers that its layers drop in training; 0 makes it the same function in
            training and at rest.
        pad_to: whether a batch is padded to its "longest" text, or always to the whole "context".
        checkpoint_activations: recompute blocks in the backward pass instead of storing them.
        network: the shape as transformers names it; of a saved model. Then no weights are read.
    """

    model: str = MINILM
    revision: str | None = None
    context: int | None = None
    pooling: Literal["mean", "cls", "last"] = "mean"
    dropout: float = 0.0
    pad_to: Literal["longest", "context"] = "longest"
    checkpoint_activations: bool = False
    network: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (
            ("pooling", ("mean", "cls", "last")),
            ("pad_to", ("longest", "context")),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if self.context is not None and self.context < 1:
            raise ConfigError(f"{_NAME}: context must be at least 1, not {self.context}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"{_NAME}: dropout must lie in [0, 1), not {self.dropout}.")


def tokenizer(config: Config, captions: Iterable[str] = ()) -> Tokenizer:
    """Return the model's own tokenizer; captions have no say in it.

    Raises:
        MissingPackage: a package, or MiniLM's weights, are not installed.
        ConfigError: no such model, or no `tokenizer.json` in it.
    """
    return Tokenizer.found(_folder(config) / FILE if config.model == MINILM else _folder(config))


def fitted(config: Config, tokenizer: Tokenizer) -> Config:
    """Return the options with the context spelled out.

    Raises:
        ConfigError: the model has vectors for fewer tokens or positions than asked for.
    """
    folder = _folder(config)
    values = values_of(folder / "config.json", _NAME)
    vocabulary = values.get("vocab_size")
    if isinstance(vocabulary, int) and tokenizer.size > vocabulary:
        raise ConfigError(
            f"{_NAME}: the tokenizer of {config.model!r} has {tokenizer.size} tokens, the model "
            f"vectors for {vocabulary}; its files don't belong together."
        )
    positions = _positions(values)
    context = config.context
    if context is None:
        limits = [positions, LONGEST, *_stated(folder)]
        if config.model == MINILM:
            limits.append(minilm.MAX_TOKENS)
        context = min(limit for limit in limits if limit is not None)
    elif positions is not None and context > positions:
        raise ConfigError(
            f"{_NAME}: context={context}, but {config.model!r} reads at most {positions} tokens; "
            "lower it."
        )
    tokenizer.require_room(context)
    return dataclasses.replace(config, context=context)


def saw(config: Config) -> tuple[str, ...]:
    """Return the benchmarks whose captions the model's own training saw."""
    return minilm.CAPTIONS if config.model == MINILM else seen_by(config.model, _folder(config))


def build(config: Config) -> PretrainedText:
    """Return the tower with the model's weights; draws no random numbers.

    Raises:
        MissingPackage: a package, or MiniLM's weights, are not installed.
        ConfigError: no such model, or one that can't be loaded.
    """
    if config.network:
        return rebuild(config)
    folder = _folder(config)
    with alone(folder, [*READ, FILE]) as files, loading(config.model), quiet_loading():
        import transformers

        shape = transformers.AutoConfig.from_pretrained(str(files), trust_remote_code=False)
        _set_dropout(shape, config.dropout)
        network, info = _kind(shape).from_pretrained(
            str(files),
            config=shape,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = {name for name in info["missing_keys"] if "pooler" not in name.split(".")}
    require_weights(config.model, missing)
    return PretrainedText(config, network)


def rebuild(config: Config) -> PretrainedText:
    """Return the tower of a saved model: random weights in its shape, from its options alone.

    Raises:
        ConfigError: the options don't say the shape, or say one that transformers can't build.
    """
    values = plain(config.network)
    kind = values.pop("model_type", None)
    if not isinstance(kind, str) or config.context is None:
        raise ConfigError(
            f"{_NAME}: the saved model does not say the shape of its text network; copy it again "
            "from where it was made."
        )
    with loading(kind), quiet_loading():
        import transformers

        shape = transformers.AutoConfig.for_model(kind, **values)
        network = _kind(shape).from_config(shape, dtype=torch.float32, trust_remote_code=False)
    return PretrainedText(config, network)


class PretrainedText(nn.Module):
    """A network of transformers as a text tower.

    Attributes:
        config: what `rebuild` makes it from.
        width: length of `h_text`.
        context: tokens of a text at most.
        network: of transformers.
    """

    def __init__(self, config: Config, network: nn.Module) -> None:
        super().__init__()
        shape: Any = network.config
        known = shape_values(shape)
        self.config = dataclasses.replace(config, network=known)
        self.context = config.context or _positions(known) or LONGEST
        self.width: int = shape.hidden_size
        pad = getattr(shape, "pad_token_id", None)
        size = getattr(shape, "vocab_size", 0)
        self._pad: int = pad if isinstance(pad, int) and 0 <= pad < size else 0
        if isinstance(getattr(network, "pooler", None), nn.Module):
            setattr(network, "pooler", None)  # noqa: B010 - nobody reads it: it would never learn
        if config.checkpoint_activations:
            enable: Any = getattr(network, "activation_checkpointing_enable", None)
            enable = enable or network.gradient_checkpointing_enable  # its older name
            enable({"use_reentrant": False})
        self.network = network.float()

    def forward(self, ids: Int[Tensor, "c t"]) -> Float[Tensor, "c width"]:
        """Return `h_text`, one raw vector a text.

        Args:
            ids: tokens; -1 pads shorter texts at their end.

        Raises:
            ConfigError: more tokens than `context`.
        """
        require_fits(ids, self.context)
        real = is_token(ids)
        x = self.network(
            input_ids=torch.where(ids < 0, self._pad, ids), attention_mask=real.long()
        ).last_hidden_state
        return pooled(x, real, self.config.pooling)


def _kind(shape: Any) -> Any:
    """Return the class of transformers that builds a network; of two halves, the encoder's."""
    import transformers

    if getattr(shape, "is_encoder_decoder", False):
        return transformers.AutoModelForTextEncoding
    return transformers.AutoModel


def _folder(config: Config) -> Path:
    """Return the folder with the model's files."""
    if config.model == MINILM:
        return minilm.checked_files()
    return found_folder(
        config.model,
        config.revision,
        wanted_by=_NAME,
        extra="text",
        files=[*READ, FILE, *_LIMITS, "README.md"],
        unknown=f"text_tower.model={config.model} is neither {MINILM}, nor a folder, nor a hub "
        "model that can be had ({}); check the name, or download it and give its folder.",
    )


def _positions(values: Mapping[str, Any]) -> int | None:
    """Return how many tokens a network has positions for, None where nothing is said."""
    found = values.get("max_position_embeddings", values.get("n_positions"))
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        return None
    if values.get("model_type") in _OFFSET:
        pad = values.get("pad_token_id")
        found -= 1 + (pad if isinstance(pad, int) else 1)
    return found


def _stated(folder: Path) -> Iterator[int]:
    """Yield the limits that the files beside a model state."""
    for name, key in zip(_LIMITS, ("max_seq_length", "model_max_length"), strict=True):
        try:
            found = json.loads((folder / name).read_text("utf-8")).get(key)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(found, int) and not isinstance(found, bool) and found >= 1:
            yield found


def _set_dropout(shape: Any, share: float) -> None:
    for name, value in shape.to_dict().items():
        is_one = "dropout" in name or name.endswith(("pdrop", "drop_rate"))
        if is_one and isinstance(value, float):
            setattr(shape, name, share)
