"""Crossmodal-3600: photos with captions in 36 languages (Thapliyal et al. 2022).

The layout is that of https://google.github.io/crossmodal-3600: `captions.jsonl`, a line for each
photo with `image/key` and, for each language, an object with a list `caption`; the photos are
`KEY.jpg` of a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data import kinds
from lift.data.formats._annotations import annotation_file, image_folder
from lift.data.formats._by_name import checked
from lift.data.formats._captions import Column
from lift.data.formats._images import is_text, usable
from lift.data.formats._layout import Absent, Bounds, Layout
from lift.data.formats._long_texts import first_objects, objects
from lift.data.formats._ragged import Ragged
from lift.data.formats._records import Recorded, record
from lift.terms import Caption
from lift.text.keys import KeySet, keys_of

_KEY = "image/key"
_RAW = Column("caption", "raw")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of Crossmodal-3600. Keys are its own (`000411001ff7dd4f`).

    Attributes:
        path: `captions.jsonl`, or the folder with it.
        images: the folder of the photos; None looks for `images` beside the file.
        languages: of the captions, as the file tags them ("de", "quz"); None takes all.
        ending: of the photos' file names.
    """

    path: str = ""
    images: str | None = None
    languages: tuple[str, ...] | None = None
    ending: str = "jpg"


def build(config: Config) -> Layout:
    """Read the captions, find the photos, and return the source.

    Raises:
        DataError: a file or folder is missing, or there are no samples.
        BrokenSample: the first item that is left out, where `strict`.
    """
    file = annotation_file(config.path, ("captions.jsonl", "*.jsonl"), (".",), "captions.jsonl")
    probes = [f"{row.get(_KEY)}.{config.ending}" for row in first_objects(file)]
    names = ("images", "xm3600_images", ".")
    root = image_folder(config.images, (file.parent, file.parent.parent), names, probes)
    absent = Absent(strict=config.strict)
    records = Ragged(_records(file, root, config, absent))
    return Recorded(config.path, root, records, config, absent, data_set="xm3600")


def _records(file: Path, root: str, config: Config, absent: Absent) -> Iterator[bytes]:
    seen = KeySet()
    for where, row in objects(file, absent):
        key = row.get(_KEY)
        if not isinstance(key, str) or not key or "/" in key or not is_text(key):
            absent.add(kinds.ROW_FORM, where)
            continue
        if not seen.add(keys_of([key]))[0]:
            absent.add(kinds.KEY_TWICE, key)
            continue
        name = f"{key}.{config.ending}"
        if not usable(root, name, config, absent):
            continue
        if told := list(_captions(row, f"{where}, {key}", config, absent)):
            yield record(key, name, told, {})
        else:
            absent.add(kinds.IMAGE_WITHOUT_CAPTION, name)


def _captions(row: dict[str, Any], where: str, config: Config, absent: Absent) -> Iterator[Caption]:
    for tag, said in row.items():
        texts = said.get("caption") if isinstance(said, dict) else None
        if texts is None or not is_text(tag):
            continue
        if config.languages is None or tag in config.languages:
            for caption in checked([(_RAW, texts)], where, config.max_caption_chars, absent):
                yield caption._replace(language=tag)
