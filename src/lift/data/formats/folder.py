"""A folder of images with captions beside them: `NAME.txt`, `NAME.json`, one file, or the names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from lift.data.formats._caption_files import rows, wanted
from lift.data.formats._captions import Column, as_fields, captions, columns_of, lines
from lift.data.formats._files import (
    IMAGES,
    Absent,
    folder_of,
    read_file,
    walk,
    without_ending,
)
from lift.data.formats._joined import joined
from lift.data.formats._layout import Bounds, Layout, Told
from lift.data.formats._listed import Listed, Recorded
from lift.data.formats._mapped import Ragged, in_order
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Caption, Sample

CAPTION_FILES = (
    *("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl", "captions.csv"),
    *("captions.tsv", "captions.parquet", "captions.json", "captions.txt"),
)
"""Names of files with all captions, in the order in which they are looked for."""

_MOST_SIDECAR = 4 << 20
_BETWEEN_WORDS = re.compile(r"[\s_+-]+")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of a folder of images. Keys are paths from the folder (`dogs/a.jpg`).

    Attributes:
        path: the folder; folders in it belong to it.
        captions: one file with all captions (.csv, .tsv, .txt, .jsonl, .json, .parquet); None
            takes `metadata.jsonl`, `captions.txt` and the like in `path`, and where there is
            none, `NAME.txt` beside each image, every line that is not blank a caption.
        file: the column of the captions file with the images' names; None takes `file_name` and
            the like; without a header, the first.
        caption: its column(s) with captions, as NAME or NAME:ROLE; None takes `caption`, `text`
            and the like in the role "raw".
        caption_field: take captions from these fields of `NAME.json`, as NAME or NAME:ROLE.
        names: take the caption from the image's name (`a_red-dog.jpg`: "a red dog").
        allow_outside: follow links that lead out of the folder.
    """

    path: str = ""
    captions: str | None = None
    file: str | None = None
    caption: str | tuple[str, ...] | None = None
    caption_field: str | tuple[str, ...] | None = None
    names: bool = False
    allow_outside: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        file = self.captions or self.file or self.caption
        if (file is not None) + (self.caption_field is not None) + self.names > 1:
            raise ConfigError(
                "captions come from one place: a file (captions, file, caption), NAME.json "
                "(caption_field), or the names of images (names)."
            )


def build(config: Config) -> Layout:
    """List the folder, find every image's captions, and return the source.

    Raises:
        DataError: no such folder or captions file, a missing column, or no samples.
        BrokenSample: the first file that is left out, where `strict`.
    """
    root = folder_of(config.path, "a folder of images")
    absent = Absent(strict=config.strict)
    if config.names:
        images = _images(config, absent)
        return Named(config.path, root, images, config, absent, config.allow_outside)
    file = None if config.caption_field is not None else captions_file(config)
    if file is None:
        return Sidecars(config, root, absent)
    names = _images(config, absent, os.path.relpath(file, root))
    columns = wanted(config.file, config.caption)
    found = rows(file, columns, absent)
    records = Ragged(joined(names, found, root, config.max_caption_chars, absent))
    return Recorded(config.path, root, records, config, absent, config.allow_outside)


def captions_file(config: Config) -> Path | None:
    """Return the file with all captions, if there is one.

    Raises:
        DataError: the file that was asked for is not there.
    """
    if config.captions is not None:
        choices = (Path(config.captions), Path(config.path, config.captions))
        for choice in choices:
            if choice.is_file():
                return choice
        raise DataError(f"No captions file is at {config.captions}; check captions=.")
    for name in CAPTION_FILES:
        file = Path(config.path, name)
        stem = without_ending(name)
        # captions.txt beside captions.jpg is the text of that image.
        if file.is_file() and not any(
            os.path.exists(os.path.join(config.path, f"{stem}.{ending}")) for ending in IMAGES
        ):
            return file
    if config.file is not None or config.caption is not None:
        raise DataError(f"{config.path} holds no captions file; name it with captions=FILE.")
    return None


def _images(config: Config, absent: Absent, known: str = "") -> Ragged:
    found = walk(config.path, IMAGES, config, absent, config.allow_outside, known)
    return Ragged(in_order(file.name.encode() for file in found))


class Named(Listed):
    """Records are file names, and so are the captions."""

    def _read(self, group: int, place: int) -> Sample:
        name = self._records[place].decode()
        return Sample(name, self._image(name, name), self._caption(name))

    def _told(self, group: int) -> Iterator[Told]:
        for name in map(bytes.decode, self._records):
            yield name, partial(self._caption, name)

    def _caption(self, name: str) -> tuple[Caption, ...]:
        stem = without_ending(os.path.basename(name))
        words = _BETWEEN_WORDS.sub(" ", stem)
        return tuple(captions(words, "raw", name, self.bounds.max_caption_chars))


class Sidecars(Listed):
    """Records are `image NUL captions file`; the text is read when it is asked for."""

    def __init__(self, config: Config, root: str, absent: Absent) -> None:
        """List the folder and put images and captions files of one name together."""
        field = config.caption_field
        self._columns = None if field is None else columns_of(field)
        records = Ragged(_pairs(config, absent))
        super().__init__(config.path, root, records, config, absent, config.allow_outside)

    def _read(self, group: int, place: int) -> Sample:
        name, sidecar = self._records[place].decode().split("\0")
        record = {} if self._columns is None else self._record(name, sidecar)
        told = self._captions(name, sidecar, record)
        spent = [column.name for column in self._columns or ()]
        fields = as_fields(record, spent)
        return Sample(name, self._image(name, name), told, fields)

    def _told(self, group: int) -> Iterator[Told]:
        for pair in self._records:
            name, sidecar = pair.decode().split("\0")
            yield name, partial(self._captions, name, sidecar)

    def _captions(
        self, name: str, sidecar: str, record: dict[str, Any] | None = None
    ) -> tuple[Caption, ...]:
        most = self.bounds.max_caption_chars
        if self._columns is None:
            return tuple(lines(self._bytes(name, sidecar), "raw", name, most))
        record = record or self._record(name, sidecar)
        found: list[Caption] = []
        for column in self._columns:
            found += captions(_field(record, column, name), column.role, name, most)
        return tuple(found)

    def _record(self, name: str, sidecar: str) -> dict[str, Any]:
        try:
            record = json.loads(self._bytes(name, sidecar))
        except (ValueError, RecursionError) as error:
            raise BrokenSample(
                "damaged .json", f"Sample {name}: {sidecar} is not JSON ({error})."
            ) from error
        if not isinstance(record, dict):
            raise BrokenSample("damaged .json", f"Sample {name}: {sidecar} is no JSON object.")
        return record

    def _bytes(self, name: str, sidecar: str) -> bytes:
        what = f"Sample {name}"
        return read_file(self._root, sidecar, _MOST_SIDECAR, what, "captions", self._allow_outside)


def _field(record: dict[str, Any], column: Column, name: str) -> Any:
    if column.name not in record:
        known = ", ".join(sorted(record)) or "none"
        raise BrokenSample(
            "without caption field",
            f"Sample {name} has no field {column.name!r} in its .json; known: {known}.",
        )
    return record[column.name]


def _pairs(config: Config, absent: Absent) -> Iterator[bytes]:
    """Yield `image NUL captions file` in order of the name that both have."""
    ending = "txt" if config.caption_field is None else "json"
    endings = IMAGES | {ending}
    files = walk(config.path, endings, config, absent, config.allow_outside)
    ordered = in_order(f"{without_ending(f.name)}\0{f.name}".encode() for f in files)
    for _, group in groupby(ordered, lambda item: item.partition(b"\0")[0]):
        images: list[str] = []
        sidecars: list[str] = []
        for item in group:
            name = item.partition(b"\0")[2].decode()
            (sidecars if name.lower().endswith("." + ending) else images).append(name)
        if not images:
            absent.add("captions file without image", sidecars[0])
        for image in images:
            if sidecars:
                yield f"{image}\0{sidecars[0]}".encode()
            else:
                absent.add("image without caption", image)
