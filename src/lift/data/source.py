"""From a few words to pairs: `train-*.tar`, `pairs.csv`, `scenes:count=500`, `table:path=x,...`."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lift import plugins
from lift.config import Part
from lift.data.guess import guess as layout_of
from lift.data.joined import Joined
from lift.data.remote import is_url
from lift.errors import ConfigError, DataError
from lift.terms import Source

ROOM = "data/formats"


def open_source(spec: Part | str, *, strict: bool = False) -> Source:
    """Return the pairs that `spec` names.

    Args:
        spec: a `Part` of `data/formats`, or words: a path, glob or brace range whose suffix or
            content tells the layout; the name of a format, alone or with `key=value,...`; or
            `format:path`. Several, with `::` between them, are joined; `@2` behind each gives its
            weight, its share of the samples relative to the others.
        strict: the first sample that can't be used ends the reading.

    Raises:
        ConfigError: an unknown format or option (with the nearest match), or a layout that the
            path does not tell.
        DataError: nothing there, nothing in it, or not readable.
    """
    if isinstance(spec, Part):
        return _opened(spec, strict)
    weighted = [_weighed(words) for words in each(spec)]
    sources = [_opened(guess(words), strict) for words, _ in weighted]
    weights = [weight for _, weight in weighted if weight is not None]
    if len(sources) == 1:
        return sources[0]
    if weights and len(weights) < len(sources):
        raise ConfigError(f"{spec!r} gives some sources a weight (@2) and others none.")
    return Joined(sources, weights or None)


def each(spec: str) -> list[str]:
    """Return the words of each source: what stands between `::` outside brackets."""
    parts, depth = [""], 0
    for piece in re.split(r"(::|\[|\])", spec):
        depth += (piece == "[") - (piece == "]")
        if piece == "::" and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return spec.split("::") if depth else parts


def _weighed(words: str) -> tuple[str, float | None]:
    match = None if os.path.exists(words) else _WEIGHT.fullmatch(words)
    return (match[1], float(match[2])) if match else (words, None)


_WEIGHT = re.compile(r"(.+)@(\d+(?:\.\d+)?|\.\d+)")


def _opened(part: Part, strict: bool) -> Source:
    known = {field.name for field in dataclasses.fields(plugins.load(ROOM, part.name).Config)}
    if strict and "strict" in known:
        part = dataclasses.replace(part, options={**part.options, "strict": True})
    source: Source = plugins.build(part)
    if len(source) == 0:
        raise DataError(f"{source.name} holds no samples; check the path and its options.")
    return source


def guess(words: str) -> Part:
    """Return the part that `words` name; see `open_source`."""
    name, colon, _ = words.partition(":")
    formats = plugins.names(ROOM)
    if name in formats and (colon or not os.path.exists(words)):  # a folder may be called coco
        return parse_part(ROOM, words)
    if colon and name.isidentifier() and not is_url(words) and not os.path.exists(words):
        return parse_part(ROOM, words)  # raises for the unknown name, with the nearest match
    return layout_of(words).part


def parse_part(room: str, words: str) -> Part:
    """Return the part that `name`, `name:key=value,key=value` or `name:path` name.

    A value is read as JSON where it is JSON, `a+b` as a list where the option takes one (but in
    a path), else as text; commas inside brackets and quotes separate nothing. An option that is
    itself a part (`part_field`) is given in the same words, in brackets where they hold a comma.

    Raises:
        ConfigError: an unknown name or option, with the nearest match.
    """
    name, _, rest = words.partition(":")
    options: dict[str, Any] = {}
    fields = {f.name: f for f in dataclasses.fields(plugins.load(room, name).Config)}
    known = {key: str(field.type) for key, field in fields.items()}
    pieces = list(_pieces(rest))
    for number, piece in enumerate(pieces):
        key, equals, value = piece.partition("=")
        if equals and key.isidentifier():
            lists = key != "path" and "tuple" in known.get(key, "")
            options[key] = _value(value, lists)
            inner = fields[key].metadata.get("room") if key in fields else None
            if inner and isinstance(options[key], str):
                none = value == "none" and "None" in known[key]
                options[key] = None if none else parse_part(inner, options[key])
        elif number == 0 and "path" in known:
            options["path"] = piece
        else:
            raise ConfigError(f"{piece!r} in {words!r} is not an option; write it as key=value.")
    part = Part(room, name, options)
    plugins.configure(part)
    return part


def _pieces(text: str) -> Iterator[str]:
    """Yield what stands between commas outside brackets, braces and quotes."""
    start, depth, quoted = 0, 0, False
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter in "[{":
            depth += 1
        elif not quoted and letter in "]}":
            depth -= 1
        elif letter == "," and not quoted and depth == 0:
            yield text[start:place]
            start = place + 1
    if text[start:]:
        yield text[start:]


def _bare(text: str) -> str:
    """Return what stands in brackets that only keep its commas together: `[api:model=x,url=y]`."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if depth == 0:
            return text[1:-1] if 0 < place == len(text) - 1 else text
    return text


def _value(text: str, lists: bool) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if lists:
            return text.split("+") if "+" in text else text
        return _bare(text)


def left_out(source: Source) -> dict[str, int]:
    """Return how many items of a source are no samples, by reason; empty where none.

    Formats that can leave something out (a tar member without a caption) count it in `counters`.
    """
    return {why: n for why, n in getattr(source, "counters", {}).items() if n}


class Captions:
    """Every caption text of some sources, in order; sized, so that progress knows its end."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._count: int | None = None

    def __iter__(self) -> Iterator[str]:
        for source in self._sources:
            for _, captions in source.texts():
                for caption in captions:
                    yield caption.text

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(len(c) for source in self._sources for _, c in source.texts())
        return self._count
