"""SugarCrepe's files: `KIND.json` with a right and a wrong caption for each image (Hsieh 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lift.data.formats._annotations import image_folder
from lift.data.formats._layout import Absent, Bounds
from lift.data.formats._questions import (
    Questions,
    Wanted,
    captions_beside,
    question_files,
    read_json,
    records,
    require_folder,
    texts_of,
)
from lift.errors import DataError
from lift.terms import Foil

_ENTRY = ("filename", "caption", "negative_caption")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of SugarCrepe's files. Keys are the photos' file names.

    Attributes:
        path: the folder with `KIND.json` files, or the one above its `sugarcrepe` folder.
        images: the folder of the photos; None looks for `images` in `path` and beside it.
        captions: a file of COCO's captions, whose captions of these photos stand behind those that
            are asked, in the role "caption"; None looks for one beside, "" takes none.
    """

    path: str = ""
    images: str | None = None
    captions: str | None = None


def build(config: Config) -> Questions:
    """Read every `KIND.json` and return the source.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    folder = require_folder(config.path, "SugarCrepe's files")
    if (folder / "sugarcrepe").is_dir():
        folder = folder / "sugarcrepe"
    files = question_files(folder)
    if not files:
        raise DataError(f"No KIND.json is in {folder}; give the folder of SugarCrepe's files.")
    root = image_folder(config.images, (folder, folder.parent), ("images", "val2017"), ())
    found: dict[str, Wanted] = {}  # a few thousand questions, put aside below
    for file in files:
        for key, foil in _foils(file, config.max_caption_chars):
            found.setdefault(key, Wanted(key, [])).foils.append(foil)
    absent = Absent(strict=config.strict)
    bases = (folder, folder.parent, Path(root).parent)
    others = captions_beside(config.captions, bases, found, config.max_caption_chars, absent)
    return Questions(
        config.path, root, records(found, others), config, absent, data_set="sugarcrepe"
    )


def _foils(file: Path, most: int) -> Iterator[tuple[str, Foil]]:
    """Yield (image file name, foil) of one `KIND.json`."""
    entries = read_json(file, "SugarCrepe")
    if not isinstance(entries, dict):
        raise DataError(f"{file} is not in SugarCrepe's form: an object of numbered questions.")
    for number, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get(_ENTRY[0]), str):
            raise DataError(f"{file}: question {number!r} lacks one of {', '.join(_ENTRY)}.")
        right, wrong = texts_of(entry, _ENTRY[1:], file, number, most)
        yield entry["filename"], Foil(file.stem, right, wrong)
