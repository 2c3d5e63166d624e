"""A file of class names and prompt templates: {"SET": {"classes": [...], "templates": [...]}}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lift.errors import DataError, unknown


def templates_of(path: Path, name: str) -> tuple[str, ...]:
    """Return the templates of a set.

    Raises:
        ConfigError: no such set.
        DataError: a file that can't be read or is of another form.
    """
    return _texts(_list_of(path, name, "templates"), path)


def classes_of(path: Path, name: str) -> list[tuple[str, ...]]:
    """Return the names of every class of a set; a class may have one name or a list of them.

    Raises:
        ConfigError: no such set.
        DataError: a file that can't be read or is of another form.
    """
    listed = _list_of(path, name, "classes")
    return [_texts([found] if isinstance(found, str) else found, path) for found in listed]


def _list_of(path: Path, name: str, what: str) -> list[Any]:
    sets = _sets(path)
    if name not in sets:
        raise unknown("set of zeroshot.template_file:", name, sets)
    found = sets[name][what]
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: the {what} of {name!r} must be a list that is not empty.")
    return found


def _sets(path: Path) -> dict[str, Any]:
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"Can't read the template file {path} ({error}).") from error
    ok = isinstance(sets, dict) and all(
        isinstance(s, dict) and {"classes", "templates"} <= s.keys() for s in sets.values()
    )
    if not ok:
        raise DataError(f'{path} is not {{"SET": {{"classes": [...], "templates": [...]}}}}.')
    return sets


def _texts(found: Any, path: Path) -> tuple[str, ...]:
    texts: Sequence[Any] = found if isinstance(found, list) else ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(
            f"{path}: {json.dumps(found)[:60]} stands where a text or a list of texts should."
        )
    return tuple(texts)
