"""Images of a folder and rows of captions, joined by name on disk, whatever their order."""

from __future__ import annotations

import json
import os
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from lift.data import kinds
from lift.data.formats._caption_files import Row
from lift.data.formats._captions import Column, as_fields, captions
from lift.data.formats._files import without_ending
from lift.data.formats._layout import Absent
from lift.data.formats._ragged import Ragged, chunked, in_order
from lift.data.formats._records import record, written
from lift.errors import BrokenSample
from lift.terms import Caption
from lift.text.keys import KeyIndex, KeySet, keys_of

_CHUNK = 1024
_NONE, _SEVERAL = -1, -2
_HEAD = struct.Struct(">QBQ")


def _base(name: str) -> str:
    return name[name.rfind("/") + 1 :]


def _base_without_ending(name: str) -> str:
    return without_ending(_base(name))


_ALIASES: tuple[Callable[[str], str], ...] = (str, without_ending, _base, _base_without_ending)
"""What else an image may be called, tried in this order on names in Unicode's composed form."""

_LOOSE = (_base, _base_without_ending)
"""These forget the folder: what they find counts where no row has the image's path."""


class Names:
    """From what a row calls an image to the image's number."""

    def __init__(self, names: Ragged) -> None:
        """Index the names, which are all different."""
        self._names = names
        self._exact = KeyIndex.on_disk(keys_of(chunk) for chunk in self._chunks())
        self._others: list[tuple[KeyIndex, KeySet]] = []

    def _chunks(self) -> Iterator[list[str]]:
        for chunk in chunked(self._names, _CHUNK):
            yield [name.decode() for name in chunk]

    def __call__(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of each image [n], and which were found by their last name only.

        -1 stands where there is no such image, -2 where there are several.
        """
        found = self._exact.find(keys_of(_safe(words)))
        loosely = np.zeros(len(words), bool)
        for level in range(len(_ALIASES)):
            missing = np.flatnonzero(found == _NONE)
            if not len(missing):
                break
            index, several = self._other(level)
            keys = keys_of(_safe([composed(words[place]) for place in missing]))
            found[missing] = np.where(several.contains(keys), _SEVERAL, index.find(keys))
            loosely[missing] = _ALIASES[level] in _LOOSE
        return found, loosely

    def _other(self, level: int) -> tuple[KeyIndex, KeySet]:
        """Return the index of an alias and the keys that several images share."""
        if level == len(self._others):
            seen, several = KeySet(), KeySet()

            def keys() -> Iterator[np.ndarray]:
                for chunk in self._chunks():
                    here = keys_of([composed(_ALIASES[level](name)) for name in chunk])
                    several.add(here[~seen.add(here)])
                    yield here

            self._others.append((KeyIndex.on_disk(keys()), several))
        return self._others[level]


def composed(name: str) -> str:
    """Return a name with each accent and its letter in one character."""
    return unicodedata.normalize("NFC", name)


def _safe(words: Iterable[str]) -> list[str]:
    """Return words that can be encoded; what can't is no image's name."""
    return [word.encode("utf-8", "backslashreplace").decode() for word in words]


def _below(word: str, root: str) -> str | None:
    """Return a name in data as a path from `root`; None where it leads out."""
    if "/" not in word:
        word = word.replace("\\", "/")
    path = os.path.normpath(word)
    if os.path.isabs(path):
        base = root.rstrip("/") + "/"
        return path[len(base) :] if path.startswith(base) else None
    return None if path == ".." or path.startswith("../") else path


def joined(
    names: Ragged,
    rows: Iterable[Row],
    root: str,
    most: int,
    absent: Absent,
    unpaired: Callable[[str], None] | None = None,
) -> Iterator[bytes]:
    """Yield a record (see `_records.record`) of each image that has a caption, in order of names.

    Args:
        names: of all images from `root`, sorted; they become the keys.
        rows: with captions, in any order; the captions of an image keep it.
        root: the folder of the images.
        most: characters of a caption.
        absent: is told of rows without an image and without a usable caption.
        unpaired: is told of an image without a caption; None tells `absent`.
    """
    left_out = unpaired or (lambda name: absent.add(kinds.IMAGE_WITHOUT_CAPTION, name))
    ordered = in_order(_numbered(Names(names), rows, os.path.abspath(root), most, absent))
    next_one = 0
    for head, group in groupby(ordered, lambda item: item[:8]):
        number = int.from_bytes(head, "big")
        for skipped in range(next_one, number):
            left_out(names[skipped].decode())
        next_one = number + 1
        told: list[Caption] = []
        fields: dict[str, str] = {}
        by_path = False
        for item in group:
            where, texts, here = json.loads(item[_HEAD.size :])
            if item[8]:  # found loosely; such rows come last
                if by_path:
                    # The row means an image of the same name in another folder, which is missing.
                    absent.add(kinds.CAPTION_WITHOUT_IMAGE, where)
                    continue
            else:
                by_path = True
            told += [Caption(*pair) for pair in texts]
            fields = fields or here
        key = names[number].decode()
        yield record(key, key, told, fields)
    for skipped in range(next_one, len(names)):
        left_out(names[skipped].decode())


def _numbered(
    names: Names, rows: Iterable[Row], root: str, most: int, absent: Absent
) -> Iterator[bytes]:
    """Yield (image, whether found loosely, count, ...) in bytes that sort in this order."""
    count = 0
    for chunk in chunked(rows, _CHUNK):
        below = [_below(row.image, root) for row in chunk]
        numbers, loosely = names([name or "" for name in below])
        found = zip(chunk, below, numbers.tolist(), loosely.tolist(), strict=True)
        for row, name, number, loose in found:
            count += 1
            if name is None:
                absent.add(kinds.IMAGE_OUTSIDE, _example(row))
            elif number == _SEVERAL:
                absent.add(kinds.CAPTION_OF_SEVERAL, _example(row))
            elif number == _NONE:
                absent.add(kinds.CAPTION_WITHOUT_IMAGE, _example(row))
            elif told := checked(row.told, row.where, most, absent):
                where = _safe([_example(row)])[0] if loose else ""
                payload = (where, [c[:2] for c in told], _fields(row))
                head = _HEAD.pack(number, loose, count)
                yield head + written(payload).encode()


def _example(row: Row) -> str:
    return f"{row.where} ({row.image[:200]!r})"


def _fields(row: Row) -> dict[str, str]:
    found = as_fields(row.rest, ())
    return dict(zip(_safe(found), _safe(found.values()), strict=True))


def checked(
    told: Iterable[tuple[Column, Any]], where: str, most: int, absent: Absent
) -> list[Caption]:
    """Return the captions of columns; `absent` is told of each that can't be used.

    Args:
        told: (column, text or list of texts) each.
        where: they stand, for the sentence.
        most: characters of a caption.
        absent: is told.
    """
    usable: list[Caption] = []
    for column, value in told:
        for text in value if isinstance(value, list | tuple) and value else [value]:
            try:
                usable += captions([text], column.role, where, most)
            except BrokenSample as error:
                absent.broken(error)
    return usable
