"""Babel-ImageNet: the names of ImageNet's classes in many languages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._imagenet import asked, folders_of
from lift.catalog._plans import read

TITLE = "Babel-ImageNet (Geigle et al. 2023)"
WHERE = (
    "github.com/gregor-ge/Babel-ImageNet (babel_imagenet.json); the photos are ImageNet's, see "
    "imagenet."
)
LAYOUT = (
    "babel_imagenet.json and val/n01440764/*.JPEG, LOC_synset_mapping.txt beside or above; the 20 "
    "languages with most names are judged"
)

_LANGUAGES = 20


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return zero-shot classification in English and in the best covered languages."""
    file = folder / "babel_imagenet.json"
    place = next((p for p in (folder / "val", folder) if folders_of(p)), None)
    told = read(file) if place is not None and file.is_file() else None
    if place is None or not isinstance(told, dict):
        return []
    sizes = {
        tag: len(both[0])
        for tag, both in told.items()
        if isinstance(both, list) and both and isinstance(both[0], list) and tag.isidentifier()
    }
    best = sorted(sizes, key=lambda tag: (-sizes[tag], tag))[:_LANGUAGES]
    words = asked(place)
    for tag in best:
        words += asked(place, more=f",language={tag},language_file={quoted(file)}")
    return [Found("babel_imagenet", str(folder), tuple(words))]
