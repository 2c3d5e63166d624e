"""What layout a file is of, by its name, its first members or its first rows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lift.config import Part
from lift.data._asked_sets import asked_file, asked_lines, asked_table
from lift.data._looks import (
    TableLook,
    TarLook,
    look_into_json,
    look_into_table,
    look_into_tar,
    text_fields,
)
from lift.data.formats._paths import expand, read_bounded
from lift.errors import ConfigError, DataError

ROOM = "data/formats"

SUFFIXES = {
    ".tar": "webdataset",
    ".csv": "table",
    ".tsv": "table",
    ".jsonl": "table",
    ".parquet": "table",
    ".txt": "texts",
    ".txt.gz": "texts",
    ".jsonl.gz": "texts",
}
"""Which format reads a path that can't be looked into."""

_TABLES = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".tsv")
_FLICKR = re.compile(
    r"flickr_annotations_.*\.csv|dataset_flickr.*\.json|results.*\.(csv|token)|.*\.token(\.txt)?",
    re.IGNORECASE,
)
_KARPATHY = re.compile(r"dataset_(coco|flickr\w*)\.json")
_FOLDERS = 50
COCO = re.compile(r"captions_.*\.json|dataset_coco\.json")
HUB = ("dataset_info.json", "state.json", "dataset_dict.json")

_MOST_MANIFEST = 64 << 20


@dataclass(frozen=True)
class Guess:
    """A layout, and why.

    Attributes:
        part: the format with its options.
        why: what was seen, as a sentence.
        others: what else it may be, the likeliest first.
    """

    part: Part
    why: str
    others: tuple[Part, ...] = ()


def guess_file(path: str) -> Guess:
    """Return the layout of a file, a glob, a brace range or a URL.

    Raises:
        ConfigError: nothing that tells a layout; the sentence says what is there and what to write.
        DataError: a file that has to be looked into can't be read.
    """
    files = _files(path)
    if not files:
        return _by_suffix(path)
    name = files[0].name
    for fits, look in _FILE_LOOKS:
        if fits(name):
            return look(path, files)
    return _by_suffix(path)


def _files(path: str) -> list[Path]:
    if "://" in path:
        return []
    try:
        return expand(path)
    except DataError:
        return []  # opening it says what is wrong


def _by_suffix(path: str) -> Guess:
    for suffix, layout in SUFFIXES.items():
        if path.endswith(suffix):
            return Guess(Part(ROOM, layout, {"path": path}), f"{path} ends in {suffix}.")
    there = "" if os.path.exists(path) or "://" in path else " and nothing is there"
    raise ConfigError(
        f"{path!r} does not tell its layout{there}: give a folder, end the path in one of "
        f"{', '.join(SUFFIXES)}, or write FORMAT:path=..."
    )


def _tars(path: str, files: Sequence[Path]) -> Guess:
    try:
        look = look_into_tar(files[0])
    except DataError:
        return _by_suffix(path)  # opening it says what is wrong
    first = files[0]
    beside = [first.with_name(first.stem + end) for end in (".parquet", "_stats.json")]
    folder = path if os.path.isdir(path) else str(first.parent)
    return of_tar(path, folder, first.name, look, any(file.is_file() for file in beside))


def of_tar(path: str, folder: str, name: str, look: TarLook, has_table: bool) -> Guess:
    plain = {"path": path}
    web = Part(ROOM, "webdataset", _web_options(path, look))
    if "syn.json" in look.endings:
        return Guess(
            Part(ROOM, "mobileclip", plain),
            f"{name} holds .syn.json members, as MobileCLIP's reinforced data sets do.",
            (web,),
        )
    if "uid" in look.record:
        return Guess(
            Part(ROOM, "datacomp", plain),
            f"The .json members of {name} have a uid, as DataComp's do.",
            (web, Part(ROOM, "img2dataset", plain)),
        )
    if has_table or {"url", "status"} <= set(look.record):
        whole = {"path": folder} if has_table else plain
        seen = "has its table or _stats.json beside it" if has_table else "holds url and status"
        return Guess(
            Part(ROOM, "img2dataset", whole), f"{name} {seen}, as img2dataset writes.", (web,)
        )
    kinds = ", ".join(sorted(look.endings)) or "nothing"
    return Guess(web, f"{name} is a tar with {kinds}.")


def _web_options(path: str, look: TarLook) -> dict[str, Any]:
    options: dict[str, Any] = {"path": path}
    fields = text_fields(look.record)
    if "txt" not in look.endings and fields:
        options["caption_field"] = fields[0]
    return options


def _table(path: str, files: Sequence[Path]) -> Guess:
    first = files[0]
    if is_flickr(first):
        return flickr(first)
    look = look_into_table(first)
    return of_table(path, first, look)


def of_table(path: str, first: Path, look: TableLook, images: str | None = None) -> Guess:
    columns = ", ".join(look.columns[:12]) or "none"
    if "re_caption" in look.columns:
        found = images or _images_beside(first)
        options = {"path": path, **({"images": found} if found else {})}
        return Guess(
            Part(ROOM, "recap_datacomp", options),
            f"{first.name} has the column re_caption, as Recap-DataComp has.",
            _as_table(path, first, look),
        )
    tables = _as_table(path, first, look)
    if (asked := asked_table(path, first, look, tables)) is not None:
        return Guess(*asked, tables)
    if look.image is None:
        told = f"{first.name} has no column of images (columns: {columns})"
        if look.url:
            told += f"; {look.url!r} holds addresses: fetch the images with img2dataset first"
        options = {"path": path, **({"column": look.captions[0]} if look.captions else {})}
        return Guess(Part(ROOM, "texts", options), told + ".")
    beside = Part(ROOM, "folder", {"path": str(first.parent), "captions": first.name})
    usual = look.mark in ("", "," if first.suffix == ".csv" else "\t")
    if look.is_path and (look.image == "0" or look.repeats or not usual):
        seen = "has no header" if look.image == "0" else "names an image in several rows"
        seen = seen if usual else f"has {look.mark!r} between its columns"
        return Guess(
            beside,
            f"{first.name} {seen}, so its rows are joined with the images of {first.parent}.",
            tables if look.image != "0" and usual else (),
        )
    kind = "paths of images" if look.is_path else "images"
    told = f"{first.name} has {kind} in {look.image!r}" + (
        f" and captions in {' and '.join(map(repr, look.captions))}."
        if look.captions
        else f" and no column that reads like captions (columns: {columns})."
    )
    return Guess(tables[0], told, (beside,) if look.is_path else ())


def _as_table(path: str, first: Path, look: TableLook) -> tuple[Part, ...]:
    if look.image is None:
        return ()
    options: dict[str, Any] = {"path": path, "image": look.image}
    if look.is_path and (root := _root_of(first.parent, look.values[look.image])):
        options["root"] = root
    if look.captions:
        several = list(look.captions)
        options["caption"] = several if len(several) > 1 else several[0]
    if look.key:
        options["key"] = look.key
    return (Part(ROOM, "table", options),)


def _root_of(folder: Path, names: Sequence[Any]) -> str | None:
    """Return the folder that the names of images start from, where it is not the table's own."""
    some = [name for name in names if isinstance(name, str)][:20]
    try:
        with os.scandir(folder) as entries:
            below = [Path(entry) for entry in islice(entries, 1_000) if entry.is_dir()]
    except OSError:
        return None
    choices = (folder, *sorted(below)[:_FOLDERS], folder.parent, folder.parent / "images")
    for choice in choices:
        if any(_is_below(choice, name) for name in some):
            return None if choice == folder else str(choice)
    return None


def _is_below(folder: Path, name: str) -> bool:
    if os.path.isabs(name) or "\0" in name:
        return False
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):
        return False


def _images_beside(file: Path) -> str | None:
    for name in ("images", "imgs", "image"):
        for base in (file.parent, file.parent.parent):
            if (base / name).is_dir():
                return str(base / name)
    return None


def _text(path: str, files: Sequence[Path]) -> Guess:
    first = files[0]
    if is_flickr(first):
        return flickr(first)
    if first.name.endswith(".txt"):
        look = look_into_table(first)
        if look.image is not None:
            options = {"path": str(first.parent), "captions": first.name}
            return Guess(
                Part(ROOM, "folder", options),
                f"{first.name} names images and their captions.",
                (Part(ROOM, "texts", {"path": path}),),
            )
    return _by_suffix(path)


def _json(path: str, files: Sequence[Path]) -> Guess:
    first = files[0]
    if first.name in HUB:
        return hub(str(first.parent), first.name)
    if is_flickr(first):
        return flickr(first)
    if COCO.fullmatch(first.name) or first.name == "images.json":
        return coco(first)
    if (lines := asked_lines(first)) is not None:
        return Guess(*lines)
    look = look_into_json(first)
    if (asked := asked_file(first, look.entries)) is not None:
        return Guess(*asked)
    if any("negative_caption" in entry for entry in look.entries):
        return Guess(
            Part(ROOM, "sugarcrepe", {"path": str(first.parent)}),
            f"{first.name} holds right and wrong captions, as SugarCrepe's files do.",
        )
    if look.arrays & {"images", "annotations"} or look.has_lists:
        return coco(first)
    beside = Part(ROOM, "folder", {"path": str(first.parent), "captions": first.name})
    if look.captions:
        return Guess(beside, f"{first.name} names images and their captions.")
    raise ConfigError(
        f"{path!r} does not tell its layout: it is JSON with neither images nor captions at its "
        "top; give a folder or a table, or write FORMAT:path=..."
    )


def coco(file: Path) -> Guess:
    part = Part(ROOM, "coco", {"path": str(file)})
    why = f"{file.name} lists photos, as COCO's files do."
    return _trained_on(part, ["train", "restval"], why) if _has_splits(file) else Guess(part, why)


def is_flickr(file: Path) -> bool:
    """Return whether a file is named like Flickr30k's, and names images where many files do."""
    if not _FLICKR.fullmatch(file.name):
        return False
    try:
        return file.suffix != ".csv" or look_into_table(file).image is not None
    except DataError:
        return False


def flickr(file: Path) -> Guess:
    part = Part(ROOM, "flickr30k", {"path": str(file)})
    why = f"{file.name} is named like Flickr30k's."
    return _trained_on(part, "train", why) if _has_splits(file) else Guess(part, why)


def _has_splits(file: Path) -> bool:
    """Return whether a file says of each photo which of the usual splits it belongs to."""
    if _KARPATHY.fullmatch(file.name):
        return look_into_json(file).has_splits
    return file.suffix == ".csv" and "split" in look_into_table(file).columns


def _trained_on(part: Part, split: str | list[str], why: str) -> Guess:
    """Return a guess at the photos that are trained on: mixed, a model is judged on what it saw."""

    def of(split: str | list[str]) -> Part:
        return Part(ROOM, part.name, {**part.options, "split": split})

    why = f"{why[:-1]}; the file's other splits are left aside."
    return Guess(of(split), why, (of("val"), of("test"), part))


def hub(folder: str, name: str) -> Guess:
    return Guess(
        Part(ROOM, "huggingface", {"path": folder}),
        f"{folder} holds {name}, as Hugging Face's datasets write.",
    )


_FILE_LOOKS: tuple[tuple[Callable[[str], bool], Callable[[str, Sequence[Path]], Guess]], ...] = (
    (lambda name: name.endswith(".tar"), _tars),
    (lambda name: name.endswith(_TABLES), _table),
    (lambda name: name.endswith((".txt", ".token")), _text),
    (lambda name: name.endswith(".json"), _json),
    (lambda name: name.endswith(".arrow"), lambda path, files: hub(str(files[0].parent), path)),
)


def packed_folder(path: str, files: Sequence[str]) -> Guess | None:
    """Look for what `lift data pack` wrote, whose manifest names the roles."""
    if "manifest.json" not in files:
        return None
    try:
        told = json.loads(read_bounded(f"{path}/manifest.json", _MOST_MANIFEST, "Packed"))
    except (DataError, ValueError, RecursionError):
        return None
    roles = told.get("having") if isinstance(told, dict) else None
    if not isinstance(roles, dict) or not roles or told.get("format") != "lift.pack/1":
        return None
    options = {"path": f"{path}/shard-*.tar", "caption_field": list(roles), "key_field": "key"}
    return Guess(Part(ROOM, "webdataset", options), "manifest.json is of `lift data pack`.")
