"""Pull every image to its own captions; nothing is pushed away and nothing is learned here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from lift.objectives._targets import owners


@dataclass(frozen=True, kw_only=True)
class Config:
    """The cosine objective has no options."""


class Cosine(nn.Module):
    """Mean of 1 - cosine over the captions and the images they describe.

    It only works against a text side that can't move: two trained sides would meet in one point.
    """

    def forward(
        self,
        z_image: Float32[Tensor, "b d"],
        z_text: Float32[Tensor, "c d"],
        owner: Int64[Tensor, " c"] | None = None,
        row: Int64[Tensor, " c"] | None = None,
    ) -> Float32[Tensor, ""]:
        """Return the loss, in [0, 2]; `owner` as in `lift.terms.Objective`, `row` is not used."""
        with torch.autocast(z_image.device.type, enabled=False):
            owner = owners(len(z_image), len(z_text), owner, z_image)
            return (1.0 - (z_image[owner] * z_text).sum(1)).mean()

    def constrain(self) -> None:
        """Do nothing: there are no parameters."""

    def scalars(self) -> dict[str, float]:
        """Return no numbers: there are no parameters."""
        return {}


def build(config: Config) -> Cosine:
    """Return the objective."""
    del config
    return Cosine()
