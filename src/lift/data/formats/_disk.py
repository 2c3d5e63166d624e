"""What grows with the number of samples lies in unnamed temporary files, mapped into memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lift.files import told_plainly

_PIECE = 65_536


class Spool:
    """A file without a name that grows and is then mapped; the map outlives `with`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir())
        with told_plainly(self._folder):
            self._file = tempfile.TemporaryFile()
        self.length = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> None:
        """Append bytes. Raises StorageError where the disk is full."""
        with told_plainly(self._folder):
            self._file.write(data)
        self.length += memoryview(data).nbytes

    def append(self, values: np.ndarray) -> None:
        """Append an array's bytes."""
        self.write(np.ascontiguousarray(values).view(np.uint8).data)

    def forget(self, length: int) -> None:
        """Cut the file back to an earlier length."""
        self._file.seek(length)
        self._file.truncate()
        self.length = length

    def mapped(self) -> mmap.mmap | bytes:
        """Return everything, mapped; pages of it count as cache, not as memory."""
        with told_plainly(self._folder):
            self._file.flush()
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if self.length else b""


class Mapped:
    """A mapped array of numbers. A copy in another process has a file of its own.

    Attributes:
        values: the array.
    """

    def __init__(self, spool: Spool, kind: Any) -> None:
        self.values: Any = np.frombuffer(spool.mapped(), kind)

    @classmethod
    def of(cls, values: np.ndarray) -> Mapped:
        """Take an array that lies in a file already."""
        new = cls.__new__(cls)
        new.values = values
        return new

    def __getstate__(self) -> tuple[np.dtype, bytes]:
        return self.values.dtype, self.values.tobytes()

    def __setstate__(self, state: tuple[np.dtype, bytes]) -> None:
        with Spool() as spool:
            spool.write(state[1])
            self.values = np.frombuffer(spool.mapped(), state[0])


def zeros(count: int, kind: Any) -> np.ndarray:
    """Return an array of zeros in a temporary file; what is written to it lies there.

    Raises:
        StorageError: the disk is full.
    """
    size = count * np.dtype(kind).itemsize
    if not size:
        return np.zeros(count, kind)
    with told_plainly(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk later would be a SIGBUS
        return np.frombuffer(mmap.mmap(file.fileno(), size), kind)


class Grouped:
    """For each of many owners the numbers of what it owns, in order; on disk."""

    def __init__(self, owners: np.ndarray, count: int) -> None:
        """Group the numbers 0, 1, ... by their owners [n], of which there are `count`."""
        starts, ends = zeros(count + 1, np.int64), zeros(count + 1, np.int64)
        for first in range(0, len(owners), _PIECE):
            found, times = np.unique(owners[first : first + _PIECE], return_counts=True)
            starts[found + 1] += times
        for first in range(0, count + 1, _PIECE):
            piece = starts[first : first + _PIECE]
            piece[:1] += starts[first - 1] if first else 0
            np.cumsum(piece, out=piece)
            ends[first : first + _PIECE] = piece
        numbers = zeros(len(owners), np.int64)
        for first in range(0, len(owners), _PIECE):
            piece = owners[first : first + _PIECE]
            order = np.argsort(piece, kind="stable")
            found, begins, times = np.unique(piece[order], return_index=True, return_counts=True)
            rank = np.arange(len(piece)) - np.repeat(begins, times)
            numbers[ends[piece[order]] + rank] = first + order
            ends[found] += times
        self._starts, self._numbers = Mapped.of(starts), Mapped.of(numbers)

    def __getitem__(self, owner: int) -> np.ndarray:
        start, stop = self._starts.values[owner : owner + 2]
        return self._numbers.values[start:stop]

    def counts(self, owners: np.ndarray) -> np.ndarray:
        """Return how much each of some owners owns."""
        return self._starts.values[owners + 1] - self._starts.values[owners]
