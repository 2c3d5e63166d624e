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

from lift.data import kinds
from lift.data.formats._by_name import composed, joined
from lift.data.formats._caption_files import CAPTION_FILES, rows, wanted
from lift.data.formats._captions import as_fields, captions, captions_of, columns_of, lines
from lift.data.formats._files import PLAIN, folder_of, walk, without_ending
from lift.data.formats._images import IMAGES, bounded_file
from lift.data.formats._layout import Absent, Bounds, Layout, Told
from lift.data.formats._paths import inside
from lift.data.formats._ragged import Ragged, in_order
from lift.data.formats._records import Listed, Recorded
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Caption, Sample

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
        DataError: the file that was asked for is not there, or it is a link out of the folder.
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
            # Like the images': a link of a stranger's folder may lead to anybody's file.
            try:
                inside(config.path, name, "captions", config.allow_outside)
            except DataError as error:
                raise DataError(
                    f"{file} is a link out of the folder; name it with captions=FILE if you trust "
                    "what it leads to."
                ) from error
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
            return lines(self._bytes(name, sidecar), "raw", name, most)
        record = record or self._record(name, sidecar)
        return captions_of(record, self._columns, name, most)

    def _record(self, name: str, sidecar: str) -> dict[str, Any]:
        try:
            record = json.loads(self._bytes(name, sidecar))
        except (ValueError, RecursionError) as error:
            raise BrokenSample(
                kinds.DAMAGED_JSON, f"Sample {name}: {sidecar} is not JSON ({error})."
            ) from error
        if not isinstance(record, dict):
            raise BrokenSample(kinds.DAMAGED_JSON, f"Sample {name}: {sidecar} is no JSON object.")
        return record

    def _bytes(self, name: str, sidecar: str) -> bytes:
        what = f"Sample {name}"
        kind, out = kinds.CAPTION_UNREADABLE, self._allow_outside
        return bounded_file(self._root, sidecar, _MOST_SIDECAR, what, out, kind)


def _pairs(config: Config, absent: Absent) -> Iterator[bytes]:
    """Yield `image NUL captions file` in order of the name that both have.

    Accents may be written in one character or in two, and differently in both names.
    """
    ending = "txt" if config.caption_field is None else "json"
    endings = IMAGES | {ending}
    files = walk(config.path, endings, config, absent, config.allow_outside)
    ordered = in_order(f"{composed(without_ending(f.name))}\0{f.name}".encode() for f in files)
    for _, group in groupby(ordered, lambda item: item.partition(b"\0")[0]):
        images: list[str] = []
        sidecars: list[str] = []
        for item in group:
            name = item.partition(b"\0")[2].decode()
            (sidecars if name.lower().endswith("." + ending) else images).append(name)
        if not images:
            for name in sidecars:
                if not os.path.basename(name).lower().startswith(PLAIN):
                    absent.add(kinds.CAPTION_WITHOUT_IMAGE, name)
            continue
        spare = set(sidecars)
        for image in images:
            if not sidecars:
                absent.add(kinds.IMAGE_WITHOUT_CAPTION, image)
                continue
            own = next(
                (name for name in sidecars if without_ending(name) == without_ending(image)),
                sidecars[0],
            )
            spare.discard(own)
            yield f"{image}\0{own}".encode()
        for name in sorted(spare):
            absent.add(kinds.CAPTIONS_FILE_TWICE, name)
