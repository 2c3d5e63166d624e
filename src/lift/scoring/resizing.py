"""What a model does with pixels, as a function that gradients go through."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lift.data.transform import Transform


def prepared(
    transform: Transform, pixels: Float[Tensor, "b 3 h w"], *, rounded: bool = False
) -> Float[Tensor, "b 3 r r"]:
    """Return pixels as a model takes them: cut or squashed, resized, by its mean and deviation.

    As `Transform.evaluate` and then `normalise` do with whole numbers from 0 to 255. Those are
    rounded and clipped after each resize, across and then down (as torch 2.13 has it for uint8);
    here values are clipped, and rounded where asked, with the gradient of no rounding (the
    straight-through estimator, Bengio et al. 2013).

    Args:
        transform: of the model.
        pixels: RGB in [0, 1], of any size; those that need no resize are taken as they are.
        rounded: whether to round as files' pixels are.
    """
    if transform.resize == "center_crop":
        height, width = pixels.shape[2:]
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        pixels = pixels[:, :, top : top + short, left : left + short]
    if transform.canvas is not None:
        pixels = _resized(pixels, transform.canvas, transform, rounded)
    pixels = _resized(pixels, transform.resolution, transform, rounded)
    mean, std = (
        torch.tensor(values, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
        for values in (transform.mean, transform.std)
    )
    return (pixels - mean) / std


def _resized(pixels: Tensor, side: int, transform: Transform, rounded: bool) -> Tensor:
    """Return a square of a side: across first, then down."""
    height = pixels.shape[2]
    for size in ((height, side), (side, side)):
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size=size, mode=transform.interpolation, antialias=True)
            pixels = pixels.clamp(0, 1)
            if rounded:
                pixels = pixels + ((pixels.detach() * 255).round() / 255 - pixels.detach())
    return pixels
