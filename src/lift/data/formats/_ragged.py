"""Byte strings by number in an unnamed temporary file, and sorting that leaves memory alone."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np

from lift.data.spilled import Mapped, Spool

ItemT = TypeVar("ItemT")

_RUN = 4_096
"""Items that are sorted in memory at a time."""

_BUFFERED = 1 << 18

_AT_ONCE = 64
"""Places that are looked up together: thousands of runs are merged at a time."""


class Ragged:
    """Byte strings of any length, read by number; memory holds none of them.

    The file has no name, so that nothing of it outlives the process. Forked processes share it;
    a pickled copy carries the bytes and lays them into a file of its own.
    """

    def __init__(self, items: Iterable[bytes] = ()) -> None:
        """Write all items.

        Raises:
            StorageError: the disk of the temporary file is full.
        """
        with Spool() as blob, Spool() as ends:
            end, buffered = 0, array("q", [0])
            pieces: list[bytes] = []
            held = 0
            for item in items:
                end += len(item)
                held += len(item)
                pieces.append(item)
                buffered.append(end)
                if held > _BUFFERED or len(buffered) > _RUN:
                    blob.write(b"".join(pieces))
                    ends.write(buffered)
                    pieces, held, buffered = [], 0, array("q")
            blob.write(b"".join(pieces))
            ends.write(buffered)
            self._blob, self._ends = blob.mapped(), Mapped(ends, np.int64)

    def __getstate__(self) -> tuple[bytes, Mapped]:
        return bytes(self._blob), self._ends

    def __setstate__(self, state: tuple[bytes, Mapped]) -> None:
        with Spool() as blob:
            blob.write(state[0])
            self._blob, self._ends = blob.mapped(), state[1]

    def __len__(self) -> int:
        return len(self._ends.values) - 1

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(f"no item {number} among {len(self)}")
        return self._blob[self._ends.values[number] : self._ends.values[number + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the items from `start` up to `stop`."""
        for first in range(start, stop, _AT_ONCE):
            ends = self._ends.values[first : min(first + _AT_ONCE, stop) + 1].tolist()
            for begin, end in pairwise(ends):
                yield self._blob[begin:end]


def in_order(items: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the items sorted; memory holds 4,096 of them, a temporary file the rest.

    Raises:
        StorageError: the disk of the temporary file is full.
    """
    ends = [0]

    def runs() -> Iterator[bytes]:
        for chunk in chunked(items, _RUN):
            chunk.sort()
            yield from chunk
            ends.append(ends[-1] + len(chunk))

    written = Ragged(runs())
    return heapq.merge(*(written.between(start, stop) for start, stop in pairwise(ends)))


def chunked(items: Iterable[ItemT], count: int) -> Iterator[list[ItemT]]:
    """Yield lists of up to `count` items."""
    stream = iter(items)
    while chunk := list(islice(stream, count)):
        yield chunk
