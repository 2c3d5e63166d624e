"""Mosaics: images shrunk into the tiles of one, and patches put in the order of tiles."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, arange

from lift.errors import ConfigError


def require_tiles(height: int, width: int, patch: int, tiles: int) -> None:
    """Refuse images whose tiles would not be made of whole patches.

    Args:
        height, width, patch: in pixels.
        tiles: tiles of an image's side.

    Raises:
        ConfigError: they do not divide.
    """
    if tiles < 1:
        raise ConfigError(f"A mosaic has at least 1 tile a side, not {tiles}.")
    if height % (patch * tiles) or width % (patch * tiles) or not height or not width:
        raise ConfigError(
            f"Images of {height} x {width} pixels do not divide into {tiles} x {tiles} tiles of "
            f"whole patches of {patch} pixels; take another number of tiles, or a resolution that "
            f"is a multiple of {patch * tiles}."
        )


def mosaics(images: Float[Tensor, "b 3 h w"], tiles: int) -> Float[Tensor, "m 3 h w"]:
    """Return images of the same size that each show `tiles` x `tiles` of these, row by row.

    Tiles are shrunk on the device (bicubic, antialiased) and follow one another in the order of
    `images`. Places that are left in the last mosaic show the first images once more, so that no
    tile has an emptier neighbourhood than another.

    Args:
        images: normalised pixels; both sides are multiples of `tiles`.
        tiles: tiles of a mosaic's side.
    """
    height, width = images.shape[2] // tiles, images.shape[3] // tiles
    small = F.interpolate(images, (height, width), mode="bicubic", antialias=True)
    missing = -len(small) % tiles**2
    if missing:
        places = arange(len(small) + missing, device=small.device) % len(small)
        small = small.index_select(0, places)
    grid = small.unflatten(0, (-1, tiles, tiles)).permute(0, 3, 1, 4, 2, 5)
    return grid.flatten(4).flatten(2, 3)


def by_tile(
    patches: Float[Tensor, "b p width"], rows: int, tiles: int
) -> Float[Tensor, "n q width"]:
    """Return the patches of each tile alone: `tiles` x `tiles` an image, row by row.

    Args:
        patches: of images, row by row.
        rows: rows of patches in an image.
        tiles: tiles of an image's side; they divide rows and columns.
    """
    grid = patches.unflatten(1, (tiles, rows // tiles, tiles, -1)).transpose(2, 3)
    return grid.flatten(3, 4).flatten(0, 2)
