"""Whether rows computed in bfloat16 stand for those computed in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from lift.text.encoder import TextEncoder

NEAR = 0.9999
"""Least cosine between a row in bfloat16 and the same row in float32."""


def bfloat16_is_safe(encoder: TextEncoder, texts: Sequence[str] = ()) -> tuple[bool, float]:
    """Return whether bfloat16 keeps every row within `NEAR` of float32, and the worst cosine.

    Args:
        encoder: encodes its own probes and the texts once in each precision.
        texts: a sample of what will be embedded; long ones round most.
    """
    both = [*encoder.probes, *texts]
    exact = encoder.encode(both).rows
    rough = encoder.encode(both, precision="bfloat16").rows
    worst = min_cosine(exact, rough)
    return worst >= NEAR, worst


def min_cosine(a: Float32[np.ndarray, "n d"], b: Float32[np.ndarray, "n d"]) -> float:
    """Return the least cosine between rows of the same number, 1 where there are none.

    A row that is zero or not finite on one side alone counts as 0.
    """
    wide, other = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(other, axis=1)
    same = (wide == other).all(axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    products = (wide * other).sum(axis=1)
    cosines = np.divide(products, lengths, out=np.zeros(len(a)), where=usable)
    return float(np.where(same, 1.0, cosines).min(initial=1.0))
