"""Images and captions searched both ways, from vectors that are there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from lift.evals import _metrics as metrics
from lift.evals._pairs import Pairs
from lift.evals._search import directions, search

TO_IMAGE, TO_TEXT = "text_to_image", "image_to_text"


def both_ways(
    pairs: Pairs,
    z_text: Float32[np.ndarray, "c d"],
    z_image: Float32[np.ndarray, "n d"],
    *,
    own_only: bool = False,
) -> dict[str, metrics.Places]:
    """Return where the first right item of each query stands: of all captions, and of all images.

    An image without a caption is searched and not asked about.

    Args:
        pairs: whose captions are whose.
        z_text, z_image: a row for each caption and each image.
        own_only: whether another image's equal caption is wrong.
    """
    found: dict[str, metrics.Places] = {}
    for way in directions(pairs, z_text, z_image, None, shared=False):
        right = way.strict if own_only else way.right
        found[way.name] = search(way.z_query, way.z_key, way.queries, [right])[0]
    return found


def asked(pairs: Pairs) -> Int64[np.ndarray, " a"]:
    """Return the images that have a caption: the queries from image to text, in order."""
    return np.unique(pairs.owner)
