"""From a user's words to the bill of a recipe: which captions, which encoder, which device."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.data.source import Captions, guess, open_source
from lift.errors import ConfigError
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
from lift.training.encoder_space import EncoderSpace, read_space

USUAL_TOKENS = 16.0
"""Mean tokens of a web caption where nobody says: about ten words."""

USUAL_LONGEST = 77


@dataclass(frozen=True, kw_only=True)
class Given:
    """Figures that the user gave; None is not given. Each stands in for that one figure."""

    captions: int | None = None
    tokens: float | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"--{name} must be above 0, not {value}.")
        if self.tokens and self.longest and self.tokens > self.longest:
            raise ConfigError(
                f"The mean length --tokens {self.tokens:g} is above --longest {self.longest}; "
                "give a longest caption that is as long."
            )


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much there is to embed and to train on.

    Attributes:
        captions: distinct ones.
        epoch: what one epoch goes through once.
        unit: what that is: "images", or "pairs" where only captions were counted.
    """

    captions: int
    epoch: int
    unit: str


def bill(
    config: RunConfig,
    *,
    encoder: Part | None,
    given: Given,
    device: str,
    tflops: float | None,
    utilisation: float | None,
    models: int,
    price: float | None,
) -> Cost:
    """Return what a recipe costs; see `lift.commands.training.budget`, whose arguments these are.

    Raises:
        LiftError: data or cache that can't be read, a number that makes no sense, or rows whose
            length nobody knows.
    """
    cache = EmbeddingCache.open(config.cache) if config.cache else None
    part = encoder or (cache.part if cache else config.encoder)
    if encoder is None and cache is not None:
        space = EncoderSpace(
            dimensions=cache.dimensions, max_tokens=cache.space.max_tokens or None, source="cache"
        )
    else:
        space = read_space(part, trusted=encoder is not None)
    dimensions, said = _width(config, encoder, space)
    amount = _amount(config, cache, given)
    return cost(
        config,
        dimensions=dimensions,
        dimensions_from=said,
        captions=_lengths(config, cache, part, space, amount, given),
        encoder=encoder_size(part),
        device=get_device(device, tflops=tflops, utilisation=utilisation),
        pairs=amount.epoch,
        unit=amount.unit,
        models=models,
        price_per_million_tokens=price,
    )


def _width(config: RunConfig, encoder: Part | None, space: EncoderSpace) -> tuple[int, str]:
    """Return the length of a row and where it comes from.

    It is the encoder's that the user names, else the cache's, else the recipe's.
    """
    if encoder is None and space.source != "cache" and config.dimensions:
        return config.dimensions, "the recipe's"
    if space.dimensions:
        return space.dimensions, space.source if encoder is None else "the encoder's"
    if encoder is not None and encoder.name == "api":
        model = encoder.options.get("model")
        raise ConfigError(
            f"How long the rows of {model!r} are is not known, and no server is asked for a "
            f"budget; say it: --encoder api:model={model},dimensions=N (max_tokens=N, if it cuts)."
        )
    if config.dimensions:
        return config.dimensions, f"the recipe's; of the encoder {space.source}"
    raise ConfigError(
        f"How long the rows of the text encoder are is not known ({space.source}); say it: --set "
        "dimensions=N."
    )


def _amount(config: RunConfig, cache: EmbeddingCache | None, given: Given) -> Amount:
    """Return the number of captions and of what they belong to: of data, cache, words or recipe.

    Where the user gives the number of captions, data and cache still say how many an image has.
    """
    captions, epoch, unit = config.pairs, config.pairs, "pairs"
    if cache is not None:
        captions, epoch, unit = len(cache), _images(cache), "images"
        if not epoch:
            epoch, unit = captions, "pairs"
    if config.data:
        source = open_source(config.data)
        epoch, unit = len(source), "pairs" if guess(config.data).name == "texts" else "images"
        if cache is None:
            captions = count_distinct(Captions([source]))
    if given.captions is not None:
        share = epoch / captions if captions else 1.0
        captions, epoch = given.captions, max(1, round(given.captions * share))
    if not captions:
        raise ConfigError(
            f"How many captions? Recipe {config.recipe} does not say: give --data, --cache, or "
            "--captions with a number."
        )
    return Amount(captions=captions, epoch=epoch, unit=unit)


def _images(cache: EmbeddingCache) -> int:
    """Return how many images the rows of a cache are tied to."""
    names = (name for table in cache.links() for name in table["image"].to_pylist() if name)
    return count_distinct(names)


def _lengths(
    config: RunConfig,
    cache: EmbeddingCache | None,
    part: Part | None,
    space: EncoderSpace,
    amount: Amount,
    given: Given,
) -> CaptionLengths:
    """Return the captions' lengths: each given, else of the cache, else of the data."""
    mean, longest = given.tokens, given.longest
    if mean is None or longest is None:
        found = _measured(config, cache, part, space, amount)
        if mean is not None and found is not None and mean > found.longest:
            raise ConfigError(
                f"The mean length --tokens {mean:g} is above the longest caption that was counted "
                f"({found.longest:,} tokens); give --longest as well."
            )
        if longest is not None and found is not None and longest < found.mean:
            raise ConfigError(
                f"--longest {longest:,} is below the mean length that was counted "
                f"({found.mean:.1f} tokens); give --tokens as well."
            )
        if found is None:
            assumed = USUAL_TOKENS if longest is None else min(USUAL_TOKENS, longest)
            words = f"{assumed:g} tokens assumed; give --tokens or --data"
            usual = max(USUAL_LONGEST, math.ceil(mean or assumed))
            found = CaptionLengths(
                count=1, mean=assumed, longest=usual, source="" if mean is not None else words
            )
    else:
        found = CaptionLengths(count=1, mean=mean, longest=longest, source="")
    names = ("number", given.captions), ("mean", given.tokens), ("longest", given.longest)
    told = " and ".join(name for name, value in names if value is not None)
    return CaptionLengths(
        count=amount.captions,
        mean=found.mean if mean is None else mean,
        longest=found.longest if longest is None else longest,
        source="; ".join(
            [*([found.source] if found.source else []), *([f"{told} given"] * bool(told))]
        ),
    )


def _measured(
    config: RunConfig,
    cache: EmbeddingCache | None,
    part: Part | None,
    space: EncoderSpace,
    amount: Amount,
) -> CaptionLengths | None:
    """Return the lengths that cache or data have, None where neither tells."""
    if cache is not None and cache.counters.get("tokens"):
        found = lengths_in_cache(cache, cap=space.max_tokens)
        if part is None or part.name == cache.part.name:
            return found
        return dataclasses.replace(found, source="the cache, in the tokens of its own encoder")
    if config.data:
        texts = Captions([open_source(config.data)])
        return lengths_of_texts(texts, part, count=amount.captions, space=space)
    return None
