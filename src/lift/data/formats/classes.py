"""A folder for each class, as ImageNet lies on disk; captions are made from templates."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lift.data import kinds
from lift.data.formats._captions import captions
from lift.data.formats._files import folder_of, is_folder, scan, walk
from lift.data.formats._images import IMAGES, is_text
from lift.data.formats._layout import Absent, Bounds, Told
from lift.data.formats._paths import read_bounded
from lift.data.formats._ragged import Ragged, in_order
from lift.data.formats._records import Listed
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Sample

SPLITS = frozenset(("train", "training", "val", "validation", "valid", "dev", "test"))
_MOST_FILE = 16 << 20
_WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of class folders. Keys are paths from the folder (`tench/1.jpg`).

    Attributes:
        path: the folder whose folders are the classes, numbered in the order of their names.
        names: a file with the classes' names: JSON, `{"folder": "name"}` or a list in the order
            of the folders, or lines `FOLDER<tab>NAME` or `FOLDER NAME, SYNONYM, ...` (the first
            is taken). None takes the folders' names, with spaces for `_` and `-`.
        templates: what a class's captions are, with `{}` for its name; or a file of them, one a
            line.
        allow_outside: follow links that lead out of the folder.
    """

    path: str = ""
    names: str | None = None
    templates: str | tuple[str, ...] = "a photo of a {}."
    allow_outside: bool = False


def build(config: Config) -> Classes:
    """List the folders and return the source.

    Raises:
        ConfigError: a template without `{}`, or folders that need `names`.
        DataError: no such folder or file, a class without a name, or no samples.
        BrokenSample: the first file that is left out, where `strict`.
    """
    return Classes(config)


class Classes(Listed):
    """Records are file names; the first folder of a name is the class.

    Attributes:
        classes: their names, in order.
    """

    def __init__(self, config: Config) -> None:
        """List the images and give each class its captions."""
        root = folder_of(config.path, "the folder whose folders are the classes")
        absent = Absent(strict=config.strict)
        folders = sorted(
            entry.name
            for entry in scan(root, root)
            if is_folder(entry) and not entry.name.startswith(".") and is_text(entry.name)
        )
        if not folders:
            raise DataError(f"{config.path} holds no folders; classes are folders of images.")
        if len(folders) > 1 and {folder.lower() for folder in folders} <= SPLITS:
            raise ConfigError(
                f"The folders of {config.path} are splits ({', '.join(folders)}), not classes; "
                f"set path to one of them, as {os.path.join(config.path, folders[-1])}."
            )
        self.classes = _class_names(config, folders)
        self._numbers = {folder: number for number, folder in enumerate(folders)}
        templates = _templates(config.templates)
        self._captions = tuple(
            tuple(
                caption
                for template in templates
                for caption in captions(
                    template.replace("{}", name), "class", name, config.max_caption_chars
                )
            )
            for name in self.classes
        )
        self._folders = folders
        records = Ragged(self._images(config, absent))
        super().__init__(config.path, root, records, config, absent, config.allow_outside)

    def _images(self, config: Config, absent: Absent) -> Iterator[bytes]:
        files = walk(config.path, IMAGES, config, absent, config.allow_outside)
        filled: set[str] = set()
        for item in in_order(file.name.encode() for file in files):
            folder, slash, _ = item.decode().partition("/")
            if slash:
                filled.add(folder)
                yield item
            else:
                absent.add(kinds.IMAGE_WITHOUT_CAPTION, folder)
        for folder in self._folders:
            if folder not in filled:
                absent.tally.add(kinds.NO_IMAGES_IN_CLASS, folder)

    def _read(self, group: int, place: int) -> Sample:
        name = self._records[place].decode()
        number = self._number(name)
        fields = {
            "label": str(number),
            "class": self.classes[number],
            "folder": self._folders[number],
        }
        return Sample(name, self._image(name, name), self._captions[number], fields)

    def _told(self, group: int) -> Iterator[Told]:
        for name in map(bytes.decode, self._records):
            yield name, partial(self._of_class, self._number(name))

    def _number(self, name: str) -> int:
        return self._numbers[name.partition("/")[0]]

    def _of_class(self, number: int) -> tuple[Caption, ...]:
        return self._captions[number]


def _templates(words: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(words, str) and "{}" not in words and os.path.isfile(words):
        lines = _text(words, "templates").split("\n")
        words = tuple(line.strip() for line in lines if line.strip())
    templates = (words,) if isinstance(words, str) else words
    if not templates:
        raise ConfigError("templates holds none; give sentences with {} for the class's name.")
    for template in templates:
        if "{}" not in template:
            raise ConfigError(
                f"The template {template!r} has no {{}} for the class's name, and is no file."
            )
    return templates


def _class_names(config: Config, folders: list[str]) -> tuple[str, ...]:
    if config.names is None:
        coded = [folder for folder in folders if _WORDNET.fullmatch(folder)]
        if coded:
            raise ConfigError(
                f"{len(coded)} folders of {config.path} are WordNet numbers (the first: "
                f"{coded[0]}), which say nothing; give names=FILE with lines 'FOLDER NAME'."
            )
        named = [re.sub(r"[\s_-]+", " ", folder).strip() for folder in folders]
    else:
        given = _given_names(config.names)
        if isinstance(given, list):
            if len(given) != len(folders):
                raise DataError(
                    f"{config.names} has {len(given)} names for the {len(folders)} folders of "
                    f"{config.path}; a list needs one for each, in their order."
                )
            named = given
        else:
            missing = [folder for folder in folders if folder not in given]
            if missing:
                raise DataError(
                    f"{config.names} has no name for {len(missing)} folders of {config.path} "
                    f"(the first: {missing[0]})."
                )
            named = [given[folder] for folder in folders]
    for folder, name in zip(folders, named, strict=True):
        if not name.strip():
            raise DataError(f"The class {folder} of {config.path} has an empty name; set names=.")
    return tuple(name.strip() for name in named)


def _given_names(file: str) -> dict[str, str] | list[str]:
    """Return what a file of names holds: by folder, or in order."""
    text = _text(file, "names")
    if not file.endswith(".json"):
        return dict(map(_named, filter(str.strip, text.split("\n"))))
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}).") from error
    if isinstance(found, dict) and all(_is_pair(value) for value in found.values()):
        # Keras' form: {"0": ["n01440764", "tench"], ...}
        return {folder: name.replace("_", " ") for folder, name in found.values()}
    named = list(found.values()) if isinstance(found, dict) else found
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        return found
    raise DataError(f'{file} holds neither {{"folder": "name"}} nor a list of names.')


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)
    )


def _named(line: str) -> tuple[str, str]:
    folder, tab, name = line.strip().partition("\t")
    if tab:
        return folder.strip(), name.strip()
    folder, _, name = line.strip().partition(" ")
    return folder, name.split(",")[0].strip()


def _text(file: str, what: str) -> str:
    try:
        return read_bounded(file, _MOST_FILE, f"{what}=").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what}={file} is not UTF-8 ({error}).") from error
