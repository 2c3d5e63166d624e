"""ShareGPT4V: photos described by a model; the first 1000 of its list are for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _long

TITLE = "ShareGPT4V (Chen et al. 2023)"
WHERE = (
    "huggingface.co/datasets/Lin-Chen/ShareGPT4V (CC BY-NC 4.0); the photos are COCO's, "
    "SA-1B's and others'."
)
LAYOUT = "share-captioner_coco_lcs_sam_1246k_1107.json, and the photos that it names"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the evaluation of long captions where descriptions and photos lie; see the room."""
    return _long.look(folder, "sharegpt4v", ",first=1000")
