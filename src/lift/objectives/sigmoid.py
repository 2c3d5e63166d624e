"""Every pair judged on its own by a sigmoid with learned scale and bias (SigLIP's loss)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.errors import ConfigError
from lift.objectives._targets import check_ignore_above, targets, too_close
from lift.terms import Candidates


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the sigmoid objective.

    Attributes:
        init_scale: what the cosines are multiplied by at the start.
        init_bias: what is added to them; near -ln(batch) the first steps are calm, and SigLIP
            takes -10 for large batches.
        max_scale: the most that the scale may become.
        share_equal: captions that are equal are right for each other's images.
        ignore_above: text-text cosine above which another image's caption is left out of the sum
            instead of being pushed away; None leaves none out.
    """

    init_scale: float = 10.0
    init_bias: float = -10.0
    max_scale: float = 100.0
    share_equal: bool = True
    ignore_above: float | None = None


class Sigmoid(nn.Module):
    """-sum(log sigmoid(label (scale cos + bias))) / b over all pairs (Zhai et al. 2023, eq. 1).

    `label` is 1 where a caption is right for an image, else -1; a pair with a weight below 1 is
    judged both ways, in that proportion. Both parameters are 0-d, so the
    optimiser does not decay them.
    """

    splits = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.init_scale)))
        self.bias = nn.Parameter(torch.tensor(config.init_bias))

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the loss in nats an image; the rest as in `lift.terms.Objective`.

        Weights above 1 count as 1.
        """
        pairs = self._pairs(z_image, texts)
        return pairs.sum() / len(z_image)

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return the sum over each image's pairs; their mean is the loss."""
        return self._pairs(z_image, texts).sum(1)

    def _pairs(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, "b c"]:
        with torch.autocast(z_image.device.type, enabled=False):  # see softmax.py
            z_text, owner, row, weight = texts.z, texts.owner, texts.row, texts.weight
            target = targets(len(z_image), owner, row, weight, self.config.share_equal)
            logits = self.log_scale.exp() * (z_image @ z_text.T) + self.bias
            softplus = nn.functional.softplus
            if weight is None:
                pairs = softplus(torch.where(target, -logits, logits))
            else:
                share = target.clamp(max=1.0)
                pairs = share * softplus(-logits) + (1 - share) * softplus(logits)
            if self.config.ignore_above is None:
                return pairs
            dropped = too_close(z_text, owner, target > 0, self.config.ignore_above)
            return pairs.masked_fill(dropped, 0.0)

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp the log scale to [0, ln max_scale]; the bias is free."""
        self.log_scale.clamp_(0.0, math.log(self.config.max_scale))

    def scalars(self) -> dict[str, float]:
        """Return `scale` and `bias`, the numbers in scale * cosine + bias."""
        return {"scale": math.exp(self.log_scale.item()), "bias": self.bias.item()}


def build(config: Config) -> Sigmoid:
    """Return the objective.

    Raises:
        ConfigError: a scale or cosine that can't be one.
    """
    if not 1.0 <= config.init_scale <= config.max_scale:
        raise ConfigError(
            f"sigmoid.init_scale must lie in [1, max_scale] = [1, {config.max_scale:g}], "
            f"not {config.init_scale}."
        )
    check_ignore_above(config.ignore_above, "sigmoid")
    return Sigmoid(config)
