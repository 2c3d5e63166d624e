"""What transformer towers of images and of texts are built of: attention, MLP, block, pooling."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Activation = Literal["gelu", "quick_gelu", "gelu_tanh"]


@runtime_checkable
class Shape(Protocol):
    """What the layers read of a tower's `Config`."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def norm_eps(self) -> float: ...
    @property
    def activation(self) -> Activation: ...


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values.

    Args:
        width: length of a token.
        heads: that share it equally.
        causal: a token sees those before it and itself only.
    """

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b t width"], seen: Bool[Tensor, "b 1 1 t"] | None = None
    ) -> Float[Tensor, "b t width"]:
        """Return what every token gathers from the tokens of its image or text.

        Args:
            x: the tokens.
            seen: which of them may be looked at; None for all. Not with `causal`.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal)
        return self.out(h.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two matrices with the activation between them."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """Return each token through both matrices."""
        h = self.fc1(x)
        if self.activation == "quick_gelu":
            return self.fc2(h * torch.sigmoid(1.702 * h))
        return self.fc2(F.gelu(h, approximate="none" if self.activation == "gelu" else "tanh"))


class Block(nn.Module):
    """Attention, then MLP, each on normed tokens and added to the stream."""

    def __init__(
        self,
        shape: Shape,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.dropout, self.drop_path = dropout, drop_path
        self.norm1 = nn.LayerNorm(shape.width, shape.norm_eps)
        self.attention = Attention(shape.width, shape.heads, causal=causal)
        self.norm2 = nn.LayerNorm(shape.width, shape.norm_eps)
        self.mlp = MLP(shape.width, shape.hidden, shape.activation)

    def forward(
        self, x: Float[Tensor, "b t width"], seen: Bool[Tensor, "b 1 1 t"] | None = None
    ) -> Float[Tensor, "b t width"]:
        """Return the stream after the block; `seen` as in `Attention`."""
        x = x + self._drop(self.attention(self.norm1(x), seen))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        if not self.training:
            return branch
        if self.dropout:
            branch = F.dropout(branch, self.dropout)
        if self.drop_path:
            keep = 1 - self.drop_path
            mask = branch.new_empty(len(branch), 1, 1).bernoulli_(keep)
            branch = branch * (mask / keep)
        return branch


class AttentionPool(nn.Module):
    """A learned query that attends to the patches, then an MLP: SigLIP's MAP head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Parameter(torch.empty(shape.width))
        self.q = nn.Linear(shape.width, shape.width)
        self.k = nn.Linear(shape.width, shape.width)
        self.v = nn.Linear(shape.width, shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.mlp = MLP(shape.width, shape.hidden, shape.activation)

    def forward(self, x: Float[Tensor, "b p width"]) -> Float[Tensor, "b width"]:
        """Return one vector for the patches of an image."""
        q = self.q(self.query).view(1, self.heads, 1, -1).expand(x.shape[0], -1, -1, -1)
        k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.k, self.v)
        )
        h = self.out(F.scaled_dot_product_attention(q, k, v).flatten(1))
        return h + self.mlp(self.norm(h))
