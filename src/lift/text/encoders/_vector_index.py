"""From texts, or keys of images, to row numbers: indexes on disk, whatever the number of rows."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from lift.errors import DataError
from lift.files import told_plainly
from lift.text.encoder import clean
from lift.text.encoders._vector_rows import Rows
from lift.text.keys import KEY, KeyIndex, keys_of

_CHUNK = 4_096
_BLOCK = 16_384
_READ = 1_024

_PROBES = 32

_DIRECTIONS = 8
_DIFFERENT = 0.02
"""Of a row's length. Rows of one text differ by at most 0.01 through bfloat16 or float16; rows
0.1 apart pass for equal on eight random directions with a probability of about 1e-6."""

_IMAGES = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .jp2 .ppm".split()
)
"""Endings that a key may have on one side and lack on the other."""


class Spill:
    """An array that grows in an unnamed temporary file; mapped, its pages are cache, not memory.

    Used as a context: the file is closed at its end, and what `array` returned stays.
    """

    def __init__(self, kind: Any, scratch: Path | None) -> None:
        self._kind = np.dtype(kind)
        self._where = scratch or Path(tempfile.gettempdir())
        with told_plainly(self._where):
            self._file = tempfile.TemporaryFile(dir=scratch)

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        with told_plainly(self._where):
            self._file.close()

    def append(self, values: np.ndarray) -> None:
        with told_plainly(self._where):
            self._file.write(np.ascontiguousarray(values, self._kind).view(np.uint8).data)

    def reserve(self, count: int) -> None:
        """Put zeros for `count` values; a full disk is told now, not by a signal later."""
        for start in range(0, count, _BLOCK):
            self.append(np.zeros(min(_BLOCK, count - start), self._kind))

    def array(self) -> np.ndarray:
        """Return everything, writable."""
        with told_plainly(self._where):
            self._file.flush()
        if not os.fstat(self._file.fileno()).st_size:
            return np.empty(0, self._kind)
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0), self._kind)


class Smallest:
    """The texts with the smallest keys among many: a sample that no order of them changes."""

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}

    def add(self, keys: np.ndarray, texts: list[str]) -> None:
        full = len(self._texts) == _PROBES
        near = np.flatnonzero(keys < max(self._texts)) if full else range(len(keys))
        self._texts |= {bytes(keys[i]): texts[i] for i in near if texts[i]}
        self._texts = dict(sorted(self._texts.items())[:_PROBES])

    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts.values())


class TextIndex:
    """Rows by the key of their text.

    Attributes:
        probes: up to 32 of the texts.
        counters: what was found odd.
    """

    def __init__(
        self, chunks: Iterator[list[str | None]], rows: Rows, scratch: Path | None
    ) -> None:
        """Read all texts once.

        Raises:
            DataError: a file that can't be read, not as many texts as rows, or no text at all.
            StorageError: the disk of the temporary files is full.
        """
        smallest = Smallest()
        missing = 0

        def keys(spilled: Spill) -> Iterator[np.ndarray]:
            nonlocal missing
            for chunk in chunks:
                absent = [text is None for text in chunk]
                cleaned = [clean(text or "") for text in chunk]
                found = keys_of(cleaned)
                if any(absent):
                    missing += sum(absent)
                    found = np.where(absent, b"", found).astype(KEY)
                smallest.add(found, cleaned)
                spilled.append(found)
                yield found

        with Spill(KEY, scratch) as spilled:
            self._index = KeyIndex.on_disk(keys(spilled), scratch)
            every = spilled.array()
        self.probes = smallest.texts()
        if not self.probes:
            raise DataError("The rows of vectors come without a single text that is not empty.")
        repeated, different = compare_repeated(every, self._index, rows, scratch)
        self.counters = {
            "rows without a text": missing,
            "texts given again": repeated,
            "of them with another vector, which is not used": different,
        }

    def find(self, keys: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row of every caption key, -1 where there is none."""
        return self._index.find(keys)


class KeyJoin:
    """Rows by the key of the caption whose image has the key that a row has.

    Attributes:
        probes: up to 32 of the captions.
        counters: what was found odd.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[str, str]],
        chunks: Iterator[list[str | None]],
        rows: Rows,
        folders: bool,
        scratch: Path | None,
    ) -> None:
        """Read all keys of rows, then all pairs, once each.

        Args:
            pairs: (key of the sample, caption).
            chunks: keys of the rows.
            rows: the vectors.
            folders: whether the folder before a key's last slash belongs to it.
            scratch: folder of the temporary files.

        Raises:
            DataError: see `TextIndex`; no key in common, a row that would stand for two
                captions, or names that only their folders tell apart where the data has none.
            StorageError: the disk of the temporary files is full.
        """
        pairs, first = _peeked(pairs, "There are no captions to join with the vectors.")
        chunks, head = _peeked(chunks, "The files of vectors hold no keys.")
        self._theirs = next((key for key in head if key is not None), "")
        self._ours = first[0]
        deepest = min(2, len(parts(self._theirs)))
        self._depth = min(deepest, len(parts(self._ours))) if folders else 1
        self._scratch, self._rows = scratch, rows
        self.counters: dict[str, int] = {}
        by_key = self._index_keys(chunks, self._depth < deepest)
        self._index, self._row_of, self.probes = self._index_captions(pairs, by_key)

    def find(self, keys: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row of every caption key, -1 where there is none."""
        at = self._index.find(keys)
        return np.where(at < 0, -1, self._row_of[at]) if len(self._row_of) else at

    def _index_keys(self, chunks: Iterator[list[str | None]], flattened: bool) -> KeyIndex:
        missing = 0

        def keys(spilled: Spill) -> Iterator[np.ndarray]:
            nonlocal missing
            for chunk in chunks:
                found = self._keys([key or "" for key in chunk])
                absent = [not key for key in chunk]
                missing += sum(absent)
                found = np.where(absent, b"", found).astype(KEY)
                spilled.append(found)
                yield found

        with Spill(KEY, self._scratch) as spilled:
            index = KeyIndex.on_disk(keys(spilled), self._scratch)
            every = spilled.array()
        repeated, different = compare_repeated(every, index, self._rows, self._scratch)
        if flattened and different:
            raise DataError(
                f"{different:,} keys of the vectors (the first of all is {self._theirs!r}) differ "
                f"from another one in their folder alone, but the data's keys ({self._ours!r}) "
                "are compared without: give data whose keys have the folder in front."
            )
        self.counters = {
            "rows without a key": missing,
            "keys given again": repeated,
            "of them with another vector, which is not used": different,
        }
        return index

    def _index_captions(
        self, pairs: Iterator[tuple[str, str]], by_key: KeyIndex
    ) -> tuple[KeyIndex, np.ndarray, tuple[str, ...]]:
        """Return (caption key -> position, position -> row, probes)."""
        smallest = Smallest()
        with Spill(np.uint64, self._scratch) as marks:
            marks.reserve(len(self._rows))
            owner = marks.array()
        asked = joined = 0

        def keys(row_of: Spill) -> Iterator[np.ndarray]:
            nonlocal asked, joined
            while chunk := list(itertools.islice(pairs, _CHUNK)):
                rows = by_key.find(self._keys([key for key, _ in chunk]))
                here = np.flatnonzero(rows >= 0)
                texts = [clean(chunk[i][1]) for i in here]
                found = keys_of(texts)
                shared = _claim(owner, rows[here], found)
                if shared is not None:
                    key, text = chunk[here[shared]]
                    raise DataError(
                        f"The vector with the key {key!r} would stand for {text!r} and for "
                        "another caption too: vectors joined by key allow one caption an image, "
                        "so choose it by its role (a role filter on the data)."
                    )
                asked, joined = asked + len(chunk), joined + len(here)
                smallest.add(found, texts)
                row_of.append(rows[here])
                yield found

        with Spill(np.int64, self._scratch) as row_of:
            index = KeyIndex.on_disk(keys(row_of), self._scratch)
            rows_of = row_of.array()
        if not joined:
            raise DataError(
                f"No key of the data (the first is {self._ours!r}) is among the keys of the "
                f"vectors (the first is {self._theirs!r}); endings like .jpg don't count, the "
                "folder in front does unless folders=false."
            )
        self.counters["captions whose image has no vector"] = asked - joined
        return index, rows_of, smallest.texts()

    def _keys(self, names: list[str]) -> np.ndarray:
        return keys_of([clean("/".join(parts(name)[-self._depth :])) for name in names])


def parts(key: str) -> list[str]:
    """Return the folders and the name of an image's key, without an image file's ending."""
    found = [part for part in key.split("/") if part not in ("", ".")] or [key]
    stem, dot, ending = found[-1].rpartition(".")
    if stem and dot + ending.lower() in _IMAGES:
        found[-1] = stem
    return found


def _claim(owner: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> int | None:
    """Mark rows with the captions that take them; return where a row has another one's mark."""
    marks = keys.view(np.uint64)[::2] | np.uint64(1)  # zero is for nobody
    held = owner[rows]
    taken = (held != 0) & (held != marks)
    if not taken.any():
        owner[rows] = marks
        taken = owner[rows] != marks  # two in this chunk: the last one's mark stayed
    return int(np.argmax(taken)) if taken.any() else None


def _peeked(items: Iterable[Any], empty: str) -> tuple[Iterator[Any], Any]:
    """Return (all items again, the first one)."""
    stream = iter(items)
    for first in stream:
        return itertools.chain([first], stream), first
    raise DataError(empty)


def compare_repeated(
    keys: np.ndarray, index: KeyIndex, rows: Rows, scratch: Path | None
) -> tuple[int, int]:
    """Return (rows whose key an earlier row has, those of them whose vector is another).

    Only rows that share a key are read, once each, in the order of the files.
    """
    with contextlib.ExitStack() as stack:
        pairs, members, sketches = (
            stack.enter_context(Spill(kind, scratch)) for kind in (np.int64, np.int64, np.float32)
        )
        for start in range(0, len(keys), _BLOCK):
            some = keys[start : start + _BLOCK]
            order = np.argsort(some)  # an index on disk likes neighbours
            first = np.empty(len(some), np.int64)
            first[order] = index.find(some[order])
            own = np.arange(start, start + len(some))
            again = (first != own) & (some != b"")
            pairs.append(np.stack([first[again], own[again]], axis=1))
        repeated = pairs.array().reshape(-1, 2)
        for start in range(0, len(repeated), _BLOCK):
            members.append(repeated[start : start + _BLOCK].ravel())
        ascending = members.array()
        ascending.sort()
        directions = np.random.default_rng(0).standard_normal((rows.dimensions, _DIRECTIONS), "f4")
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(ascending), _READ):
                sketches.append(rows.read(ascending[start : start + _READ]) @ directions)
        return len(repeated), _count_different(repeated, ascending, sketches.array())


def _count_different(repeated: np.ndarray, ascending: np.ndarray, sketches: np.ndarray) -> int:
    """Return of how many pairs of rows the sketches differ by more than rounding."""
    sketches = sketches.reshape(-1, _DIRECTIONS)
    different = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(repeated), _BLOCK):
            at = np.searchsorted(ascending, repeated[start : start + _BLOCK])
            a, b = sketches[at[:, 0]], sketches[at[:, 1]]
            length = np.sqrt(np.maximum((a * a).mean(axis=1), (b * b).mean(axis=1)))
            different += int((np.abs(a - b).max(axis=1) > _DIFFERENT * length).sum())
    return different
