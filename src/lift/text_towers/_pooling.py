"""From the vectors of a text's tokens to one: the last, the first, or their mean."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.errors import ConfigError

Pooling = Literal["last", "cls", "mean"]


def is_token(ids: Int[Tensor, "c t"]) -> Bool[Tensor, "c t"]:
    """Return which entries are tokens and not padding; a text without any counts its first."""
    real = ids >= 0
    real = torch.cat([torch.ones_like(real[:, :1]), real[:, 1:]], 1)
    return real


def pooled(
    x: Float[Tensor, "c t width"], real: Bool[Tensor, "c t"], pooling: Pooling
) -> Float[Tensor, "c width"]:
    """Return one vector a text; padding has no part in it."""
    if pooling == "cls":
        return x[:, 0]
    if pooling == "last":
        last = real.sum(1) - 1
        return x[torch.arange(len(x), device=x.device), last]
    kept = real[..., None].to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1)


def require_fits(ids: Int[Tensor, "c t"], context: int) -> None:
    """Raise ConfigError for texts of no token, or of more than the tower has positions for."""
    if not 1 <= ids.shape[1] <= context:
        raise ConfigError(
            f"The text tower takes texts of 1 to {context} tokens, not of {ids.shape[1]}; cut them "
            "there, or raise text_tower.context."
        )
