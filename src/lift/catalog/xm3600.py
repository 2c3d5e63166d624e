"""Crossmodal-3600: photos with captions in 36 languages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.data._known_sets import known_set

TITLE = "Crossmodal-3600 (Thapliyal et al. 2022)"
WHERE = "google.github.io/crossmodal-3600 (captions CC BY 4.0; the photos are of Open Images)."
LAYOUT = "captions.jsonl, images/KEY.jpg"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return retrieval in each language where captions and photos lie; see the room."""
    if not (folder / "captions.jsonl").is_file():
        return []
    found = known_set(str(folder), ("captions.jsonl",))
    if found is None or found.part.name != "xm3600":
        return []
    data = f"xm3600:path={quoted(folder)}"
    return [Found("xm3600", str(folder), (f"multilingual:data=[{data}],benchmark=xm3600",))]
