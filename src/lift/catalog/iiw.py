"""ImageInWords: photos with long descriptions by people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _long

TITLE = "ImageInWords (Garg et al. 2024)"
WHERE = (
    "github.com/google/imageinwords (CC BY 4.0); the photos of IIW-400 and DOCCI are had "
    "at google.github.io/docci."
)
LAYOUT = "data.jsonl with IIW and image/key, images/KEY.jpg"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the evaluation of long captions where descriptions and photos lie; see the room."""
    return _long.look(folder, "iiw")
