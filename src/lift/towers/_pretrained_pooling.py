"""From the last tokens, or the last map, of somebody's network to one vector an image."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.errors import ConfigError

OfTokens = Literal["token", "mean", "token+mean"]


def pooled(x: Float[Tensor, "b t d"], prefix: int, how: OfTokens) -> Float[Tensor, "b width"]:
    """Return one vector an image.

    Args:
        x: tokens: the class token first, registers, then patches.
        prefix: tokens in front of the patches.
        how: the class "token", the "mean" of the patches, or "token+mean": one after the other, as
            dino.txt (2412.16334), SAIL (2412.04616) and freeze-align (2409.19425) found best for
            frozen towers; the width doubles.

    Raises:
        ConfigError: a class token is wanted and there is none.
    """
    if how != "mean" and not prefix:
        raise ConfigError(f"pooling={how}, but this network has no class token; use pooling=mean.")
    mean = x[:, prefix:].mean(1)
    if how == "mean":
        return mean
    return x[:, 0] if how == "token" else torch.cat([x[:, 0], mean], 1)


def pooled_parts(
    x: Float[Tensor, "b t d"], prefix: int, how: OfTokens, size: tuple[int, int], tiles: int
) -> Float[Tensor, "n width"]:
    """Return one vector for each of `tiles` x `tiles` equal parts of every image, row by row.

    A part's is the mean of its patches, for pooling=token too, as no token stands for a part;
    token+mean puts the image's class token before it.

    Args:
        x, prefix, how: as in `pooled`.
        size: height and width of the images in pixels.
        tiles: parts of a side.

    Raises:
        ConfigError: parts that are not made of whole patches.
    """
    patches = x[:, prefix:]
    rows = round((patches.shape[1] * size[0] / size[1]) ** 0.5)
    columns = patches.shape[1] // max(1, rows)
    if tiles < 1 or rows * columns != patches.shape[1] or rows % tiles or columns % tiles:
        raise ConfigError(
            f"An image of {rows} x {columns} patches does not divide into {tiles} x {tiles} parts "
            "of whole patches; choose another number of parts, or another resolution."
        )
    grid = patches.unflatten(1, (tiles, rows // tiles, tiles, columns // tiles))
    mean = grid.mean((2, 4)).flatten(0, 2)
    if how != "token+mean":
        return mean
    token = pooled(x, prefix, "token").repeat_interleave(tiles**2, 0)
    return torch.cat([token, mean], 1)


def as_tokens(x: Tensor) -> Float[Tensor, "b t d"]:
    """Return tokens [b t d], or a map [b d h w], as tokens."""
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x


class First(nn.Module):
    """Stands where a pooling was that nobody reads."""

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """Return the first token."""
        return x[:, 0]


def as_patches(images: Tensor, patch: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return patches [b p values] and what SigLIP 2's NaFlex networks want to know of them."""
    count, _, height, width = images.shape
    rows, columns = height // patch, width // patch
    x = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
    x = x.permute(0, 2, 4, 3, 5, 1).reshape(count, rows * columns, -1)
    mask = torch.ones(x.shape[:2], dtype=torch.int64, device=x.device)
    grid = torch.tensor([[rows, columns]] * count, device="cpu")
    return x, {"pixel_attention_mask": mask, "spatial_shapes": grid}
