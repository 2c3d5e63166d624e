"""SugarCrepe's files: `KIND.json` with a right and a wrong caption for each image (Hsieh 2023)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lift.data.formats._annotations import image_folder
from lift.data.formats._captions import captions
from lift.data.formats._layout import Absent, Bounds, Told
from lift.data.formats._paths import read_bounded
from lift.data.formats._ragged import Ragged
from lift.data.formats._records import Listed
from lift.errors import DataError
from lift.terms import Caption, Foil, Sample

_MOST_JSON = 256 << 20
_ENTRY = ("filename", "caption", "negative_caption")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of SugarCrepe's files. Keys are the photos' file names.

    Attributes:
        path: the folder with `KIND.json` files, or the one above its `sugarcrepe` folder.
        images: the folder of the photos; None looks for `images` in `path` and beside it.
    """

    path: str = ""
    images: str | None = None


def build(config: Config) -> Questions:
    """Read every `KIND.json` and return the source.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    if not config.path:
        raise DataError("No path was given; set path to the folder of SugarCrepe's files.")
    folder = Path(config.path)
    if (folder / "sugarcrepe").is_dir():
        folder = folder / "sugarcrepe"
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"No KIND.json is in {folder}; give the folder of SugarCrepe's files.")
    root = image_folder(config.images, (folder, folder.parent), ("images",), ())
    found: dict[str, list[Foil]] = {}  # a few thousand questions, put aside below
    for file in files:
        for key, foil in _foils(file, config.max_caption_chars):
            found.setdefault(key, []).append(foil)
    records = Ragged(json.dumps(item).encode() for item in found.items())
    absent = Absent(strict=config.strict)
    return Questions(config.path, root, records, config, absent, data_set="sugarcrepe")


class Questions(Listed):
    """One sample an image, with its right captions and, as foils, its wrong ones.

    Benchmarks have to be whole: a question of another form is refused, never left out.
    """

    def _read(self, group: int, place: int) -> Sample:
        key, foils = self._questions(self._records[place])
        return Sample(key, self._image(key, key), _right(foils), foils=foils)

    def _told(self, group: int) -> Iterator[Told]:
        for item in self._records:
            key, foils = self._questions(item)
            yield key, partial(_right, foils)

    def _questions(self, item: bytes) -> tuple[str, tuple[Foil, ...]]:
        key, foils = json.loads(item)
        return key, tuple(Foil(*foil) for foil in foils)


def _right(foils: tuple[Foil, ...]) -> tuple[Caption, ...]:
    return tuple(Caption(text) for text in dict.fromkeys(foil.caption for foil in foils))


def _foils(file: Path, most: int) -> Iterator[tuple[str, Foil]]:
    """Yield (image file name, foil) of one `KIND.json`."""
    try:
        entries: Any = json.loads(read_bounded(file, _MOST_JSON, "SugarCrepe"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}).") from error
    if not isinstance(entries, dict):
        raise DataError(f"{file} is not in SugarCrepe's form: an object of numbered questions.")
    for number, entry in entries.items():
        if not isinstance(entry, dict) or not all(isinstance(entry.get(n), str) for n in _ENTRY):
            raise DataError(f"{file}: question {number!r} lacks one of {', '.join(_ENTRY)}.")
        name = f"{number} of {file.name}"
        right, wrong = captions(
            [entry["caption"], entry["negative_caption"]], "caption", name, most
        )
        yield entry["filename"], Foil(file.stem, right.text, wrong.text)
