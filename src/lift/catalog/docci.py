"""DOCCI: photos with long descriptions by people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _long

TITLE = "DOCCI (Onoe et al. 2024)"
WHERE = "google.github.io/docci (CC BY 4.0)."
LAYOUT = "docci_descriptions.jsonlines, images/*.jpg"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the evaluation of long captions where descriptions and photos lie; see the room."""
    return _long.look(folder, "docci", ",split=test")
