"""Text vectors from caches, for the models whose space they are of."""

from __future__ import annotations

from collections.abc import Sequence

from lift.cache.probes import require_alike
from lift.cache.reader import EmbeddingCache
from lift.encoders import CachedTexts
from lift.errors import ConfigError, SpaceMismatch
from lift.terms import Encoder


def with_cache(encoder: Encoder, cache: EmbeddingCache, model: str) -> Encoder:
    """Return the encoder with texts of a cache, which has to be of its space.

    Args:
        encoder: of a model,
        cache: and what may be its texts.
        model: what to call the model.

    Raises:
        ConfigError, SpaceMismatch: it is not, by name or by its probes.
    """
    record, space = (getattr(encoder, name, None) for name in ("record", "space"))
    if record is not None and record.encoder is None:
        raise ConfigError(
            f"The model {model} has a text side of its own, and no cache holds its vectors: "
            "leave --cache out."
        )
    if space is None:
        raise SpaceMismatch(
            f"The model {model} tells no text space, so no cache can be its own: leave "
            f"--cache {cache.folder} out."
        )
    cache.space.require_same(space, ours=f"the cache {cache.folder}", theirs=f"model {model}")
    probes = getattr(encoder, "probes", None)
    if probes is not None:
        require_alike(probes, cache.probes(), cache.space, cache=str(cache.folder), model=model)
    return CachedTexts(encoder, cache)


def serves(cache: EmbeddingCache, encoder: Encoder) -> bool:
    """Return whether a cache is of a model's space by name, and the space is none of its own."""
    record, space = (getattr(encoder, name, None) for name in ("record", "space"))
    fixed = record is None or record.encoder is not None
    return fixed and space is not None and space.fingerprint == cache.space.fingerprint


def require_use(cache: EmbeddingCache, encoders: Sequence[Encoder], models: Sequence[str]) -> None:
    """Raise unless a cache serves some model.

    Raises:
        ConfigError, SpaceMismatch: why it does not serve the first one.
    """
    pairs = list(zip(encoders, models, strict=True))
    encoder, model = next((pair for pair in pairs if serves(cache, pair[0])), pairs[0])
    with_cache(encoder, cache, model)
