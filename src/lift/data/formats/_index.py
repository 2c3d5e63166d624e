"""Where every sample of every shard lies: records in unnamed temporary files, mapped."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate, pairwise
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from lift.files import temporary_folder, told_plainly

PLACES = 8
"""Numbers of a sample's files: (offset, bytes) of image, text, json and one more; 0, 0 for none."""

_WIDTH = PLACES + 2
"""The numbers of a record: those of the files, then where its key lies, and its length."""

CHUNK = 2048
"""Samples that are held in memory at a time."""


class Span(NamedTuple):
    """Where one file of a sample lies in its shard; an offset of 0 says that it has none."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One sample: its key inside the shard, and its files."""

    key: str
    image: Span
    text: Span
    json: Span
    extra: Span


class Chunk(NamedTuple):
    """Samples that neighbour each other.

    Attributes:
        files: offsets and sizes of each sample's files.
        lengths: bytes of each key.
        keys: the keys, one after another, as UTF-8.
    """

    files: Int64[np.ndarray, "n 8"]
    lengths: Int64[np.ndarray, " n"]
    keys: bytes

    @classmethod
    def of(cls, files: Sequence[int], keys: Sequence[bytes]) -> Chunk:
        """Return the chunk of `PLACES` numbers a sample, one after another, and its keys."""
        table = np.array(files, np.int64).reshape(len(keys), PLACES)
        return cls(table, np.fromiter(map(len, keys), np.int64, len(keys)), b"".join(keys))

    def key_list(self) -> list[bytes]:
        """Return the keys, each by itself."""
        ends = list(accumulate(self.lengths.tolist(), initial=0))
        return [self.keys[start:end] for start, end in pairwise(ends)]

    def only(self, wanted: Bool[np.ndarray, " n"]) -> Chunk:
        """Return the samples that are wanted."""
        if wanted.all():
            return self
        keys = [key for key, take in zip(self.key_list(), wanted.tolist(), strict=True) if take]
        return Chunk(self.files[wanted], self.lengths[wanted], b"".join(keys))


class Spool:
    """Samples in the order in which they are added; memory holds none of them.

    The files have no name, so that nothing of them outlives the process.
    """

    def __init__(self) -> None:
        with told_plainly(temporary_folder()), ExitStack() as stack:
            self._records: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
            self._keys: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
            self._closing = stack.pop_all()
        self._count = self._key_bytes = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def clear(self) -> None:
        """Forget every sample."""
        for file in (self._records, self._keys):
            file.seek(0)
            file.truncate()
        self._count = self._key_bytes = 0

    def add(self, chunk: Chunk) -> None:
        """Append samples. Raises StorageError where the disk is full."""
        records = np.empty((len(chunk.lengths), _WIDTH), np.int64)
        records[:, :PLACES] = chunk.files
        records[:, PLACES] = self._key_bytes + np.cumsum(chunk.lengths) - chunk.lengths
        records[:, PLACES + 1] = chunk.lengths
        with told_plainly(temporary_folder()):
            self._records.write(records.data)
            self._keys.write(chunk.keys)
        self._count += len(records)
        self._key_bytes += len(chunk.keys)

    def chunks(self) -> Iterator[Chunk]:
        """Yield every sample in order, `CHUNK` at a time; nothing may be added meanwhile."""
        for file in (self._records, self._keys):
            file.flush()
            file.seek(0)
        for start in range(0, self._count, CHUNK):
            count = min(CHUNK, self._count - start)
            read = np.frombuffer(self._records.read(count * _WIDTH * 8), np.int64)
            records = read.reshape(count, _WIDTH)
            lengths = records[:, PLACES + 1]
            yield Chunk(records[:, :PLACES], lengths, self._keys.read(int(lengths.sum())))

    def index(self) -> Index:
        """Return the samples, mapped; the index stays when the spool is closed."""
        return Index(_mapped(self._records), _mapped(self._keys))


def _mapped(file: BinaryIO) -> mmap.mmap | bytes:
    with told_plainly(temporary_folder()):
        file.flush()
    file.seek(0, 2)
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b""


class Index:
    """Samples by number. Pages of it count as cache, not as memory, and forks share them."""

    def __init__(self, records: mmap.mmap | bytes, keys: mmap.mmap | bytes) -> None:
        self._records = np.frombuffer(records, np.int64).reshape(-1, _WIDTH)
        self._keys = keys

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> Entry:
        return self._entry(self._records[number].tolist())

    def between(self, start: int, stop: int) -> Iterator[Entry]:
        """Yield the samples from `start` up to `stop`."""
        for first in range(start, stop, CHUNK):
            yield from self._entries(self._records[first : min(first + CHUNK, stop)].tolist())

    def _entries(self, records: Iterable[list[int]]) -> Iterator[Entry]:
        return map(self._entry, records)

    def _entry(self, record: list[int]) -> Entry:
        start = record[PLACES]
        return Entry(
            self._keys[start : start + record[PLACES + 1]].decode("utf-8"),
            *(Span(record[at], record[at + 1]) for at in range(0, PLACES, 2)),
        )
