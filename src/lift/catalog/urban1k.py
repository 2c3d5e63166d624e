"""Urban1k: photos of city scenes with long descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _long

TITLE = "Urban1k (Zhang et al. 2024)"
WHERE = "huggingface.co/datasets/BeichenZhang/Urban1k; the photos are Visual Genome's."
LAYOUT = "image/NAME.jpg, caption/NAME.txt"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the evaluation of long captions where descriptions and photos lie; see the room."""
    return _long.look(folder, "urban1k")
