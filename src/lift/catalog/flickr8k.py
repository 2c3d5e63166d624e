"""Flickr8k: five captions of photos of people and animals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, _flickr

TITLE = "Flickr8k (Hodosh et al. 2013)"
WHERE = (
    "On request from its authors (hockenmaier.cs.illinois.edu/8k-pictures.html), for research and "
    "education only; Karpathy's split: cs.stanford.edu/people/karpathy/deepimagesent."
)
LAYOUT = (
    "Flicker8k_Dataset/*.jpg or images/*.jpg, and dataset_flickr8k.json or Flickr8k.token.txt; or "
    "flickr8k/test-*.tar"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return retrieval and the mixed index of photos that are not trained on; see the room."""
    return _flickr.look(folder, "flickr8k", "8k")
