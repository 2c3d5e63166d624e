"""Transforms of the text space fitted on the rows of a cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from lift.cache.reader import EmbeddingCache
from lift.text.conditioning import Condition, ConditionConfig, fit

_BLOCK = 4096


def fit_on(
    cache: EmbeddingCache, config: ConditionConfig, rows: Int64[np.ndarray, " n"] | None = None
) -> Condition:
    """Return the transform fitted on stored rows, decoded, in one pass.

    Every distinct caption counts once, however many images share it.

    Args:
        cache: where the rows are.
        config: what to fit; not kind="none".
        rows: the numbers of those that count, each once; None takes all of the cache, captions
            that belong to the validation images among them where it holds these.

    Raises:
        ConfigError: too few rows for what is asked for.
        NotFinite: rows that have no direction.
    """
    blocks = (
        (cache.codec.decode(block) for block in cache.scan())
        if rows is None
        else _taken(cache, np.unique(rows))
    )
    return fit(config, blocks, cache.dimensions)


def _taken(cache: EmbeddingCache, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BLOCK):
        yield cache.take(rows[start : start + _BLOCK])
