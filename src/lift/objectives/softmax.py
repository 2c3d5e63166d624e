"""Symmetric InfoNCE with a learned temperature (CLIP's loss, and the paper's)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from lift.errors import ConfigError
from lift.objectives._targets import check_ignore_above, targets, too_close
from lift.terms import Candidates


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the softmax objective.

    Attributes:
        init_temperature: what the cosines are divided by at the start.
        max_scale: the most that 1/temperature may become.
        learn_temperature: False keeps it where it starts.
        share_equal: captions that are equal are right for each other's images.
        ignore_above: text-text cosine above which another image's caption is left out of the
            denominator instead of being pushed away; None leaves none out.

    The paper's loss is `share_equal=False, ignore_above=None`.
    """

    init_temperature: float = 0.07
    max_scale: float = 100.0
    learn_temperature: bool = True
    share_equal: bool = True
    ignore_above: float | None = None


class Softmax(nn.Module):
    """Mean of image-to-text and text-to-image cross-entropy (Radford et al. 2021, figure 3).

    The target of an image is uniform over the captions that are right for it (or in proportion to
    their weights), the target of a caption likewise over the images it is right for; with one
    caption an image and none equal, this is plain InfoNCE. `log_scale` is 0-d, so the optimiser
    does not decay it.
    """

    splits = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(config.init_temperature), dtype=torch.float32),
            requires_grad=config.learn_temperature,
        )

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the loss in nats; the rest as in `lift.terms.Objective`."""
        # Logits reach 100, where bfloat16 steps by 0.5: an outer autocast must not touch them.
        with torch.autocast(z_image.device.type, enabled=False):
            logits, field, target = self._products(z_image, texts)
            to_text = _mean(*_cross_entropy(logits, field, target))
            to_image = _mean(*_cross_entropy(logits.T, field.T, target.T))
            return (to_text + to_image) / 2

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return each image's image-to-text cross-entropy in nats."""
        with torch.autocast(z_image.device.type, enabled=False):
            return _cross_entropy(*self._products(z_image, texts))[0]

    def _products(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"], Shaped[Tensor, "b c"]]:
        """Return the logits, those that compete (others are -inf), and what is right."""
        z_text, owner, row, weight = texts.z, texts.owner, texts.row, texts.weight
        target = targets(len(z_image), owner, row, weight, self.config.share_equal)
        logits = self.log_scale.exp() * (z_image @ z_text.T)
        if self.config.ignore_above is None:
            return logits, logits, target
        right = target > 0
        dropped = too_close(z_text, owner, right, self.config.ignore_above)
        # Weights of 0 leave rows and columns without a target: they don't count, and must not be
        # emptied, or their logsumexp would be infinite.
        dropped &= right.any(1)[:, None] & right.any(0)
        return logits, logits.masked_fill(dropped, -math.inf), target

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp the log scale to [0, ln max_scale]."""
        self.log_scale.clamp_(0.0, math.log(self.config.max_scale))

    def scalars(self) -> dict[str, float]:
        """Return `scale` (what cosines are multiplied by) and its inverse, `temperature`."""
        scale = math.exp(self.log_scale.item())
        return {"scale": scale, "temperature": 1.0 / scale}


def _cross_entropy(
    logits: Float[Tensor, "q n"], field: Float[Tensor, "q n"], target: Shaped[Tensor, "q n"]
) -> tuple[Float[Tensor, " q"], Bool[Tensor, " q"]]:
    """Return logsumexp(field) minus the mean logit of what is right, and which rows have a target.

    That is the cross-entropy to a target in proportion to `target`. `field` is `logits` with -inf
    where a pair is left out. Rows for which nothing is right have no target and are 0.
    """
    right = target.sum(1)
    counts = right > 0
    # Of yes and no the sum is a count: the smallest that divides is 1, as it always was.
    least = 1 if target.dtype == torch.bool else torch.finfo(torch.float32).tiny
    positive = (logits * target).sum(1) / right.clamp(min=least)
    return (field.logsumexp(1) - positive) * counts, counts


def _mean(rows: Float[Tensor, " q"], counts: Bool[Tensor, " q"]) -> Float[Tensor, ""]:
    return rows.sum() / counts.sum().clamp(min=1)


def build(config: Config) -> Softmax:
    """Return the objective.

    Raises:
        ConfigError: a temperature, scale or cosine that can't be one.
    """
    if not 1.0 <= config.max_scale:
        raise ConfigError(f"softmax.max_scale must be at least 1, not {config.max_scale}.")
    if not 1.0 / config.max_scale <= config.init_temperature <= 1.0:
        raise ConfigError(
            f"softmax.init_temperature must lie in [1/max_scale, 1] = "
            f"[{1.0 / config.max_scale:g}, 1], not {config.init_temperature}."
        )
    check_ignore_above(config.ignore_above, "softmax")
    return Softmax(config)
