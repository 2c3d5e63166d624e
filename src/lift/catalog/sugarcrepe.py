"""SugarCrepe: one right and one wrong caption of COCO photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import entry, files, has_folder

TITLE = "SugarCrepe (Hsieh et al. 2023)"
WHERE = (
    "Questions: github.com/RAIVNLab/sugar-crepe, folder data (MIT); photos: val2017 of "
    "cocodataset.org (each photo has a licence of its own)."
)
LAYOUT = (
    "sugarcrepe/KIND.json (or KIND.json), images/ or val2017/, captions_val2017.json if at hand"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the compositional evaluation where questions and photos lie; see the room."""
    here = folder / "sugarcrepe" if (folder / "sugarcrepe").is_dir() else folder
    asked = [one for file in files(here, "*.json") if (one := entry(file))]
    fits = any("negative_caption" in one and "caption2" not in one for one in asked)
    if not fits or not has_folder((here, here.parent), ("images", "val2017")):
        return []
    word = f"compositional:data=[sugarcrepe:path={quoted(folder)}],benchmark=sugarcrepe"
    return [Found("sugarcrepe", str(folder), (word,))]
