"""Pull every image to its own captions; nothing is pushed away and nothing is learned here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.terms import Candidates

_LEAST = torch.finfo(torch.float32).tiny
"""What divides where all weights are 0: nothing is right, so the loss is 0."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The cosine objective has no options."""


class Cosine(nn.Module):
    """Mean of 1 - cosine over the captions and the images they describe.

    It only works against a text side that can't move: two trained sides would meet in one point.
    """

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the loss, in [0, 2], a mean over captions in proportion to `weight`.

        `owner` is as in `lift.terms.Objective`, `row` is not used. Weights that are all 0 give 0.
        """
        with torch.autocast(z_image.device.type, enabled=False):
            z_text, owner, row, weight = texts.z, texts.owner, texts.row, texts.weight
            far = 1.0 - (z_image[owner] * z_text).sum(1)
            if weight is None:
                return far.mean()
            return (far * weight).sum() / weight.sum().clamp(min=_LEAST)

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return the (weighted) mean over each image's captions; 0 where it has none."""
        z_text, owner, row, weight = texts.z, texts.owner, texts.row, texts.weight
        share = torch.ones(len(z_text), device=z_text.device) if weight is None else weight
        far = (1.0 - (z_image[owner] * z_text).sum(1)) * share
        sums = torch.zeros(2, len(z_image), device=z_text.device)
        sums.index_add_(1, owner, torch.stack([far, share]))
        return sums[0] / sums[1].clamp(min=_LEAST)

    def constrain(self) -> None:
        """Do nothing: there are no parameters."""

    def scalars(self) -> dict[str, float]:
        """Return no numbers: there are no parameters."""
        return {}


def build(config: Config) -> Cosine:
    """Return the objective."""
    del config
    return Cosine()
