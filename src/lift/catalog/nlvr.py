"""NLVR: sentences that are true or false of synthetic images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import columns, files, line

TITLE = "NLVR (Suhr et al. 2017)"
WHERE = "github.com/lil-lab/nlvr, folder nlvr (CC BY 4.0)."
LAYOUT = "dev.json with images/*/*.png beside it, or *.parquet with image, sentence and label"

_CORPUS = {"sentence", "identifier", "directory", "label"}
_TABLE = {"image", "sentence", "label"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the evaluation of truth where sentences and images lie; see the room."""
    words = []
    for path in files(folder, "*.json"):
        if _CORPUS <= set(line(path)) and (folder / "images").is_dir():
            words.append(f"truth:data=[nlvr:path={quoted(path)}],benchmark=nlvr")
    for path in files(folder, "*.parquet"):
        if _TABLE <= set(found := columns(path)):
            key = ",key=key" if "key" in found else ""
            words.append(f"truth:data=[nlvr:path={quoted(path)}{key}],benchmark=nlvr")
    return [Found("nlvr", str(folder), tuple(words))] if words else []
