"""SugarCrepe's files and those that follow it: `KIND.json`, numbered questions about photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data.formats._annotations import image_folder
from lift.data.formats._layout import Absent, Bounds
from lift.data.formats._questions import (
    Questions,
    Wanted,
    captions_beside,
    entries_of,
    question_files,
    records,
    require_folder,
)
from lift.errors import DataError
from lift.terms import Foil

FoilsOf = Callable[[Path, str, dict[str, Any], int], Iterator[Foil]]
"""From a file, the number and the entry of a question and the most characters of a text."""


@dataclass(frozen=True, kw_only=True)
class CrepeConfig(Bounds):
    """Options of such files. Keys are the photos' file names.

    Attributes:
        path: the folder with `KIND.json` files, or the one above it.
        images: the folder of the photos; None looks for `images` or `val2017` in `path` and
            beside it.
        captions: a file of COCO's captions, whose captions of these photos stand behind those that
            are asked, in the role "caption"; None looks for one beside, "" takes none.
    """

    path: str = ""
    images: str | None = None
    captions: str | None = None


def questions(
    config: CrepeConfig, what: str, data_set: str, below: Sequence[str], foils_of: FoilsOf
) -> Questions:
    """Read every `KIND.json` and return the source.

    Args:
        config: options.
        what: the benchmark's name, for sentences.
        data_set: the same, for the name of the source.
        below: folders of `path` in which the files may lie.
        foils_of: what a question says.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    folder = require_folder(config.path, f"{what}'s files")
    folder = next((folder / name for name in below if (folder / name).is_dir()), folder)
    files = question_files(folder)
    if not files:
        raise DataError(f"No KIND.json is in {folder}; give the folder of {what}'s files.")
    root = image_folder(config.images, (folder, folder.parent), ("images", "val2017"), ())
    found: dict[str, Wanted] = {}  # a few thousand questions, put aside below
    for file in files:
        for number, entry in entries_of(file, what):
            key = entry.get("filename")
            if not isinstance(key, str):
                raise DataError(f"{file}: question {number!r} lacks its filename.")
            asked = found.setdefault(key, Wanted(key, []))
            asked.foils += foils_of(file, number, entry, config.max_caption_chars)
    absent = Absent(strict=config.strict)
    bases = (folder, folder.parent, Path(root).parent)
    others = captions_beside(config.captions, bases, found, config.max_caption_chars, absent)
    return Questions(config.path, root, records(found, others), config, absent, data_set=data_set)
