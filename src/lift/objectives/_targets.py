"""Who is right for whom in a batch: the ground truth that the objectives share."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from lift.errors import ConfigError


def check_ignore_above(value: float | None, where: str) -> None:
    """Raise ConfigError unless `value` is None or a cosine that can drop something."""
    if value is not None and not -1.0 <= value < 1.0:
        raise ConfigError(f"{where}.ignore_above is a cosine in [-1, 1), not {value}.")


def owners(images: int, captions: int, owner: Int64[Tensor, " c"] | None, like: Tensor) -> Tensor:
    """Return the image that each caption describes; without `owner`, caption i has image i.

    Raises:
        ConfigError: no `owner`, and the numbers of images and captions differ.
    """
    if owner is not None:
        return owner
    if images != captions:
        raise ConfigError(
            f"{captions} captions for {images} images need `owner`: which image each describes."
        )
    return torch.arange(images, device=like.device)


def targets(
    images: int,
    owner: Int64[Tensor, " c"],
    row: Int64[Tensor, " c"] | None,
    weight: Float32[Tensor, " c"] | None,
    share_equal: bool,
) -> Shaped[Tensor, "b c"]:
    """Return how right each caption is for each image.

    Without `weight` that is yes or no, as `match_matrix` says; with it, the weight of the pair of
    image and caption (the largest, where a text stands twice for an image), 0 for no pair.
    """
    if weight is None:
        return match_matrix(images, owner, row, share_equal)
    captions = torch.arange(len(owner), device=owner.device)
    if share_equal:
        if row is None:
            raise ConfigError(_NEEDS_ROW)
        _, captions = torch.unique(row, return_inverse=True)
    wide = images * (int(captions.max()) + 1)
    places = owner * (wide // images) + captions
    owns = torch.zeros(wide, device=owner.device).scatter_reduce(0, places, weight, "amax")
    return owns.view(images, -1)[:, captions]


_NEEDS_ROW = "share_equal needs `row`, the cache row of each caption; pass it or off."


def match_matrix(
    images: int,
    owner: Int64[Tensor, " c"],
    row: Int64[Tensor, " c"] | None,
    share_equal: bool,
) -> Bool[Tensor, "b c"]:
    """Return which captions are right for which images.

    A caption is right for the image it describes and, with `share_equal`, for every image that
    owns an equal caption: one with the same `row`.

    Raises:
        ConfigError: `share_equal` without `row`.
    """
    if not share_equal:
        return torch.arange(images, device=owner.device)[:, None] == owner[None, :]
    if row is None:
        raise ConfigError(_NEEDS_ROW)
    # Through the distinct texts: images x texts is smaller than captions x captions.
    texts, text_of = torch.unique(row, return_inverse=True)
    owns = torch.zeros(images, len(texts), dtype=torch.bool, device=owner.device)
    owns[owner, text_of] = True
    return owns[:, text_of]


@torch.no_grad()
def too_close(
    z_text: Float32[Tensor, "c d"],
    owner: Int64[Tensor, " c"],
    match: Bool[Tensor, "b c"],
    ignore_above: float,
) -> Bool[Tensor, "b c"]:
    """Return which pairs are neither right nor safely wrong, so that no loss should push them.

    Image i and caption j are such a pair if j is not right for i but its cosine to one of i's own
    captions is above `ignore_above`.
    """
    near = (z_text @ z_text.T > ignore_above).float()
    hits = torch.zeros(match.shape, device=z_text.device).index_add_(0, owner, near)
    return (hits > 0) & ~match
