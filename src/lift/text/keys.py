"""Sets and indexes of 16-byte caption keys, searched in bulk; large ones lie on disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool, Int64

from lift.files import told_plainly
from lift.text.encoder import KEY_BYTES, clean

KEY = np.dtype(f"S{KEY_BYTES}")
"""numpy's byte strings sort and compare whole 16-byte values in C; a void type does not sort."""


_IN_MEMORY = 65_536
"""Keys of the longest run that stays in memory: 1 MB."""

_BLOCK = 65_536
_BUCKETS = 256
_RECORD = np.dtype([("key", KEY), ("row", np.int64)])


def keys_of(cleaned: Sequence[str]) -> np.ndarray:
    """Return the keys [n] of texts that `clean` has been through (see `caption_key`)."""
    blake = hashlib.blake2b
    digests = b"".join(blake(t.encode("utf-8"), digest_size=KEY_BYTES).digest() for t in cleaned)
    return np.frombuffer(digests, KEY)


class KeySet:
    """A growing set of keys in sorted runs; long runs lie in a temporary file, not in memory.

    Memory holds about 2 MB whatever the number of keys; the file takes 16 bytes a key, twice that
    while two runs are merged. It has no name, so that nothing of it outlives the process.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        """Start empty.

        Args:
            scratch: folder for the temporary file; None takes the system's own.
        """
        self._runs: list[np.ndarray] = []
        self._scratch = scratch

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def contains(self, keys: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Return which of the keys are in the set."""
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            found |= run[np.minimum(np.searchsorted(run, keys), len(run) - 1)] == keys
        return found

    def add(self, keys: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Add keys and return which were new; of equal ones among them, the first.

        Raises:
            StorageError: the disk of the temporary file is full.
        """
        distinct, first = np.unique(keys, return_index=True)
        absent = ~self.contains(distinct)
        new = np.zeros(len(keys), bool)
        new[first[absent]] = True
        if absent.any():
            self._runs.append(distinct[absent])
        # Runs at least double in length from last to first, so there are few to search.
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            self._runs.append(_merged(self._runs.pop(-2), self._runs.pop(-1), self._scratch))
        return new


def count_distinct(texts: Iterable[str]) -> int:
    """Return how many texts differ after cleaning; 16 bytes are kept of each, never the text."""
    seen = KeySet()
    stream = iter(texts)
    while chunk := [clean(text) for text in itertools.islice(stream, 4096)]:
        seen.add(keys_of(chunk))
    return len(seen)


class KeyIndex:
    """From key to row number; of rows with equal keys, the first."""

    def __init__(self, keys: np.ndarray) -> None:
        """Index `keys` [n] in memory, where position is row number: 24 bytes a row."""
        order = np.argsort(keys, kind="stable")
        self._rows: np.ndarray = order.astype(np.int32) if len(keys) < 2**31 else order
        self._keys: np.ndarray = keys[order]

    @classmethod
    def on_disk(cls, chunks: Iterable[np.ndarray], scratch: Path | None = None) -> KeyIndex:
        """Index keys that come in chunks, in an unnamed temporary file: 24 bytes a row there.

        A few keys stay in memory, where that takes less time. Of many, memory holds one chunk and
        one of 256 buckets: 3 MB at ten million rows.

        Args:
            chunks: keys [n] each; their order gives the row numbers.
            scratch: folder for the file; None takes the system's own.

        Raises:
            StorageError: its disk is full.
        """
        chunks = iter(chunks)
        few = list(_until(chunks, _IN_MEMORY))
        if sum(map(len, few)) < _IN_MEMORY:
            return cls(np.concatenate([np.empty(0, KEY), *few]))
        chunks = itertools.chain(few, chunks)
        del few
        with _spill(scratch) as spilled:
            buckets = [spilled() for _ in range(_BUCKETS)]
            start = 0
            for keys in chunks:
                records = np.empty(len(keys), _RECORD)
                records["key"], records["row"] = keys, np.arange(start, start + len(keys))
                start += len(keys)
                bucket = keys.view(np.uint8).reshape(len(keys), KEY_BYTES)[:, 0]
                order = np.argsort(bucket, kind="stable")
                ends = np.cumsum(np.bincount(bucket, minlength=_BUCKETS))
                for number, piece in enumerate(np.split(records[order], ends[:-1])):
                    if len(piece):
                        _append(buckets[number], piece)
            sorted_keys, sorted_rows = spilled(), spilled()
            for file in buckets:
                records = _mapped(file, _RECORD)
                order = np.argsort(records["key"], kind="stable")
                _append(sorted_keys, records["key"][order])
                _append(sorted_rows, records["row"][order])
                del records
                file.close()
            index = cls.__new__(cls)
            index._keys, index._rows = _mapped(sorted_keys, KEY), _mapped(sorted_rows, np.int64)
            return index

    def find(self, keys: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row of every key, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._rows[at], -1).astype(np.int64)

    def first(self, count: int) -> Int64[np.ndarray, " n"]:
        """Return the rows of the `count` smallest keys: a sample that no order of rows changes."""
        return self._rows[:count].astype(np.int64)

    def repeated(self) -> int:
        """Return how many rows have the key of another row (0 in a sound cache)."""
        count = 0
        for start in range(0, len(self._keys) - 1, _BLOCK):
            block = self._keys[start : start + _BLOCK + 1]
            count += int((block[1:] == block[:-1]).sum())
        return count


def _until(chunks: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Yield chunks until they hold `count` keys together."""
    for chunk in chunks:
        yield chunk
        count -= len(chunk)
        if count <= 0:
            return


def _merged(long: np.ndarray, short: np.ndarray, scratch: Path | None) -> np.ndarray:
    """Return the sorted union of two sorted runs without common keys."""
    if len(long) + len(short) <= _IN_MEMORY:
        merged = np.concatenate([long, short])
        merged.sort(kind="stable")  # merges the two sorted halves
        return merged
    if len(long) < len(short):
        long, short = short, long
    with _spill(scratch) as spilled:
        file, taken = spilled(), 0
        for start in range(0, len(long), _BLOCK):
            block = long[start : start + _BLOCK]
            last = start + _BLOCK >= len(long)
            end = len(short) if last else int(np.searchsorted(short, block[-1]))
            both = np.concatenate([block, short[taken:end]])
            both.sort(kind="stable")
            _append(file, both)
            taken = end
        return _mapped(file, KEY)


@contextlib.contextmanager
def _spill(scratch: Path | None) -> Iterator[Callable[[], BinaryIO]]:
    """Yield a maker of unnamed temporary files; all are closed at the end, maps of them stay."""
    if scratch is not None and not os.access(scratch, os.W_OK):
        scratch = None  # a cache that may only be read
    with told_plainly(scratch or Path(tempfile.gettempdir())), contextlib.ExitStack() as stack:

        def spilled() -> BinaryIO:
            file = tempfile.TemporaryFile(dir=scratch)
            stack.callback(file.close)
            return file

        yield spilled


def _append(file: BinaryIO, values: np.ndarray) -> None:
    # Not `tofile`: its OSError has lost the number that tells a full disk from others.
    file.write(np.ascontiguousarray(values).view(np.uint8).data)


def _mapped(file: BinaryIO, kind: Any) -> np.ndarray:
    """Return what was written to a file, mapped; pages of it count as cache, not as memory."""
    file.flush()
    if not file.tell():
        return np.empty(0, kind)
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)
