"""SugarCrepe++: two right captions that say the same and one wrong one, of COCO photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import entry, files, has_folder

TITLE = "SugarCrepe++ (Dumpala et al. 2024)"
WHERE = (
    "Questions: github.com/Sri-Harsha/scpp, folder data (MIT); photos: val2017 of "
    "cocodataset.org (each photo has a licence of its own)."
)
LAYOUT = "sugarcrepe_pp/KIND.json (or data/KIND.json, or KIND.json), images/ or val2017/"

_FOLDERS = ("sugarcrepe_pp", "data")


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the compositional evaluation where questions and photos lie; see the room."""
    here = next((folder / name for name in _FOLDERS if (folder / name).is_dir()), folder)
    fits = any("caption2" in entry(file) for file in files(here, "*.json"))
    if not fits or not has_folder((here, here.parent), ("images", "val2017")):
        return []
    word = f"compositional:data=[sugarcrepe_pp:path={quoted(folder)}],benchmark=sugarcrepe"
    return [Found("sugarcrepe_pp", str(folder), (word,))]
