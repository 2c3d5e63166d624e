"""Compare stored rows with the encoder that is said to have made them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from lift.errors import SpaceMismatch
from lift.text.encoder import TextEncoder

_COMPARED = 8
_LEAST_COSINE = 0.99
"""Between what storing does and what another space does, for MiniLM on the stored probes: bfloat16
and int8 leave 0.9989 at worst; another prompt leaves 0.94 in the median and 0.37 at worst, a full
stop more or less 0.97 to 0.88 at worst. Every one of the compared texts has to pass."""

_LENGTH_TOLERANCE = 0.02


def lengths_of(rows: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Return the length of each row."""
    return np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))


def require_same_rows(ours: TextEncoder, live: TextEncoder) -> None:
    """Raise SpaceMismatch unless `live` makes the rows of a few probes of `ours` again."""
    texts = ours.probes[:_COMPARED]
    stored, again = ours.encode(texts).rows, live.encode(texts).rows
    lengths = lengths_of(stored), lengths_of(again)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (stored.astype(np.float64) * again).sum(axis=1) / (lengths[0] * lengths[1])
        ratio = lengths[0] / lengths[1]
    far = ~(cosine >= _LEAST_COSINE)
    if far.any():
        first = int(np.argmax(far))
        raise SpaceMismatch(
            f"The vectors are not those of {live.part.name}: {int(far.sum())} of {len(texts)} "
            f"stored rows have a cosine below {_LEAST_COSINE} to what it makes of their texts "
            f"(smallest {cosine.min():.4f}; {cosine[first]:.4f} for {texts[first]!r:.80}); the "
            "model, prompt, pooling or order of the texts is another one."
        )
    if (np.abs(ratio - 1) > _LENGTH_TOLERANCE).any():
        raise SpaceMismatch(
            f"The vectors have the directions but not the lengths of the rows of "
            f"{live.part.name} ({ratio.min():.4f} to {ratio.max():.4f} times them); they were "
            "scaled after they were made, so declare the space with model=... and its options."
        )
