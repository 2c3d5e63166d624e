"""A layout as the words that `--data` takes: the way back from `lift.data.source.parse_part`."""

from __future__ import annotations

import json
from typing import Any

from lift.config import Part, to_dict


def words_of(part: Part) -> str:
    """Return words that `parse_part` reads as this part of `data/formats`."""
    options = [f"{name}={_word(name, value)}" for name, value in part.options.items()]
    return f"{part.name}:{','.join(options)}" if options else part.name


def _word(name: str, value: Any) -> str:
    if isinstance(value, Part):
        return json.dumps(words_of(value), ensure_ascii=False)
    if isinstance(value, tuple | list) and name != "path" and len(value) > 1:
        plain = all(isinstance(v, str) and v and not set(v) & set('+,"[]{}') for v in value)
        if plain:
            return "+".join(value)  # easier to type than JSON
    if not isinstance(value, str):
        return json.dumps(to_dict(value), ensure_ascii=False)
    try:
        json.loads(value)
    except ValueError:
        if value and not set(value) & set(',"+'):
            return value
    return json.dumps(value, ensure_ascii=False)  # else it would be read as something else
