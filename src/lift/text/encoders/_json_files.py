"""Read the JSON files of a model: an object, or one sentence that says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lift.errors import ConfigError

_NO_LIMIT = 10**9
"""Tokenizers without a limit say 10^30 or Infinity."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, {} where there is no file.

    Raises:
        ConfigError: not JSON, not UTF-8, nested beyond reason, not readable, or not an object.
    """
    found = read_any_json(path, {})
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path} holds a JSON {type(found).__name__} and not an object; get the model again."
        )
    return found


def read_any_json(path: Path, absent: Any) -> Any:
    """Return the JSON in a file, `absent` where there is no file.

    Raises:
        ConfigError: not JSON, not UTF-8, nested beyond reason, or not readable.
    """
    if not path.is_file():
        return absent
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"{path} is not JSON ({error}); get the model again.") from error


def whole_number(value: Any) -> int | None:
    """Return a value that is a whole number, None for anything else (true and false included)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def token_limit(value: Any) -> int | None:
    """Return a token limit that a file states, None where it states none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 1 <= value < _NO_LIMIT else None
