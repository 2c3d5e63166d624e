"""Emoji: drawings in several styles, with a name, keywords and a group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import files
from lift.catalog._plans import of_classes
from lift.data._looks import look_into_tar
from lift.errors import DataError

TITLE = "Emoji as tar shards, one a style"
WHERE = (
    "Pictures: github.com/googlefonts/noto-emoji (Apache-2.0, OFL-1.1), "
    "github.com/jdecked/twemoji (CC BY 4.0); names, keywords and groups: Emojibase (MIT)."
)
LAYOUT = "STYLE-*.tar with NAME.png, NAME.txt and NAME.json (label, tags, group, style)"

_FIELDS = {"label", "tags", "group", "style"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return retrieval, the mixed index and classes by group, also from one style to another."""
    styles = [file for file in files(folder, "*.tar") if _is_emoji(file)]
    words: list[str] = []
    for file in styles:
        data = f"webdataset:path={quoted(file)}"
        told = f"{data},caption_field=.txt:raw+tags:tag"
        words += [f"retrieval:data=[{data}]", f"mixed:data=[{told}]"]
        others = [f"webdataset:path={quoted(other)}" for other in styles if other != file]
        words += of_classes(data, "group", others[0] if others else "")
    return [Found("emoji", str(folder), tuple(words))] if words else []


def _is_emoji(file: Path) -> bool:
    try:
        return _FIELDS <= set(look_into_tar(file).record)
    except DataError:
        return False
