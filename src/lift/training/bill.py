"""From a user's words to the bill of a recipe: which captions, which encoder, which device."""

from __future__ import annotations

from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.data.source import Captions, open_source
from lift.errors import ConfigError
from lift.text.encoder import space_of
from lift.text.keys import count_distinct
from lift.training.config import RunConfig
from lift.training.cost import Cost, cost
from lift.training.devices import get_device
from lift.training.encoder_cost import (
    CaptionLengths,
    encoder_size,
    lengths_in_cache,
    lengths_of_texts,
)

USUAL_TOKENS = 16.0
"""Mean tokens of a web caption where nobody says: about ten words."""


def bill(
    config: RunConfig,
    *,
    encoder: Part | None,
    captions: int,
    tokens: float | None,
    longest: int | None,
    device: str,
    tflops: float | None,
    utilisation: float | None,
    models: int,
    price: float | None,
) -> Cost:
    """Return what a recipe costs; see `lift.commands.training.budget`, whose arguments these are.

    Raises:
        LiftError: data or cache that can't be read, or a number that makes no sense.
    """
    cache = EmbeddingCache.open(config.cache) if config.cache else None
    part = encoder or (cache.part if cache else config.encoder)
    if cache is not None:
        dimensions = cache.dimensions
    elif config.dimensions or part is None:
        dimensions = config.dimensions
    else:
        dimensions = space_of(part).dimensions
    lengths = _lengths(config, cache, part, captions, tokens, longest)
    return cost(
        config,
        dimensions=dimensions,
        captions=lengths,
        encoder=encoder_size(part),
        device=get_device(device, tflops=tflops, utilisation=utilisation),
        models=models,
        price_per_million_tokens=price,
    )


def _lengths(
    config: RunConfig,
    cache: EmbeddingCache | None,
    part: Part | None,
    captions: int,
    tokens: float | None,
    longest: int | None,
) -> CaptionLengths:
    """Return the captions' number and lengths: given, else of the cache, else of the data."""
    if tokens is None and cache is not None and cache.counters.get("tokens"):
        return lengths_in_cache(cache)
    if tokens is None and config.data:
        texts = Captions([open_source(config.data)])
        return lengths_of_texts(texts, part, count=captions or count_distinct(texts))
    count = captions or config.pairs
    if not count:
        raise ConfigError(
            f"How many captions? Recipe {config.recipe} does not say: give --data, --cache, or "
            "--captions with a number."
        )
    mean = USUAL_TOKENS if tokens is None else tokens
    source = "given" if tokens is not None else f"{mean:g} tokens assumed; give --tokens or --data"
    return CaptionLengths(
        count=count, mean=mean, longest=longest or max(77, int(mean)), source=source
    )
