"""Flickr30k: five captions of photos of people and animals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _flickr

TITLE = "Flickr30k (Young et al. 2014)"
WHERE = (
    "On request from its authors (shannon.cs.illinois.edu/DenotationGraph), for research and "
    "education only; Karpathy's split: cs.stanford.edu/people/karpathy/deepimagesent."
)
LAYOUT = (
    "flickr30k-images/*.jpg or images/*.jpg, and flickr_annotations_30k.csv, "
    "dataset_flickr30k.json or results_20130124.token"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return retrieval and the mixed index of photos that are not trained on; see the room."""
    return _flickr.look(folder, "flickr30k", "30k")
