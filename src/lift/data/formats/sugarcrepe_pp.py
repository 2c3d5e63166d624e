"""SugarCrepe++'s files: `KIND.json` with two right captions and a wrong one (Dumpala et al. 2024).

The layout is that of github.com/Sri-Harsha/scpp, and of Aman-J/SugarCrepe_pp on Hugging Face's
hub: a list of objects with filename, caption, caption2 and negative_caption. Photos are those of
COCO val2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    texts_of,
)
from lift.errors import DataError
from lift.terms import Foil

_TEXTS = ("caption", "caption2", "negative_caption")
_FOLDERS = ("sugarcrepe_pp", "data")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of SugarCrepe++'s files. Keys are the photos' file names.

    Attributes:
        path: the folder with `KIND.json` files, or the one above its `sugarcrepe_pp` or `data`.
        images: the folder of the photos; None looks for `images` or `val2017` in `path` and
            beside it.
        captions: as in `sugarcrepe`.
    """

    path: str = ""
    images: str | None = None
    captions: str | None = None


def build(config: Config) -> Questions:
    """Read every `KIND.json` and return the source; the two captions and the foil are a group.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    folder = require_folder(config.path, "SugarCrepe++'s files")
    folder = next((folder / name for name in _FOLDERS if (folder / name).is_dir()), folder)
    files = question_files(folder)
    if not files:
        raise DataError(f"No KIND.json is in {folder}; give the folder of SugarCrepe++'s files.")
    root = image_folder(config.images, (folder, folder.parent), ("images", "val2017"), ())
    found: dict[str, Wanted] = {}  # a few thousand questions, put aside below
    for file in files:
        for number, entry in entries_of(file, "SugarCrepe++"):
            key = entry.get("filename")
            if not isinstance(key, str):
                raise DataError(f"{file}: question {number!r} lacks its filename.")
            *right, wrong = texts_of(entry, _TEXTS, file, number, config.max_caption_chars)
            group = f"{file.stem}/{number}"
            asked = found.setdefault(key, Wanted(key, []))
            asked.foils += [Foil(file.stem, caption, wrong, group) for caption in right]
    absent = Absent(strict=config.strict)
    bases = (folder, folder.parent, Path(root).parent)
    others = captions_beside(config.captions, bases, found, config.max_caption_chars, absent)
    return Questions(
        config.path, root, records(found, others), config, absent, data_set="sugarcrepe_pp"
    )
