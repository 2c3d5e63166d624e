"""Flickr8k and Flickr30k, which lie on disk alike."""

from __future__ import annotations

from pathlib import Path

from lift.catalog import Found, quoted
from lift.catalog._first import files, has_folder
from lift.catalog._plans import by_split, of_pairs
from lift.data.formats.flickr30k import FILES, FOLDERS

_SPLIT = ("dataset_flickr", "flickr_annotations")


def look(folder: Path, name: str, size: str) -> list[Found]:
    """Return what is asked of a folder, if it holds the data set of that size.

    Args:
        folder: looked at.
        name: of the data set.
        size: "8k" or "30k", as file names and folders spell it.
    """
    data: list[str] = []
    if has_folder((folder,), tuple(one for one in FOLDERS if one != ".")):
        for pattern in FILES:
            found = [file for file in files(folder, pattern) if _is_of(file, folder, size)]
            if found:
                split = ",split=test" if found[0].name.startswith(_SPLIT) else ""
                data.append(f"flickr30k:path={quoted(found[0])}{split}")
                break
    tars = [file for file in files(folder, "*.tar") if _is_of(file, folder, size)]
    if tars and not data:
        data = [f"webdataset:path={quoted(file)}" for file in by_split(tars)[0]]
    words = [word for one in data for word in of_pairs(one, name, several=True)]
    return [Found(name, str(folder), tuple(words))] if words else []


def _is_of(file: Path, folder: Path, size: str) -> bool:
    """Return whether a file is of Flickr8k, or of Flickr30k, by its name and its folder's."""
    words = f"{folder.name}/{file.name}".lower()
    if "flickr" not in words and "flicker" not in words and size == "8k":
        return any((folder / one).is_dir() for one in ("Flicker8k_Dataset", "Flickr8k_Dataset"))
    told = "8k" if "8k" in words else "30k" if "30k" in words else ""
    if not told:
        told = "30k" if file.name.startswith("results") and "flickr" in words else ""
    return told == size
