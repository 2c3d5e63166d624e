"""ImageNet-V2, -A, -R and -Sketch: the classes of ImageNet in other pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found
from lift.catalog._imagenet import SHIFT, asked, folders_of

TITLE = (
    "ImageNet-V2 (Recht et al. 2019), -A, -R (Hendrycks et al. 2021), -Sketch (Wang et al. 2019)"
)
WHERE = (
    "huggingface.co/datasets/vaishaal/ImageNetV2, github.com/hendrycks/natural-adv-examples, "
    "github.com/hendrycks/imagenet-r, github.com/HaohanWang/ImageNet-Sketch (MIT; the pictures "
    "are their makers')."
)
LAYOUT = (
    "imagenet-a/n01498041/*.jpg, imagenet-r and imagenet-sketch likewise, imagenetv2*/0/*.jpeg; "
    "LOC_synset_mapping.txt beside or above"
)

_NUMBER = re.compile(r"\d{1,3}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return zero-shot classification, among the classes that are present; see the room."""
    if not SHIFT.search(folder.name):
        return []
    inner = "sketch"
    for place in (folder, folder / inner, folder / "images"):
        if folders_of(place):
            return [Found("imagenet_shifts", str(folder), tuple(asked(place)))]
        if folders_of(place, _NUMBER):
            return [Found("imagenet_shifts", str(folder), tuple(asked(place, numbers=True)))]
    return []
