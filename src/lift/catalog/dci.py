"""DCI: densely captioned images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _long

TITLE = "DCI (Urbanek et al. 2024)"
WHERE = "github.com/facebookresearch/DCI (CC BY-NC); the photos are SA-1B's, under its licence."
LAYOUT = "annotations/*.json, photos/*.jpg"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the evaluation of long captions where descriptions and photos lie; see the room."""
    return _long.look(folder, "dci")
