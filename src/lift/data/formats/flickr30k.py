"""Flickr30k and Flickr8k: their caption files in every form that circulates, beside the photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lift.data import kinds
from lift.data.formats._annotations import annotation_file, image_folder
from lift.data.formats._by_name import joined
from lift.data.formats._caption_files import Row, Wanted, rows
from lift.data.formats._captions import Column
from lift.data.formats._files import walk
from lift.data.formats._images import IMAGES
from lift.data.formats._json_items import items
from lift.data.formats._layout import Absent, Bounds, Layout
from lift.data.formats._ragged import Ragged, in_order
from lift.data.formats._records import Recorded
from lift.errors import DataError

FILES = (
    *("flickr_annotations_*.csv", "dataset_flickr*.json", "results*.csv", "results*.token"),
    *("Flickr*.token.txt", "*.token", "captions.txt", "captions.csv"),
)
"""Globs of the caption files, in the order in which they are looked for."""

FOLDERS = (
    *("flickr30k-images", "flickr30k_images", "Flicker8k_Dataset", "Flickr8k_Dataset"),
    *("images", "Images", "."),
)

_RAW = Column("raw", "raw")
_PROBES = 100


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of Flickr30k and Flickr8k. Keys are file names (`1000092795.jpg`).

    Attributes:
        path: `flickr_annotations_30k.csv`, `results.csv`, `results_20130124.token`,
            `captions.txt`, `dataset_flickr30k.json`, or the folder with one of them.
        images: the folder of the photos; None looks for `flickr30k-images`, `images` and the
            like beside the file.
        split: "train", "val" or "test", where the file knows them (`flickr_annotations_30k.csv`,
            `dataset_flickr30k.json`); one or several, None for all.
    """

    path: str = ""
    images: str | None = None
    split: str | tuple[str, ...] | None = None


def build(config: Config) -> Layout:
    """Read the captions, list the photos, and return the source.

    Raises:
        DataError: a file or folder is missing, a file says nothing of splits, or no samples.
        BrokenSample: the first item that is left out, where `strict`.
    """
    file = annotation_file(config.path, FILES, (".",), "results.csv or another caption file")
    probes = list(islice(_rows(file, Absent(strict=False)), _PROBES))
    splits = (config.split,) if isinstance(config.split, str) else config.split or ()
    if splits and not any("split" in row.rest for row in probes):
        raise DataError(f"{file} says nothing of splits; leave split out.")
    names = [row.image for row in probes]
    root = image_folder(config.images, (file.parent, file.parent.parent), FOLDERS, names)
    absent = Absent(strict=config.strict)
    files = walk(root, IMAGES, config, absent, known=file.name)
    listed = Ragged(in_order(found.name.encode() for found in files))
    chosen = _chosen(_rows(file, absent), splits, absent)

    def unpaired(name: str) -> None:
        if splits:
            absent.tally.add(kinds.OTHER_SPLIT_OR_NONE, name)
        else:
            absent.add(kinds.IMAGE_WITHOUT_CAPTION, name)

    paired = joined(listed, chosen, root, config.max_caption_chars, absent, unpaired)
    # Flickr8k's captions.txt has no name of its own; its photos came into Flickr30k.
    known = "flickr8k" if "8k" in str(file).lower() else "flickr30k"
    return Recorded(config.path, root, Ragged(paired), config, absent, data_set=known)


def _rows(file: Path, absent: Absent) -> Iterator[Row]:
    return _karpathy(file, absent) if file.suffix == ".json" else rows(file, Wanted(), absent)


def _chosen(found: Iterator[Row], splits: tuple[str, ...], absent: Absent) -> Iterator[Row]:
    for row in found:
        if not splits or row.rest.get("split") in splits:
            yield row
        else:
            absent.tally.add(kinds.OTHER_SPLIT, row.where)


def _karpathy(file: Path, absent: Absent) -> Iterator[Row]:
    """Yield the images of Karpathy's split as rows."""
    for number, (name, entry) in enumerate(items(file), 1):
        if name != "images":
            continue
        where = f"{file.name}, entry {number}"
        told: list[Any] = []
        if isinstance(entry, dict) and isinstance(entry.get("sentences"), list):
            told = [s.get("raw") if isinstance(s, dict) else s for s in entry["sentences"]]
        if not told or not isinstance(entry.get("filename"), str):
            absent.add(kinds.ROW_FORM, where)
            continue
        rest = {k: v for k, v in entry.items() if k not in ("filename", "sentences")}
        yield Row(where, entry["filename"], [(_RAW, told)], rest)
