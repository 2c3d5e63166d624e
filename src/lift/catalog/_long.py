"""Photos described at length, which are all asked the same."""

from __future__ import annotations

from pathlib import Path

from lift.catalog import Found, quoted
from lift.data._known_sets import known_set


def look(folder: Path, name: str, more: str = "") -> list[Found]:
    """Return the evaluation of long captions where a folder is laid out as a data set is.

    Args:
        folder: looked at.
        name: of the data set, and of its layout in `long_texts`.
        more: further options of the data.
    """
    found = known_set(str(folder), ())
    if found is None or found.part.options.get("layout") != name:
        return []
    data = f"long_texts:path={quoted(folder)},layout={name}{more}"
    words = (
        f"long_captions:data=[{data}],role=long,benchmark={name}",
        f"retrieval:data=[{data}],role=long,benchmark={name}",
    )
    return [Found(name, str(folder), words)]
