"""COCO Captions: five captions of everyday photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import entry, files, has_folder
from lift.catalog._plans import of_pairs

TITLE = "COCO Captions (Chen et al. 2015)"
WHERE = (
    "cocodataset.org: val2017.zip and annotations_trainval2017.zip; Karpathy's split "
    "(dataset_coco.json): cs.stanford.edu/people/karpathy/deepimagesent. Captions CC BY 4.0, each "
    "photo has a licence of its own."
)
LAYOUT = (
    "val2017/*.jpg and annotations/captions_val2017.json, dataset_coco.json and val2014/*.jpg, or "
    "images/*.jpg and images.json"
)

_PHOTOS = ("images", "val2017", "val2014")


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return retrieval and the mixed index of photos that are not trained on; see the room."""
    if not has_folder((folder,), _PHOTOS):
        return []
    data = [
        f"coco:path={quoted(file)}"
        for place in (folder, folder / "annotations")
        for file in files(place, "captions_val*.json")
    ]
    data += [f"coco:path={quoted(file)},split=test" for file in files(folder, "dataset_coco.json")]
    if not data:
        told = [
            f for f in files(folder, "images.json") if {"file_name", "captions"} <= set(entry(f))
        ]
        data = [f"coco:path={quoted(file)}" for file in told]
    words = [word for one in data for word in of_pairs(one, "coco", several=True)]
    return [Found("coco", str(folder), tuple(words))] if words else []
