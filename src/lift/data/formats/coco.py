"""COCO captions: the JSON files of COCO or of Karpathy's split, beside folders of photos."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from lift.data import kinds
from lift.data.formats._annotations import annotation_file, image_folder
from lift.data.formats._by_name import checked
from lift.data.formats._captions import Column, as_fields
from lift.data.formats._files import without_ending
from lift.data.formats._images import is_text, usable
from lift.data.formats._json_items import items
from lift.data.formats._layout import Absent, Bounds, Layout
from lift.data.formats._ragged import Ragged, chunked, in_order
from lift.data.formats._records import Recorded, record
from lift.errors import DataError
from lift.terms import Caption
from lift.text.keys import KeyIndex, KeySet, keys_of

_RAW = Column("caption", "raw")
_CHUNK = 1024
_PROBES = 100
_ascii = json.JSONEncoder().encode
"""Captions are not checked yet and may hold what UTF-8 can't."""

_FORM = kinds.ROW_FORM
_FILES = ("captions_*.json", "dataset_coco.json", "images.json")
_OFFICIAL = re.compile(r"(captions_(train|val)20\d\d|dataset_coco)\.json")
_NO_FIELDS = (
    *("file_name", "filename", "filepath", "id", "image_id", "cocoid", "imgid"),
    *("license", "license_id", "license_name"),
)
"""What is no field of a sample, or one by another name."""


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of COCO's captions. Keys are file names without their ending (`000000000139`).

    Attributes:
        path: the JSON file (`captions_val2017.json`, Karpathy's `dataset_coco.json`, or a list of
            objects with file_name and captions), or a folder with it or with `annotations/`.
        images: the folder of the photos; None looks for `images`, `val2017` and the like.
        split: of Karpathy's file ("train", "restval", "val", "test"), one or several; of a folder
            with several files of COCO's, the one whose name ends so ("val2017").
    """

    path: str = ""
    images: str | None = None
    split: str | tuple[str, ...] | None = None

    def splits(self) -> tuple[str, ...]:
        """Return the splits that are asked for; none means all."""
        return (self.split,) if isinstance(self.split, str) else self.split or ()


def build(config: Config) -> Layout:
    """Read the annotations, find the photos, and return the source.

    Raises:
        DataError: a file or folder is missing, or of another form, or there are no samples.
        BrokenSample: the first item that is left out, where `strict`.
    """
    splits = config.splits()
    file = annotation_file(
        config.path, _FILES, (".", "annotations"), "COCO's captions_*.json", splits
    )
    subset = file.stem.removeprefix("captions_")
    absent = Absent(strict=config.strict)
    probes = [name for photo in islice(_photos(file, absent), _PROBES) for name in photo.names]
    absent = Absent(strict=config.strict)  # the same entries are met again
    root = image_folder(
        config.images,
        (file.parent, file.parent.parent),
        (f"images/{subset}", subset, "images", "."),
        probes,
    )
    if splits and not file.stem.endswith(splits) and not any(p.split for p in _some(file)):
        raise DataError(f"{file} says nothing of splits; leave split out.")
    licences: dict[str, str] = {}
    listed = Ragged(_listed(file, root, config, licences, absent))
    told = in_order(_annotations(file, listed, config.max_caption_chars, absent))
    records = Ragged(_records(listed, told, file, config.max_caption_chars, licences, absent))
    known = "coco" if _OFFICIAL.match(file.name) else ""
    return Recorded(config.path, root, records, config, absent, data_set=known)


class _Photo(NamedTuple):
    """What a file says of one photo.

    Attributes:
        key: of the sample.
        names: what the photo may be called below the folder of photos.
        id: what annotations call it.
        split: Karpathy's; None elsewhere.
        captions: where they stand with the photo; elsewhere annotations have them.
        entry: all of it.
    """

    key: str
    names: tuple[str, ...]
    id: str
    split: str | None
    captions: list[Any]
    entry: dict[str, Any]


def _photos(file: Path, absent: Absent, licences: dict[str, str] | None = None) -> Iterator[_Photo]:
    """Yield every photo that a file lists; `licences` gets their names by their numbers."""
    for number, (name, entry) in enumerate(items(file), 1):
        if name == "licenses" and licences is not None and isinstance(entry, dict):
            licences[str(entry.get("id"))] = str(entry.get("name"))
        if name not in ("", "images"):
            continue
        photo = _photo(entry) if isinstance(entry, dict) else None
        if photo is None:
            absent.add(_FORM, f"{file.name}, entry {number}")
        else:
            yield photo


def _photo(entry: dict[str, Any]) -> _Photo | None:
    name = entry.get("file_name", entry.get("filename"))
    if not isinstance(name, str) or not name or not is_text(name):
        return None
    folder, split = entry.get("filepath"), entry.get("split")
    names = (f"{folder}/{name}", name) if isinstance(folder, str) and is_text(folder) else (name,)
    told = entry.get("captions", [])
    if isinstance(sentences := entry.get("sentences"), list):
        told = [s.get("raw") if isinstance(s, dict) else s for s in sentences]
    ids = (entry.get(field) for field in ("cocoid", "image_id", "id", "imgid"))
    number = next((str(value) for value in ids if isinstance(value, int | str)), "")
    return _Photo(
        key=without_ending(name),
        names=names,
        id=number,
        split=split if isinstance(split, str) else None,
        captions=told if isinstance(told, list) else [told],
        entry=entry,
    )


def _some(file: Path) -> Iterator[_Photo]:
    return islice(_photos(file, Absent(strict=False)), _PROBES)


def _listed(
    file: Path, root: str, config: Config, licences: dict[str, str], absent: Absent
) -> Iterator[bytes]:
    """Yield (key, file, id, captions, fields) as JSON of every photo that is there."""
    splits = config.splits()
    # A file may be one split, and its name says so: photos that say nothing belong to it.
    named = bool(splits) and file.stem.endswith(splits)
    seen = KeySet()
    for chunk in chunked(_photos(file, absent, licences), _CHUNK):
        wanted = [p for p in chunk if not splits or p.split in splits or (named and not p.split)]
        if len(wanted) < len(chunk):
            example = next(photo.key for photo in chunk if photo not in wanted)
            absent.tally.add(kinds.OTHER_SPLIT, example, len(chunk) - len(wanted))
        fresh = seen.add(keys_of([photo.key for photo in wanted])) if wanted else []
        for photo, new in zip(wanted, fresh, strict=True):
            if not new:
                absent.add(kinds.KEY_TWICE, photo.key)
                continue
            name = next((n for n in photo.names if os.path.exists(_path(root, n))), photo.names[-1])
            if usable(root, name, config, absent):
                fields = _fields(photo)
                yield _ascii((photo.key, name, photo.id, photo.captions, fields)).encode()


def _path(root: str, name: str) -> str:
    return os.path.join(root, name.replace("\0", "\ufffd"))


def _fields(photo: _Photo) -> dict[str, str]:
    entry = photo.entry
    found = {k: v for k, v in as_fields(entry, _NO_FIELDS).items() if is_text(k + v)}
    found["image_id"] = photo.id
    licence = entry.get("license_name", entry.get("license", entry.get("license_id")))
    if licence is not None and is_text(str(licence)):
        found["licence"] = str(licence)
    return found


def _annotations(file: Path, listed: Ragged, most: int, absent: Absent) -> Iterator[bytes]:
    """Yield (photo, count, caption) in bytes that sort by photo, then by count."""
    ids = (keys_of([json.loads(photo)[2] for photo in chunk]) for chunk in chunked(listed, _CHUNK))
    index = KeyIndex.on_disk(ids)
    found = ((n, item.value) for n, item in enumerate(items(file)) if item.name == "annotations")
    for chunk in chunked(found, _CHUNK):
        named = [str(a.get("image_id")) if isinstance(a, dict) else "" for _, a in chunk]
        owners = index.find(keys_of([n if is_text(n) else "" for n in named])).tolist()
        for (count, entry), owner in zip(chunk, owners, strict=True):
            where = f"{file.name}, entry {count + 1}"
            if not isinstance(entry, dict) or "caption" not in entry:
                absent.add(_FORM, where)
            elif owner < 0:
                absent.add(
                    kinds.CAPTION_WITHOUT_IMAGE, f"{where} (image {entry.get('image_id')!r})"
                )
            else:
                for caption in checked([(_RAW, entry["caption"])], where, most, absent):
                    yield struct.pack(">QQ", owner, count) + caption.text.encode()


def _records(
    listed: Ragged,
    told: Iterator[bytes],
    file: Path,
    most: int,
    licences: dict[str, str],
    absent: Absent,
) -> Iterator[bytes]:
    groups = groupby(told, lambda item: int.from_bytes(item[:8], "big"))
    owner, group = next(groups, (-1, iter(())))
    for number, photo in enumerate(listed):
        key, name, _, texts, fields = json.loads(photo)
        where = f"{file.name}, photo {key}"
        captions = checked([(_RAW, text) for text in texts], where, most, absent)
        if owner == number:
            captions += [Caption(item[16:].decode()) for item in group]
            owner, group = next(groups, (-1, iter(())))
        licence = licences.get(fields.get("licence", ""), "")
        if licence and is_text(licence):
            fields["licence"] = licence
        if captions:
            yield record(key, name, captions, fields)
        else:
            absent.add(kinds.IMAGE_WITHOUT_CAPTION, name)
