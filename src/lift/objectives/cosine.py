"""Pull every image to its own captions; nothing is pushed away and nothing is learned here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lift.candidates import Candidates
from lift.objectives._targets import own_texts
from lift.objectives._tiles import exactly, spans

_ROWS = 1024
"""Captions in a piece."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The cosine objective has no options."""


class Cosine(nn.Module):
    """Mean of 1 - cosine over the captions and the images they describe.

    It only works against a text side that can't move: two trained sides would meet in one point.
    Ranks tell each other nothing, and extra texts are not looked at.
    """

    splits = True

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the own part of the loss, in [0, 2], a mean over captions by `weight`.

        The mean is over all captions of the step; the rest as in `lift.candidates.Objective`,
        `row` is not used. Weights that are all 0 give 0.
        """
        with exactly(z_image.device):
            share = _shares(z_image, texts)
            least = torch.finfo(share.dtype).tiny  # what divides where all weights are 0
            share = share / share.sum().clamp(min=least)
            own = own_texts(texts, len(z_image)).nonzero()[:, 0]
            image = texts.owner[own] - texts.first
            loss = _Loss.apply(z_image, texts.z, own, image, share[own])
        assert isinstance(loss, Tensor)
        return loss

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return the (weighted) mean over each image's captions; 0 where it has none."""
        with exactly(z_image.device):
            share = _shares(z_image, texts)
            own = own_texts(texts, len(z_image)).nonzero()[:, 0]
            image, share = texts.owner[own] - texts.first, share[own]
            sums = share.new_zeros(2, len(z_image))
            for piece in spans(0, len(own), _ROWS):
                far = 1.0 - (z_image[image[piece]] * texts.z[own[piece]]).sum(1)
                both = torch.stack([far * share[piece], share[piece]])
                sums.index_add_(1, image[piece], both)
        return sums[0] / sums[1].clamp(min=torch.finfo(sums.dtype).tiny)

    def constrain(self) -> None:
        """Do nothing: there are no parameters."""

    def scalars(self) -> dict[str, float]:
        """Return no numbers: there are no parameters."""
        return {}


def _shares(z_image: Tensor, texts: Candidates) -> Float[Tensor, " c"]:
    if texts.weight is None:
        return z_image.new_ones(len(texts.z))
    return texts.weight.to(z_image.dtype)


class _Loss(torch.autograd.Function):
    """The sum of share x (1 - cosine) over pairs, in pieces; nothing is kept but what came in."""

    @staticmethod
    def forward(
        ctx: Any, z_image: Tensor, z_text: Tensor, text: Tensor, image: Tensor, share: Tensor
    ) -> Any:
        ctx.save_for_backward(z_image, z_text, text, image, share)
        loss = z_image.new_zeros(())
        for piece in spans(0, len(text), _ROWS):
            far = 1.0 - (z_image[image[piece]] * z_text[text[piece]]).sum(1)
            loss += (far * share[piece]).sum()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        z_image, z_text, text, image, share = ctx.saved_tensors
        slope = (share * -factors[0])[:, None]
        image_slope, text_slope = torch.zeros_like(z_image), None
        if ctx.needs_input_grad[1]:
            text_slope = torch.zeros_like(z_text)
        for piece in spans(0, len(text), _ROWS):
            pulled = z_text[text[piece]] * slope[piece]
            image_slope.index_add_(0, image[piece], pulled)
            if text_slope is not None:
                text_slope[text[piece]] = z_image[image[piece]] * slope[piece]
        return image_slope, text_slope, None, None, None


def build(config: Config) -> Cosine:
    """Return the objective."""
    del config
    return Cosine()
