"""NLVR: sentences that are true or false of an image, as tables or in the corpus's own files.

The corpus (Suhr et al. 2017, github.com/lil-lab/nlvr) has SPLIT.json, a line of JSON for each
example (sentence, identifier, directory, label), beside images/DIRECTORY/SPLIT-IDENTIFIER-K.png,
six orders (K) of the same boxes. A table has a row for each image: image, sentence, label.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data import kinds
from lift.data.formats._annotations import image_folder
from lift.data.formats._captions import as_fields, captions
from lift.data.formats._images import is_text
from lift.data.formats._layout import Absent, Layout
from lift.data.formats._ragged import Ragged
from lift.data.formats._records import Recorded, record
from lift.data.formats._row_samples import RowOptions, RowSamples
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Caption, Foil
from lift.text.reading import numbered_lines

ROLE = "sentence"
"""The role of a text that may be false of its image: no caption to train on."""

_ORDERS = 6


@dataclass(frozen=True, kw_only=True)
class Config(RowOptions):
    """Options of NLVR. Labels and other columns become fields; sentences have the role "sentence".

    Attributes:
        path: a table, SPLIT.json, or a folder with one of them.
        sentence: the column with sentences.
        label: the column that says whether they are true.
        images: the folder of the images of SPLIT.json; None looks for `images` beside it.
        orders: of SPLIT.json, how many of the six orders of boxes to read.
    """

    path: str | tuple[str, ...] = ""
    sentence: str = "sentence"
    label: str = "label"
    images: str | None = None
    orders: int = _ORDERS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.orders <= _ORDERS:
            raise ConfigError(f"orders must be from 1 to {_ORDERS}, not {self.orders}.")


def build(config: Config) -> Layout:
    """Open the table, or read the corpus's file, and return the source.

    Raises:
        DataError: nothing there, a file of another form, or a column is missing.
        BrokenSample: strict, and something is left out.
    """
    if not config.path:
        raise DataError("No path was given; set path to NLVR's table, SPLIT.json or their folder.")
    file = _corpus(config.path)
    if file is not None:
        absent = Absent(strict=config.strict)
        root = image_folder(config.images, (file.parent,), ("images",), ())
        found = Ragged(_records(file, root, config, absent))
        return Recorded(str(config.path), root, found, config, absent, data_set="nlvr")
    return Sentences(config)


def _corpus(path: str | tuple[str, ...]) -> Path | None:
    """Return the corpus's file that a path names or holds; None where it is a table."""
    if not isinstance(path, str):
        return None
    if os.path.isdir(path):
        files = sorted(file for file in Path(path).glob("*.json") if file.is_file())
        if len(files) > 1:
            named = ", ".join(file.name for file in files[:5])
            raise DataError(f"{path} holds several files to read ({named}); set path to one.")
        if not files:
            raise DataError(f"No SPLIT.json is in {path}; set path to the file or the table.")
        return files[0]
    if not path.endswith(".json"):
        return None
    if not os.path.isfile(path):  # a pipe would never end
        raise DataError(f"{path} is not an ordinary file; set path to NLVR's SPLIT.json.")
    return Path(path)


def _records(file: Path, root: str, config: Config, absent: Absent) -> Iterator[bytes]:
    """Yield a record of each image that is there."""
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        where = f"{file}, line {number},"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is not JSON ({error}).") from error
        name, folder = (_value(entry, field, where) for field in ("identifier", "directory"))
        label = _value(entry, config.label, where)
        told = captions(entry.get(config.sentence), ROLE, where, config.max_caption_chars)
        fields = {"identifier": name, "directory": folder, config.label: label}
        for order in range(config.orders):
            image = f"{folder}/{file.stem}-{name}-{order}.png"
            if not os.path.isfile(os.path.join(root, image)):
                absent.add(kinds.IMAGE_MISSING, image)
                continue
            yield record(image.rpartition("/")[2], image, told, {**fields, "order": str(order)})


def _value(entry: Any, field: str, where: str) -> str:
    value = entry.get(field) if isinstance(entry, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, str | int) else ""
    if not text or not is_text(text) or "/" in text or "\0" in text:
        raise DataError(f"{where} has no {field} (it is {value!r:.60}).")
    return text


class Sentences(RowSamples):
    """Rows with an image, a sentence and whether it is true."""

    def __init__(self, config: Config) -> None:
        self._sentence = config.sentence
        super().__init__(config, [config.sentence, config.label])
        self._label = config.label

    def _texts(
        self, row: Mapping[str, Any], key: str
    ) -> tuple[tuple[Caption, ...], tuple[Foil, ...]]:
        if not as_fields({self._label: row[self._label]}, ()):
            raise BrokenSample(kinds.ROW_FORM, f"Sample {key} says nothing in {self._label!r}.")
        told = captions(row[self._sentence], ROLE, key, self.bounds.max_caption_chars)
        return tuple(told), ()
