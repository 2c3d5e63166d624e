"""NV-Embed's network: a Mistral that looks both ways, attention to trained latents, a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from lift.terms import unit

_FEED_FORWARD = 4
"""Times the width, for each half of the gated layer; no file of the model names it."""


@dataclass(frozen=True)
class Sizes:
    """What config.json says of the network.

    Attributes:
        decoder: arguments of transformers' MistralConfig.
        latents: trained vectors that every token attends to.
        heads: of that attention.
        head_width: numbers of one of these heads (published: as many as the whole width).
        normalised: whether rows get unit length.
    """

    decoder: Mapping[str, Any]
    latents: int
    heads: int
    head_width: int
    normalised: bool

    @property
    def width(self) -> int:
        """Return the length of a token's state, and of a row."""
        return self.decoder["hidden_size"]

    @property
    def positions(self) -> int:
        """Return the longest text that the decoder was made for, in tokens."""
        return self.decoder["max_position_embeddings"]


class _Attend(nn.Module):
    """Tokens ask, the latents answer: pre-norm attention without a mask."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        inner = sizes.heads * sizes.head_width
        self.heads = sizes.heads
        self.norm = nn.LayerNorm(sizes.width)
        self.norm_context = nn.LayerNorm(sizes.width)
        self.fn = nn.ModuleDict(
            {
                "to_q": nn.Linear(sizes.width, inner, bias=False),
                "to_kv": nn.Linear(sizes.width, 2 * inner, bias=False),
                "to_out": nn.Linear(inner, sizes.width, bias=False),
            }
        )

    def forward(
        self, hidden: Float[Tensor, "b t d"], latents: Float[Tensor, "n d"]
    ) -> Float[Tensor, "b t d"]:
        queries = self._by_head(self.fn["to_q"](self.norm(hidden)).flatten(0, 1))
        keys, values = self.fn["to_kv"](self.norm_context(latents)).chunk(2, dim=-1)
        # All texts meet the same latents, so their tokens are one long row of queries.
        found = functional.scaled_dot_product_attention(
            queries, self._by_head(keys), self._by_head(values)
        )
        merged = found[0].transpose(0, 1).flatten(1).unflatten(0, hidden.shape[:2])
        return self.fn["to_out"](merged)

    def _by_head(self, rows: Float[Tensor, "n inner"]) -> Float[Tensor, "1 heads n width"]:
        return rows.unflatten(1, (self.heads, -1)).transpose(0, 1).unsqueeze(0)


class _Geglu(nn.Module):
    """The first half of every row times GELU (exact, by erf) of the second."""

    def forward(self, x: Float[Tensor, "b t twice"]) -> Float[Tensor, "b t once"]:
        values, gates = x.chunk(2, dim=-1)
        return values * functional.gelu(gates)


class _FeedForward(nn.Module):
    """Pre-norm gated layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        net = nn.Sequential(
            nn.Linear(width, 2 * _FEED_FORWARD * width),
            _Geglu(),
            nn.Linear(_FEED_FORWARD * width, width),
        )
        self.fn = nn.ModuleDict({"net": net})

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.fn["net"](self.norm(hidden))


class LatentAttention(nn.Module):
    """Pools the states of tokens (NV-Embed, arXiv 2405.17428, section 3.2).

    Names of parameters are those of the published files.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(sizes.latents, sizes.width))
        self.cross_attend_blocks = nn.ModuleList([_Attend(sizes), _FeedForward(sizes.width)])
        self.normalised = sizes.normalised

    def forward(
        self, hidden: Float[Tensor, "b t d"], pooled: Bool[Tensor, "b t"]
    ) -> Float32[Tensor, "b d"]:
        """Return one row a text: the mean, in float32, over the tokens that `pooled` marks."""
        attend, feed_forward = self.cross_attend_blocks
        hidden = attend(hidden, self.latents) + hidden
        hidden = feed_forward(hidden) + hidden
        weight = pooled.unsqueeze(-1).float()
        mean = (hidden.float() * weight).sum(dim=1) / weight.sum(dim=1)
        return unit(mean) if self.normalised else mean


class NVEmbedNetwork(nn.Module):
    """Decoder and pooler; names of parameters are those of the published files."""

    def __init__(self, sizes: Sizes) -> None:
        from transformers import MistralConfig, MistralModel

        super().__init__()
        self.embedding_model = MistralModel(MistralConfig(**sizes.decoder))
        self.latent_attention_model = LatentAttention(sizes)

    def states(
        self, ids: Int64[Tensor, "b t"], read: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t d"]:
        """Return the state of every token after the decoder's last norm.

        Args:
            ids: of tokens, padded on the right: position 0 is the first token of every text.
            read: true at tokens, false at padding.
        """
        long = ids.shape[1]
        # transformers takes a mask of four axes as it is and adds no causal one to it; without a
        # mask it would be causal.
        mask = read[:, None, None, :].expand(-1, 1, long, long)
        found = self.embedding_model(input_ids=ids, attention_mask=mask, use_cache=False)
        return found.last_hidden_state

    def forward(
        self,
        ids: Int64[Tensor, "b t"],
        read: Bool[Tensor, "b t"],
        pooled: Bool[Tensor, "b t"],
    ) -> Float32[Tensor, "b d"]:
        """Return one row a text; `pooled` marks the tokens of the mean, one a text at least."""
        return self.latent_attention_model(self.states(ids, read), pooled)
