"""SugarCrepe's files: `KIND.json` with a right and a wrong caption for each image (Hsieh 2023)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data.formats._captions import captions
from lift.data.formats._paths import inside, read_bounded
from lift.errors import DataError
from lift.terms import Caption, Foil, Sample

_MOST_JSON = 256 << 20
_ENTRY = ("filename", "caption", "negative_caption")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of SugarCrepe's files.

    Attributes:
        path: the folder with `KIND.json` files, or the one above its `sugarcrepe` folder.
        images: the folder of the photos; None looks for `images` in `path` and beside it.
        max_image_bytes: larger files are refused.
    """

    path: str = ""
    images: str | None = None
    max_image_bytes: int = 64 << 20


def build(config: Config) -> Questions:
    """Read every `KIND.json` and return the source.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    return Questions(config)


class Questions:
    """One sample an image, with its right captions and, as foils, its wrong ones."""

    def __init__(self, config: Config) -> None:
        if not config.path:
            raise DataError("No path was given; set path to the folder of SugarCrepe's files.")
        folder = Path(config.path)
        if (folder / "sugarcrepe").is_dir():
            folder = folder / "sugarcrepe"
        files = sorted(folder.glob("*.json"))
        if not files:
            raise DataError(f"No KIND.json is in {folder}; give the folder of SugarCrepe's files.")
        self.name = f"sugarcrepe ({Path(config.path).name})"
        self._most = config.max_image_bytes
        self._images = self._image_folder(config, folder)
        found: dict[str, list[Foil]] = {}
        for file in files:
            for foil in _foils(file):
                found.setdefault(foil[0], []).append(foil[1])
        self._keys = tuple(found)
        self._foils = tuple(tuple(foils) for foils in found.values())
        self.groups = (len(self._keys),)

    @staticmethod
    def _image_folder(config: Config, folder: Path) -> Path:
        if config.images is not None:
            choices = [Path(config.images)]
        else:
            choices = [folder / "images", folder.parent / "images"]
        for choice in choices:
            if choice.is_dir():
                return choice
        tried = " or ".join(map(str, choices))
        raise DataError(f"No folder of photos at {tried}; set images=FOLDER.")

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, index: int) -> Sample:
        """Return sample `index`. Raises DataError naming the sample where it can't be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        key = self._keys[index]
        what = f"Sample {key}"
        path = inside(self._images, key, what)
        image = read_bounded(path, self._most, what)
        return Sample(key, image, self._captions(index), foils=self._foils[index])

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample in order, without reading image bytes."""
        for index, key in enumerate(self._keys):
            yield key, self._captions(index)

    def _captions(self, index: int) -> tuple[Caption, ...]:
        return tuple(Caption(text) for text in dict.fromkeys(f.caption for f in self._foils[index]))


def _foils(file: Path) -> Iterator[tuple[str, Foil]]:
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
        right, wrong = captions([entry["caption"], entry["negative_caption"]], "caption", name)
        yield entry["filename"], Foil(file.stem, right.text, wrong.text)
