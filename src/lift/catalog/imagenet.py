"""ImageNet: a folder of photos for each of 1000 classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found
from lift.catalog._imagenet import SHIFT, asked, folders_of

TITLE = "ImageNet ILSVRC 2012 (Russakovsky et al. 2015)"
WHERE = (
    "image-net.org/challenges/LSVRC/2012, after registration, for research and education only; "
    "LOC_synset_mapping.txt: kaggle.com/c/imagenet-object-localization-challenge."
)
LAYOUT = "val/n01440764/*.JPEG (1000 such folders), LOC_synset_mapping.txt beside or above"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return zero-shot classification of the validation photos; see the room.

    Folders that are named like one of its shifts, or that hold names in other languages, are left
    to those files.
    """
    if SHIFT.search(folder.name) or (folder / "babel_imagenet.json").is_file():
        return []
    for place in (folder / "val", folder / "validation", folder):
        if folders_of(place):
            return [Found("imagenet", str(folder), tuple(asked(place)))]
    return []
