"""What layout lies at a path: a bounded look at names, first members and first rows."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from lift.config import Part
from lift.data._guessed_files import (
    COCO,
    HUB,
    ROOM,
    SUFFIXES,
    Guess,
    coco,
    flickr,
    guess_file,
    hub,
    is_flickr,
    of_table,
    of_tar,
)
from lift.data._known_sets import known_set
from lift.data._looks import look_into_table, look_into_tar, read_small_json, text_fields
from lift.data.formats._caption_files import CAPTION_FILES
from lift.data.formats._files import ending_of, is_file, is_folder, without_ending
from lift.data.formats._images import IMAGES
from lift.errors import ConfigError, DataError

__all__ = ["SUFFIXES", "Guess", "guess"]

_TABLES = ("parquet", "jsonl", "csv", "tsv")
_SPLITS = ("train", "training", "val", "validation", "valid", "dev", "test")
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)})(?![a-z])")
_ENTRIES = 5_000
_FOLDERS = 20
_DEPTH = 3


def guess(path: str) -> Guess:
    """Return the layout at a path, a glob, a brace range or a URL; nothing is opened whole.

    Raises:
        ConfigError: nothing that tells a layout; the sentence says what is there and what to write.
        DataError: a file that has to be looked into can't be read.
    """
    return _folder(path, _DEPTH) if os.path.isdir(path) else guess_file(path)


@dataclass(frozen=True)
class _Listing:
    """The first entries of a folder, sorted."""

    path: str
    files: tuple[str, ...]
    folders: tuple[str, ...]

    def of(self, *endings: str) -> list[str]:
        """Return the files of some endings."""
        return [name for name in self.files if ending_of(name) in endings]

    def kinds(self) -> str:
        """Return `3 .jpg, 2 folders` for a sentence."""
        counts = Counter(f".{ending_of(name)}" for name in self.files)
        told = [f"{count} {kind}" for kind, count in counts.most_common(6)]
        return ", ".join(told + [f"{len(self.folders)} folders"] * bool(self.folders)) or "nothing"


def _listing(path: str) -> _Listing:
    try:
        with os.scandir(path) as entries:
            shown = [e for e in islice(entries, _ENTRIES) if _is_shown(e.name)]
            # Neither: a pipe, which would never end, or a link that leads nowhere.
            seen = [(e.name, is_folder(e)) for e in shown if is_folder(e) or is_file(e)]
    except OSError as error:
        raise DataError(f"{path} can't be listed ({error.strerror}).") from error
    seen.sort()
    files = tuple(name for name, folder in seen if not folder)
    return _Listing(path, files, tuple(name for name, folder in seen if folder))


def _is_shown(name: str) -> bool:
    return not name.startswith((".", "_")) and name.encode("utf-8", "replace").decode() == name


def _folder(path: str, depth: int) -> Guess:
    here = _listing(path)
    for look in (_masked, _named_files, _archives, _captioned, _tables, _images):
        found = look(here)
        if found is not None:
            return found
    found = _deeper(here, depth - 1) if depth else None
    if found is not None:
        return found
    raise ConfigError(
        f"{path} does not tell its layout: it holds {here.kinds()}; give a folder of images, "
        "tars or tables, or write FORMAT:path=..."
    )


def _masked(here: _Listing) -> Guess | None:
    """Look for Pascal VOC's folders."""
    if not {"JPEGImages", "SegmentationClass"} <= set(here.folders):
        return None
    lists = os.path.join(here.path, "ImageSets", "Segmentation")
    splits = [name[:-4] for name in _listing(lists).of("txt")] if os.path.isdir(lists) else []
    # What is judged on comes first: few train on masks here.
    splits.sort(key=lambda name: (name != "val", name))
    parts = [Part(ROOM, "voc", {"path": here.path, "split": split}) for split in splits or [""]]
    why = f"{here.path} holds JPEGImages and SegmentationClass, as Pascal VOC does."
    return Guess(parts[0], why, tuple(parts[1:]))


def _named_files(here: _Listing) -> Guess | None:
    """Look for files whose names tell their data set."""
    if (known := known_set(here.path, here.files)) is not None:
        return known
    for name in here.files:
        if name in HUB:
            return hub(here.path, name)
    subs = {sub: _listing(os.path.join(here.path, sub)) for sub in _known_folders(here)}
    for place in (here, *subs.values()):
        official = [name for name in place.of("json") if COCO.fullmatch(name)]
        if official:
            return _coco(place, official)
    for name in here.files:
        if is_flickr(Path(here.path, name)):
            return flickr(Path(here.path, name))
    questions = next((p for p in (here, *subs.values()) if _has_questions(p)), None)
    crepe = Part(ROOM, "sugarcrepe", {"path": here.path})
    if "images.json" in here.files:
        others = (crepe,) if questions else ()
        file = os.path.join(here.path, "images.json")
        return Guess(Part(ROOM, "coco", {"path": file}), "images.json lists photos.", others)
    if questions is not None:
        return Guess(crepe, f"{questions.path} holds SugarCrepe's questions.")
    return None


def _known_folders(here: _Listing) -> list[str]:
    return [name for name in here.folders if name in ("annotations", "sugarcrepe")]


def _coco(place: _Listing, names: Sequence[str]) -> Guess:
    # What is trained on comes first.
    names = sorted(names, key=lambda name: ("train" not in name, name))
    first, *rest = [coco(Path(place.path, name)) for name in names]
    return dataclasses.replace(first, others=(*first.others, *(found.part for found in rest)))


def _has_questions(place: _Listing) -> bool:
    names = place.of("json")
    if not names or "images.json" in names[:1]:
        return False
    entries = read_small_json(Path(place.path, names[0])).values()
    entry = next(iter(entries), None)
    return isinstance(entry, dict) and "negative_caption" in entry


def _archives(here: _Listing) -> Guess | None:
    """Look into the first tar, here or in the folders below."""
    # `_deeper` looks into folders that are splits.
    below = [] if set(_SPLITS) & set(here.folders) else _some_folders(here)
    places = [place for place in ([here] if here.of("tar") else below) if place.of("tar")]
    tars = [name for place in places for name in place.of("tar")]
    if not tars:
        return None
    names, *rest = _by_split(tars)
    if len(places) > 1 and not rest and any(names.split != _split_of(tar) for tar in tars):
        return None  # folders of several data sets, some of them in splits
    first = Path(places[0].path, names.files[0])
    if not first.is_file():
        return None
    beside = {f"{first.stem}.parquet", f"{first.stem}_stats.json"} & set(places[0].files)
    path, *others = (
        os.path.join(here.path, part.glob if places == [here] else f"*/{part.split}*.tar")
        for part in (names, *rest)
    )
    found = of_tar(path, places[0].path, first.name, look_into_tar(first), bool(beside))
    return _with_splits(found, path, others)


class _Split(NamedTuple):
    """Files of one split ("" of none or of several), and a glob for them (of one, its name)."""

    split: str
    glob: str
    files: list[str]


def _by_split(names: Sequence[str]) -> list[_Split]:
    """Divide files of one ending by the split that their names start with, training first.

    Files of one folder are often both: mixed, a model would be judged on what it was shown.
    """
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(_split_of(name), []).append(name)
    end = f"*.{ending_of(names[0])}"
    if "" in splits or len(splits) < 2:
        split = next(iter(splits)) if len(splits) == 1 else ""
        return [_Split(split, end if len(names) > 1 else names[0], list(names))]
    return [
        _Split(split, split + end if len(splits[split]) > 1 else splits[split][0], splits[split])
        for split in sorted(splits, key=_SPLITS.index)
    ]


def _split_of(name: str) -> str:
    match = _SPLIT.match(name)
    return match[0] if match else ""


def _with_splits(found: Guess, path: str, others: Sequence[str]) -> Guess:
    """Return a guess with the same part for other splits, where it holds the path."""
    options = found.part.options
    if not others or options.get("path") != path:
        return found
    parts = tuple(
        dataclasses.replace(found.part, options={**options, "path": other}) for other in others
    )
    why = f"{found.why[:-1]}; the folder's other splits are left aside."
    return Guess(found.part, why, (*found.others, *parts))


def _some_folders(here: _Listing) -> list[_Listing]:
    return [_listing(os.path.join(here.path, name)) for name in here.folders[:_FOLDERS]]


def _captioned(here: _Listing) -> Guess | None:
    """Look for one file with the captions of images that lie here or below."""
    below = [name for sub in _some_folders(here) for name in sub.of(*IMAGES)]
    if not here.of(*IMAGES) and not below:
        return None
    for name in CAPTION_FILES:
        if name in here.files:
            look = None if name.endswith(".json") else look_into_table(Path(here.path, name))
            if look is not None and (look.image is None or not look.is_path):
                continue
            options = {"path": here.path}
            return Guess(Part(ROOM, "folder", options), f"{here.path} holds images and {name}.")
    return None


def _tables(here: _Listing) -> Guess | None:
    """Look into the first table, here or in the folder `data` (as on Hugging Face's hub)."""
    data = [_listing(os.path.join(here.path, "data"))] if "data" in here.folders else []
    for place in (here, *data):
        for ending in _TABLES:
            if not place.of(ending):
                continue
            names, *rest = _by_split(place.of(ending))
            first = Path(place.path, names.files[0])
            path = os.path.join(place.path, names.glob)
            images = os.path.join(here.path, "images") if "images" in here.folders else None
            found = of_table(path, first, look_into_table(first), images)
            if found.part.name != "texts" or not _images(here):
                others = [os.path.join(place.path, other.glob) for other in rest]
                return _with_splits(found, path, others)
    return None


def _images(here: _Listing) -> Guess | None:
    """Look at images, what lies beside them, and the folders they lie in."""
    images = here.of(*IMAGES)
    below = [sub for sub in _some_folders(here) if sub.of(*IMAGES)]
    by_name = Part(ROOM, "folder", {"path": here.path, "names": True})
    for place in (here, *below):
        found = _beside(here.path, place)
        if found is not None:
            return found
    if images and _are_told(images):
        return Guess(
            by_name, f"{here.path} holds images and no captions, so their names have to do."
        )
    if images:
        raise ConfigError(
            f"{here.path} holds images without captions, and their names ({images[0]}, ...) say "
            "nothing: give NAME.txt beside each, or captions.csv with file_name and caption."
        )
    if below and len(below) * 2 > len(here.folders[:_FOLDERS]):
        if all(sub in _SPLITS for sub in here.folders):
            return None  # `_deeper` looks into one of them
        names = _names_file(here)
        options = {"path": here.path, **({"names": names} if names else {})}
        return Guess(
            Part(ROOM, "classes", options),
            f"{here.path} holds {len(here.folders)} folders of images without captions "
            f"(the first: {here.folders[0]}), which are taken for classes.",
            (by_name,),
        )
    return None


def _are_told(names: Sequence[str]) -> bool:
    """Return whether names of images read like captions: most have words, and not all the same."""
    words = {
        " ".join(word for word in re.split(r"[\s_+-]+", without_ending(name)) if _is_word(word))
        for name in names
    }
    return len(words - {""}) * 2 >= len(names)


def _is_word(text: str) -> bool:
    return text.isalpha() and (len(text) > 2 or not text.isascii())


def _beside(path: str, place: _Listing) -> Guess | None:
    """Look for `NAME.txt` or `NAME.json` beside `NAME.jpg`."""
    stems = {without_ending(name) for name in place.of(*IMAGES)}
    for ending in ("txt", "json"):
        paired = [name for name in place.of(ending) if without_ending(name) in stems]
        if not paired:
            continue
        options: dict[str, Any] = {"path": path}
        if ending == "json":
            fields = text_fields(read_small_json(Path(place.path, paired[0])))
            if not fields:
                continue
            options["caption_field"] = fields[0]
        return Guess(
            Part(ROOM, "folder", options),
            f"{place.path} holds images with {paired[0]} and the like beside them.",
            (Part(ROOM, "folder", {"path": path, "names": True}),),
        )
    return None


def _names_file(here: _Listing) -> str | None:
    """Return a file with classes' names that lies in the folder or above it."""
    above = os.path.dirname(os.path.abspath(here.path))
    for folder in (here.path, above, os.path.dirname(above)):
        for name in ("LOC_synset_mapping.txt", "imagenet_class_index.json", "classes.json"):
            if os.path.isfile(os.path.join(folder, name)):
                return os.path.join(folder, name)
    return None


def _deeper(here: _Listing, depth: int) -> Guess | None:
    """Look into the first of several splits, or into the only folder."""
    names = [name for name in _SPLITS if name in here.folders]
    if not names and len(here.folders) == 1:
        names = list(here.folders)
    found: list[Guess] = []
    for name in names:
        try:
            found.append(_folder(os.path.join(here.path, name), depth))
        except (ConfigError, DataError):
            continue
    if not found:
        return None
    others = tuple(other.part for other in found[1:]) + found[0].others
    return Guess(found[0].part, found[0].why, others)
