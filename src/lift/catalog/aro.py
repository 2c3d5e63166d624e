"""ARO: attributes, relations and order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import entry, files, has_folder

TITLE = "ARO (Yuksekgonul et al. 2023)"
WHERE = (
    "github.com/mertyg/vision-language-models-are-bows (MIT) says where its files and the photos "
    "of Visual Genome (CC BY 4.0) are; COCO's and Flickr's orders are made by its code."
)
LAYOUT = "visual_genome_relation.json, visual_genome_attribution.json, images/; or *_order.json"

_FOLDERS = ("images", "val2014", "val2017", "flickr30k-images", "test2014")


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return the compositional evaluation where questions and photos lie; see the room."""
    if not has_folder((folder, folder.parent), _FOLDERS):
        return []
    known = [file for file in files(folder, "*.json") if _is_asked(entry(file))]
    of_boxes = [file for file in known if file.name.startswith("visual_genome_")]
    paths = ([folder] if of_boxes else []) + [file for file in known if file not in of_boxes]
    # Its captions are made from facts: what else is asked of a box is no description of it.
    words = [f"compositional:data=[aro:path={quoted(p)}],benchmark=aro,oracle=false" for p in paths]
    return [Found("aro", str(folder), tuple(words))] if words else []


def _is_asked(first: dict[str, object]) -> bool:
    return {"true_caption", "false_caption"} <= set(first) or "caption_options" in first
