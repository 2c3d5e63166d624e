"""Where rows would depend on the batch: networks that encode positions by the longest text."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int32

from lift.text.encoder import batches

_BY_LENGTH = ("longrope", "su")
"""Rotary positions with one set of frequencies up to a length and another beyond it (Ding et al.
2024, LongRoPE; Phi-3 has it). transformers chooses the set by the longest text of a batch."""


def borders(config: Any) -> tuple[int, ...]:
    """Return the token counts beyond which a network encodes positions in another way.

    Args:
        config: of a network of transformers.
    """
    inner = config.get_text_config() if hasattr(config, "get_text_config") else config
    found: set[int] = set()
    for name in ("rope_parameters", "rope_scaling"):
        values = getattr(inner, name, None)
        if not isinstance(values, dict):
            continue
        # One for all layers, or one for each kind of layer.
        for one in (values, *values.values()):
            if isinstance(one, dict) and one.get("rope_type", one.get("type")) in _BY_LENGTH:
                stated = one.get("original_max_position_embeddings")
                stated = stated or getattr(inner, "original_max_position_embeddings", None)
                found |= {stated} if isinstance(stated, int) else set()
    return tuple(sorted(found))


def batches_within(
    tokens: Int32[np.ndarray, " n"], token_budget: int, at: tuple[int, ...]
) -> list[np.ndarray]:
    """Return `batches`, none of which holds texts on both sides of a border."""
    if not at:
        return batches(tokens, token_budget)
    side = np.searchsorted(np.array(at), tokens)  # a text as long as the border is below it
    found: list[np.ndarray] = []
    for one in np.unique(side)[::-1]:
        (some,) = np.nonzero(side == one)
        found += [some[batch] for batch in batches(tokens[some], token_budget)]
    return found
