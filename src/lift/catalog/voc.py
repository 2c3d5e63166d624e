"""Pascal VOC: zero-shot segmentation of 20 classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted

TITLE = "Pascal VOC 2012 segmentation (Everingham et al. 2010)"
WHERE = (
    "host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOCtrainval_11-May-2012.tar); the photos are "
    "Flickr's, under its terms."
)
LAYOUT = "JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/val.txt"


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return segmentation of the validation photos, without the background, as VOC20 is judged.

    The layout is that of the development kit's own documentation. A mask says where things are,
    not boxes of each, so that nothing is pointed at.
    """
    places = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012")
    for place in places:
        if not (place / "SegmentationClass").is_dir() or not (place / "JPEGImages").is_dir():
            continue
        split = "val" if (place / "ImageSets" / "Segmentation" / "val.txt").is_file() else ""
        data = f"[voc:path={quoted(place)},split={split}]"
        return [Found("voc", str(folder), (f"segmentation:data={data}",))]
    return []
