"""Winoground: rows of two images and two captions in the same words (Thrush et al. 2022).

As facebook/winoground has it: `examples.jsonl` with id, image_0, image_1 (names without .png),
caption_0, caption_1 and tags, beside `images`; or a table with the images in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lift.data.formats import _rows
from lift.data.formats._captions import as_fields, captions
from lift.data.formats._files import ending_of
from lift.data.formats._images import ENDINGS, IMAGES, image_of
from lift.data.formats._layout import Bounds, Layout, Told
from lift.data.formats._paths import key_prefixes, source_name, whereabouts
from lift.data.formats._tables import File, values
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Sample

_IMAGES = ("image_0", "image_1")
_CAPTIONS = ("caption_0", "caption_1")
_FILES = ("examples.jsonl", "data/examples.jsonl")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of Winoground. Keys are `ROW/0` and `ROW/1`; the field `pair` says which belong.

    Attributes:
        path: `examples.jsonl`, a folder with it, or tables with the same columns.
        images: the folder of the images; None looks for `images` beside the file.
        memory_mb: how much of parquet row groups is held at a time, for each process.
    """

    path: str | tuple[str, ...] = ""
    images: str | None = None
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_mb < 1:
            raise ConfigError(f"memory_mb must be above 0, not {self.memory_mb}.")


def build(config: Config) -> Pairs:
    """Open the files, check the columns and return the source.

    Raises:
        DataError: a file is missing or damaged or holds no sample, or a column is missing.
        BrokenSample: strict, and a line is no row.
    """
    path = config.path
    if not path:
        raise DataError("No path was given; set path to examples.jsonl or the folder with it.")
    if isinstance(path, str) and os.path.isdir(path):
        there = [f"{path}/{name}" for name in _FILES if os.path.isfile(f"{path}/{name}")]
        if not there:
            raise DataError(f"No examples.jsonl is in {path}; set path to it, or to a table.")
        path = there[0]
    return Pairs(path, config)


class Pairs(Layout):
    """Two samples a row, each with its own image and caption."""

    def __init__(self, path: str | tuple[str, ...], config: Config) -> None:
        self._table = _rows.Table(path, config.memory_mb, config.strict)
        self._table.use(self._wanted)
        rows = [self._table.rows_of(group) for group in range(len(self._table.groups))]
        files = self._table.paths
        self._prefixes = key_prefixes(files)
        self._images = config.images
        absent = self._table.settled(rows)
        groups = [2 * count for count in rows]
        super().__init__(source_name(files), whereabouts(files), groups, config, absent)
        window = self._table.window()
        self.window_samples = None if window is None else 2 * window

    def _wanted(self, file: File) -> Iterator[str]:
        yield from (*_IMAGES, *_CAPTIONS)
        yield from file.plain

    def _read(self, group: int, place: int) -> Sample:
        number, side = divmod(place, 2)
        row, key = self._table.row(group, number), self._name(group, number)
        name, at = f"{key}/{side}", self._table.groups[group].file
        root = self._images or _beside(self._table.paths[at].parent)
        image = row[_IMAGES[side]]
        fields = as_fields(row, (*_IMAGES, *_CAPTIONS, "pair"))
        return Sample(
            key=name,
            image=image_of(_file(root, image), _IMAGES[side], root, name, self.bounds),
            captions=self._captions(row[_CAPTIONS[side]], name),
            fields={**fields, "pair": key},
        )

    def _told(self, group: int) -> Iterator[Told]:
        number = 0
        for rows in self._table.scan(group, _CAPTIONS):
            for texts in zip(*(values(rows.column(name)) for name in _CAPTIONS), strict=True):
                key = self._name(group, number)
                for side, text in enumerate(texts):
                    yield f"{key}/{side}", partial(self._captions, text, f"{key}/{side}")
                number += 1

    def _name(self, group: int, number: int) -> str:
        file, _, first = self._table.groups[group]
        return f"{self._prefixes[file]}{first + number}"

    def _captions(self, text: Any, key: str) -> tuple[Caption, ...]:
        return tuple(captions(text, "raw", key, self.bounds.max_caption_chars))


def _beside(folder: Path) -> str:
    images = folder / "images"
    return str(images if images.is_dir() else folder)


def _file(root: str, image: Any) -> Any:
    """Return the name of an image with its ending; anything else as it is."""
    if isinstance(image, Mapping) or not isinstance(image, str) or not image:
        return image
    if ending_of(image) in IMAGES or "\0" in image or "://" in image:
        return image
    there = (f"{image}.{end}" for end in ENDINGS)
    return next((n for n in there if os.path.isfile(os.path.join(root, n))), f"{image}.png")
