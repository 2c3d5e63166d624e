"""What differs between two arms: what makes the method, and what is not matched."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from lift.cache.reader import EmbeddingCache
from lift.config import Part, to_dict
from lift.training.compared import Differs
from lift.training.config import RunConfig

METHOD = {
    *("text_tower", "text_head", "encoder", "cache", "objective"),
    *("condition", "bank", "start", "freeze"),
}
"""Options that make a method; any other that differs is not matched."""

NO_MATTER = {
    *("recipe", "seed", "data", "validation", "licences", "cache", "pairs", "evaluations"),
    *("evaluate_every", "checkpoint_every", "log_every", "profile"),
}
"""Options that are equal by other checks, or that no weight depends on."""


def is_of_method(one: Differs) -> bool:
    """Return whether an option is one that makes a method."""
    return one.option.split(".")[0] in METHOD or one.option == "optim.text_rate"


def differences(first: RunConfig, here: RunConfig) -> Iterator[Differs]:
    """Yield every option in which two arms differ and which can matter to their scores.

    Of two caches it is what their rows are that differs, `cache.space` and so on; how wide they
    are follows from that.
    """
    one, other = _cache(first), _cache(here)
    if one is not None and other is not None:
        yield from _of_caches(one, other)
        first, here = (dataclasses.replace(config, dimensions=0) for config in (first, here))
    else:
        ours, theirs = (
            config.dimensions if cache is None else cache.dimensions
            for config, cache in ((first, one), (here, other))
        )
        if ours and theirs:
            first = dataclasses.replace(first, dimensions=ours)
            here = dataclasses.replace(here, dimensions=theirs)
    yield from _differences(first.resolved(), here.resolved(), "", (first, here))


def _cache(config: RunConfig) -> EmbeddingCache | None:
    """Return the rows that a run trains against, where it says which."""
    if config.text_tower is None and config.cache:
        return EmbeddingCache.open(config.cache)
    return None


def _of_caches(first: EmbeddingCache, here: EmbeddingCache) -> Iterator[Differs]:
    """Yield in what the rows of two caches differ."""
    for name in ("space", "codec", "precision"):
        one, other = (_of_cache(cache, name) for cache in (first, here))
        if one != other:
            yield Differs(option=f"cache.{name}", first=one, here=other)


def _of_cache(cache: EmbeddingCache, name: str) -> Any:
    if name == "space":
        space = cache.space
        return f"{space.model} {space.fingerprint[:12]} ({space.dimensions} dimensions)"
    return _plain(cache.plan.codec if name == "codec" else cache.precision)


def _differences(first: Any, here: Any, where: str, short: tuple[Any, Any]) -> Iterator[Differs]:
    """Yield differences of two values; `short` are the same before defaults were spelled out."""
    if first == here:
        return
    if isinstance(first, Part) and isinstance(here, Part) and first.name == here.name:
        for name in sorted({*first.options, *here.options}):
            one, other = first.options.get(name), here.options.get(name)
            if one != other:
                yield Differs(option=f"{where}.{name}", first=one, here=other)
    elif dataclasses.is_dataclass(first) and not isinstance(first, Part):
        for field in dataclasses.fields(first):
            if where or field.name not in NO_MATTER:
                values = (getattr(first, field.name), getattr(here, field.name))
                inner = (getattr(short[0], field.name), getattr(short[1], field.name))
                path = f"{where}.{field.name}" if where else field.name
                yield from _differences(*values, path, inner)
    else:
        yield Differs(option=where, first=_plain(short[0]), here=_plain(short[1]))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, a part in the words of the command line."""
    if isinstance(value, Part):
        options = ",".join(f"{name}={option}" for name, option in value.options.items())
        return f"{value.name}:{options}" if options else value.name
    return to_dict(value)
