"""Winoground: two images and two captions in the same words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import columns, files, line

TITLE = "Winoground (Thrush et al. 2022)"
WHERE = (
    "huggingface.co/datasets/facebook/winoground, after agreeing to its terms (research only; "
    "images are Getty's)."
)
LAYOUT = "examples.jsonl (or data/examples.jsonl) with images/*.png beside it, or *.parquet"

_NEEDED = {"image_0", "image_1", "caption_0", "caption_1"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the three scores where the pairs lie; see the room."""
    paths = [folder / "examples.jsonl", folder / "data" / "examples.jsonl"]
    found = [path for path in paths if _NEEDED <= set(line(path))][:1]
    found = found or [path for path in files(folder, "*.parquet") if _NEEDED <= set(columns(path))]
    words = [f"winoground:data=[winoground:path={quoted(p)}],benchmark=winoground" for p in found]
    return [Found("winoground", str(folder), tuple(words))] if words else []
