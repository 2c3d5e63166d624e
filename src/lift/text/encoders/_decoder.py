"""Compute rows with a decoder: load it whole, pad batches on either side, pool its tokens."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64

from lift.config import Part
from lift.errors import ConfigError
from lift.terms import unit
from lift.text.encoder import EncodedTexts, clean, default_token_budget
from lift.text.encoders._long_positions import batches_within, borders
from lift.text.encoders._presets import Options, Pooling
from lift.text.encoders._sentence import known_tokens
from lift.text.encoders._tokens import Side, Tokens, pad
from lift.text.loading import loading, quiet_loading, require_weights
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision

Weights = Literal["float32", "bfloat16", "float16", "auto"]
"""Number formats of weights in memory; "auto" is that of the file."""


def load_decoder(
    source: str, revision: str | None, *, weights: Weights, trust_remote_code: bool
) -> Any:
    """Return the network without its language-model head, all of its weights from the files.

    Raises:
        ConfigError: the files can't be loaded, or lack weights that would be random numbers.
    """
    from transformers import AutoModel

    with loading(source), quiet_loading():
        model, info = AutoModel.from_pretrained(
            source,
            revision=revision,
            dtype=weights if weights == "auto" else getattr(torch, weights),
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    require_weights(source, info["missing_keys"])
    return model.eval().requires_grad_(False)


class DecoderEncoder:
    """A `TextEncoder` over a decoder; see the attributes there."""

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        space: TextSpace,
        part: Part,
        options: Options,
        *,
        layer: int | None,
        matryoshka: bool,
    ) -> None:
        """Keep the parts.

        Args:
            model: the network, frozen, on its device.
            tokens: turns texts into ids.
            space: what its files and options say that it computes.
            part: rebuilds the encoder.
            options: pooling and padding are read here.
            layer: the hidden state to pool, None for the last one with its norm.
            matryoshka: whether prefixes of rows are usable.
        """
        self.space, self.part, self.saw = space, part, options.saw
        self.matryoshka, self.probes = matryoshka, PROBES
        self._model, self._tokens, self._layer = model, tokens, layer
        self._pooling: Pooling = options.pooling
        self._device: torch.device = model.device
        self.device = self._device.type
        takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        # Without a way to say positions, padding in front would move every token.
        self._side: Side = options.padding if takes_positions else "right"
        self._borders, self._known = borders(model.config), known_tokens(model)
        beyond = self._known is not None and tokens.pad_id >= self._known
        self._pad_id = 0 if beyond else tokens.pad_id

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return rows, token counts and cuts of `texts`, in their order (see `TextEncoder`)."""
        found = self._tokens([clean(text) for text in texts])
        rows = np.empty((len(texts), self.space.dimensions), np.float32)
        padded = 0
        budget = token_budget or default_token_budget(self.device)
        for batch in batches_within(found.lengths, budget, self._borders):
            ids, mask = pad([found.ids[i] for i in batch], self._pad_id, self._side)
            if self._known is not None and (highest := int(ids.max())) >= self._known:
                raise ConfigError(
                    f"The tokenizer of {self.space.model!r} has a token {highest}, but the network "
                    f"has vectors for {self._known}; both have to be of one model."
                )
            rows[batch] = self._forward(ids, mask, precision)
            padded += ids.numel()
        return EncodedTexts(rows, found.tokens, found.truncated, padded)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the cap; nothing but their tokens is computed."""
        return self._tokens([clean(text) for text in texts]).truncated

    def _forward(
        self, ids: Int64[torch.Tensor, "b t"], mask: Int64[torch.Tensor, "b t"], how: Precision
    ) -> Float32[np.ndarray, "b d"]:
        """Return the rows of one batch; only the network itself runs in that precision."""
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._side == "left":
            inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs = {name: value.to(self._device) for name, value in inputs.items()}
        options: dict[str, bool] = {} if self._layer is None else {"output_hidden_states": True}
        # Also switches off an autocast of the caller, which would change stored rows.
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=how == "bfloat16")
        with torch.inference_mode():
            with half:
                found = self._model(**inputs, **options, use_cache=False)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=False):
                last = self._layer is None
                hidden = found.last_hidden_state if last else found.hidden_states[self._layer]
                rows = pool(hidden, inputs["attention_mask"], self._pooling)
                rows = unit(rows) if self.space.normalised else rows
        if rows.shape[1] != self.space.dimensions:
            raise ConfigError(
                f"The model {self.space.model!r} makes rows of {rows.shape[1]} values, "
                f"but its config.json promises {self.space.dimensions}; it can't be used here."
            )
        return rows.cpu().numpy()


def pool(
    hidden: Float[torch.Tensor, "b t d"], mask: Int64[torch.Tensor, "b t"], how: Pooling
) -> Float32[torch.Tensor, "b d"]:
    """Return one row a text from its token vectors, wherever the padding (mask 0) is."""
    if how == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=mask.device), last].float()
    weights = mask if how == "mean" else mask * mask.cumsum(dim=1)
    shares = (weights / weights.sum(dim=1, keepdim=True)).float().unsqueeze(2)
    # Not by the weight 0 alone: what stands at padding may be infinite in half precision.
    return (hidden.float().masked_fill(mask.unsqueeze(2) == 0, 0.0) * shares).sum(dim=1)
