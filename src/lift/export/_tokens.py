"""Patch tokens of a tower beside those of another library's copy of it, layer by layer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lift.export._protocol import Difference, difference
from lift.towers.vit import ViT

SAME = 1e-5
"""Largest difference of a number of a vector, and of a token whose layer has none above 1."""


def same_tokens(
    what: str,
    tower: ViT,
    pixels: Float[Tensor, "n 3 r r"],
    layer: int,
    patches: Float[Tensor, "n p width"],
    *,
    normed: bool = False,
) -> Difference:
    """Compare the patch tokens after a block.

    Streams grow over the blocks (to 70 in the towers at hand), and float32 rounds in proportion:
    the tolerance is `SAME` times the largest number of the layer where that is above 1.

    Args:
        what: for people.
        tower, layer, normed: as in `ViT.tokens`.
        pixels: normalised.
        patches: of the other library, without a class token.
    """
    ours = tower.tokens(pixels.to(tower.position.device), layer, normed=normed).cpu().numpy()
    scale = max(1.0, float(np.abs(ours).max(initial=0)))
    return difference(what, ours, patches.numpy(), SAME * scale)
