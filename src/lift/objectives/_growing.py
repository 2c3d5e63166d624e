"""Log-sum-exps, and means weighted by a softmax, of rows that come in pieces."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Growing:
    """log(sum(exp(x))) of each of n rows, and the mean of values in proportion to exp(x).

    Attributes:
        log_sum: of what was added so far; -inf where that is nothing.
        mean: of the values that came along; 0 where none did.
    """

    def __init__(self, like: Tensor, n: int) -> None:
        """Start with nothing, in the type and on the device of `like`."""
        self.log_sum: Float[Tensor, " n"] = like.new_full((n,), -torch.inf)
        self.mean: Float[Tensor, " n"] = like.new_zeros(n)

    def add(
        self, span: slice, x: Float[Tensor, "r k"], dim: int, values: Tensor | None = None
    ) -> None:
        """Add a piece of some rows, which lie across `dim` of `x`."""
        own, before = x.logsumexp(dim), self.log_sum[span]
        after = torch.logaddexp(before, own)
        if values is not None:
            # Where all is -inf, the clamped difference is -inf and not NaN: the share is 0.
            share = (x - _finite(own).unsqueeze(dim)).exp_()
            mean = share.mul_(values).sum(dim)
            old = self.mean[span] * (before - _finite(after)).exp()
            self.mean[span] = old + mean * (own - _finite(after)).exp()
        self.log_sum[span] = after

    def finite(self) -> Float[Tensor, " n"]:
        """Return `log_sum`, with the lowest number where it is -inf."""
        return _finite(self.log_sum)

    def shift(self, factor: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return s so that exp(x - s) is the softmax of each row times its factor.

        It is infinite, and so that 0, where the factor is 0.
        """
        return torch.where(factor > 0, self.log_sum - factor.log(), torch.inf)


def _finite(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).min)
