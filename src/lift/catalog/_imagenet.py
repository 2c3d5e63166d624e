"""Folders of ImageNet's classes: where their list lies, and what is asked of them."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from lift.catalog import quoted
from lift.catalog._plans import near, prompts
from lift.errors import LiftError
from lift.evals._prompts import coded

LISTS = ("LOC_synset_mapping.txt", "imagenet_class_index.json")
"""Files that list all classes in the order of their numbers."""

SHIFT = re.compile(r"imagenet[-_ ]?(v2|a|r|o|sketch)(?![a-z])", re.IGNORECASE)
_WORDNET = re.compile(r"n\d{8}")
_ENTRIES = 2_000


def folders_of(folder: Path, form: re.Pattern[str] = _WORDNET) -> list[str]:
    """Return the names of a folder's folders, if they are classes; none else."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in islice(entries, _ENTRIES) if e.is_dir()]
    except OSError:
        return []
    return sorted(names) if len(names) > 1 and all(map(form.fullmatch, names)) else []


def asked(folder: Path, *, numbers: bool = False, more: str = "") -> list[str]:
    """Return zero-shot classification of a folder of classes, by one prompt and by CLIP's 80.

    Where no list of the classes lies near, the words lack it, and running them says which file is
    needed.

    Args:
        folder: whose folders are the classes.
        numbers: whether they are called by their numbers, not by WordNet's.
        more: further options of zeroshot.
    """
    listed = near(folder, *LISTS)
    names = "" if numbers or listed is None else f",names={quoted(listed)}"
    data = f"zeroshot:data=[classes:path={quoted(folder)}{names}],label=folder"
    data += ",label_holds=number" if numbers else ",label_holds=code"
    data += "" if listed is None else f",codes={quoted(listed)}"
    count = _classes(listed)
    if not numbers and count and len(folders_of(folder)) < count:
        data += ",among=present"
    words = [f"{data}{more}"]
    of_clip = prompts(folder, "ImageNet", classes=count == 1000)
    return words + [f"{data}{of_clip}{more}"] * bool(of_clip and not more)


def _classes(listed: Path | None) -> int:
    try:
        return 0 if listed is None else len(coded(listed))
    except LiftError:
        return 0
