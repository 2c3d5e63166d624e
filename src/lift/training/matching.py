"""What differs between two arms: what makes the method, and what is not matched."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from lift.cache.reader import EmbeddingCache
from lift.config import Part, to_dict
from lift.training.compared import Differs
from lift.training.config import RunConfig

METHOD = ("text_tower", "text_head", "encoder", "objective", "condition", "bank", "start", "freeze")
"""Options that make a method; any other that differs is not matched."""

NO_MATTER = {
    *("recipe", "seed", "data", "validation", "licences", "cache", "pairs", "evaluations"),
    *("evaluate_every", "checkpoint_every", "log_every", "profile"),
}
"""Options that are equal by other checks, or that no weight depends on."""


def is_of_method(one: Differs) -> bool:
    """Return whether an option is one that makes a method."""
    return one.option.split(".")[0] in METHOD


def differences(first: RunConfig, here: RunConfig) -> Iterator[Differs]:
    """Yield every option in which two arms differ and which can matter to their scores."""
    widths = [_width(config) for config in (first, here)]
    if None not in widths:
        first, here = (
            dataclasses.replace(config, dimensions=width)
            for config, width in zip((first, here), widths, strict=True)
        )
    yield from _differences(first.resolved(), here.resolved(), "", (first, here))


def _width(config: RunConfig) -> int | None:
    """Return the width of the space in which the sides of a run meet."""
    if config.text_tower is None and config.cache:
        return EmbeddingCache.open(config.cache).dimensions
    return config.dimensions or None


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
