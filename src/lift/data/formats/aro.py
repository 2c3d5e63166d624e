"""ARO's files: relations and attributes of boxes, and captions against their words in other orders.

The layout is that of github.com/mertyg/vision-language-models-are-bows (Yuksekgonul et al. 2023):
`visual_genome_relation.json` and `visual_genome_attribution.json` are lists of objects with
image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption and false_caption beside `images`. Its COCO
and Flickr orders are shuffled as they are asked; a list of what was asked, objects with image and
caption_options (the first is right), is read, and so are the tables of NegCLIP (title, filepath and
neg_caption, a list of texts).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data import kinds
from lift.data.formats._annotations import image_folder
from lift.data.formats._captions import captions
from lift.data.formats._images import is_text
from lift.data.formats._layout import Absent, Bounds
from lift.data.formats._questions import (
    Box,
    Questions,
    Wanted,
    entries_of,
    records,
    require_folder,
    texts_of,
)
from lift.errors import DataError
from lift.terms import Foil
from lift.text.pairs import written_list
from lift.text.reading import numbered_lines

_ENDINGS = (".json", ".jsonl", ".tsv", ".tsv.gz")
_CROP = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
_TABLE = ("title", "filepath", "neg_caption")
_FOLDERS = ("images", "val2014", "val2017", "flickr30k-images", "test2014", ".")
_PREFIX = "COCO_val2014_"
_FAR = 1 << 20
"""Pixels from the edge that no box reaches."""

_MOST_FOILS = 100
_NAMES = {"visual_genome_relation": "relation", "visual_genome_attribution": "attribution"}


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of ARO's files. Keys are names of images, with `#LEFT,TOP,WIDTH,HEIGHT` for a box.

    Attributes:
        path: a folder with such files, or one file.
        images: the folder of the photos; None looks for `images`, `val2014` and the like in `path`
            and beside it. A photo may lie there under its name without its folder, and COCO's
            without `COCO_val2014_`.
    """

    path: str = ""
    images: str | None = None


@dataclass(frozen=True)
class _Asked:
    image: str
    foils: list[Foil]
    box: Box | None = None


def build(config: Config) -> Questions:
    """Read every file and return the source; questions whose photo is missing are counted.

    Raises:
        DataError: no such file or folder, a file of another form, or no photo is there.
    """
    path = require_folder(config.path, "ARO's files")
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise DataError(
            f"No file of ARO is in {path} (visual_genome_relation.json, ...); give its folder."
        )
    folder = files[0].parent
    absent = Absent(strict=config.strict)
    most = config.max_caption_chars
    asked = [one for file in files for one in _questions(file, most, absent)]
    probes = [name for one in asked[:200] for name in _candidates(one.image)]
    root = image_folder(config.images, (folder, folder.parent), _FOLDERS, probes)
    found: dict[str, Wanted] = {}
    for one in asked:
        name = next((n for n in _candidates(one.image) if os.path.isfile(f"{root}/{n}")), None)
        if name is None:
            absent.add(kinds.IMAGE_MISSING, one.image)
            continue
        key = one.image if one.box is None else f"{one.image}#{','.join(map(str, one.box))}"
        found.setdefault(key, Wanted(name, [], one.box)).foils.extend(one.foils)
    return Questions(config.path, root, records(found), config, absent, data_set="aro")


def _files(folder: Path) -> list[Path]:
    known = [folder / f"{name}.json" for name in _NAMES]
    there = [file for file in known if file.is_file()]
    return there or sorted(
        file for file in folder.glob("*") if file.is_file() and file.name.endswith(_ENDINGS)
    )


def _candidates(name: str) -> Iterator[str]:
    """Yield what a photo may be called below the folder of photos."""
    if os.path.isabs(name) or ".." in name.split("/") or "\0" in name:
        return
    base = name.rpartition("/")[2]
    yield from dict.fromkeys((name, base, base.removeprefix(_PREFIX)))


def _questions(file: Path, most: int, absent: Absent) -> Iterator[_Asked]:
    if file.name.endswith((".tsv", ".tsv.gz")):
        yield from _table(file, most, absent)
        return
    entries = _lines(file) if file.suffix == ".jsonl" else entries_of(file, "ARO")
    for number, entry in entries:
        if "caption_options" in entry:
            image, options = entry.get("image"), entry["caption_options"]
            where = f"{number} of {file.name}"
            if not isinstance(options, list) or len(options) < 2:
                raise DataError(f"{file}: question {number!r} has no list of caption_options.")
            right, *wrong = (c.text for c in captions(options, "caption", where, most))
            foils = _group(file, number, right, wrong)
            yield _Asked(_image(image, file, number), foils)
        else:
            names = ("true_caption", "false_caption")
            right, wrong_one = texts_of(entry, names, file, number, most)
            foil = Foil(_NAMES.get(file.stem, file.stem), right, wrong_one)
            image = _image(entry.get("image_path"), file, number)
            yield _Asked(image, [foil], _box(entry, file, number))


def _group(file: Path, number: str, right: str, wrong: list[str], kind: str = "") -> list[Foil]:
    """Return foils of one question; its name tells it from others of the same photo."""
    if len(wrong) > _MOST_FOILS:
        raise DataError(
            f"{file}: question {number!r} has {len(wrong):,} foils; up to {_MOST_FOILS} are read."
        )
    name = file.name.split(".")[0]
    return [Foil(kind or name, right, foil, f"{name}/{number}") for foil in wrong]


def _image(name: Any, file: Path, number: str) -> str:
    if not isinstance(name, str) or not name or not is_text(name):
        raise DataError(f"{file}: question {number!r} names no image.")
    return name


def _box(entry: Mapping[str, Any], file: Path, number: str) -> Box | None:
    if not any(name in entry for name in _CROP):
        return None
    values = [entry.get(name) for name in _CROP]
    numbers = [int(v) for v in values if isinstance(v, int | float) and abs(v) < _FAR]
    if len(numbers) < len(_CROP) or min(numbers[2:]) < 1:
        raise DataError(f"{file}: question {number!r} has a box that is none: {values!r:.80}.")
    left, top, width, height = numbers
    return left, top, width, height


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}, line {number}, is not JSON ({error}).") from error
        if not isinstance(entry, dict):
            raise DataError(f"{file}, line {number}, is no object.")
        yield str(number), entry


def _table(file: Path, most: int, absent: Absent) -> Iterator[_Asked]:
    """Yield the rows of a table of NegCLIP."""

    def text() -> Iterator[str]:
        for number, line in numbered_lines(file):
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise DataError(f"{file}, line {number}, is not UTF-8 ({error}).") from error

    reader = csv.DictReader(text(), delimiter="\t")
    try:
        if not set(_TABLE) <= set(reader.fieldnames or ()):
            raise DataError(f"{file} is not in ARO's form: it lacks one of {', '.join(_TABLE)}.")
        for number, row in enumerate(reader):
            if any(not isinstance(row[name], str) for name in _TABLE):
                raise DataError(f"{file}: row {number} has too few columns.")
            told = written_list(row["neg_caption"], f"{file}: neg_caption of row {number}")
            if not told:
                absent.add(kinds.ROW_FORM, f"{file.name}, row {number} (no foil)")
                continue
            where = f"row {number} of {file.name}"
            right, *wrong = (
                c.text for c in captions([row["title"], *told], "caption", where, most)
            )
            foils = _group(file, str(number), right, wrong, "order")
            yield _Asked(_image(row["filepath"], file, str(number)), foils)
    except csv.Error as error:
        raise DataError(f"{file} is not a table of tab-separated columns ({error}).") from error
