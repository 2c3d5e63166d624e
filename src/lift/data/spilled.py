"""What is known of each sample, in unnamed temporary files: memory does not grow with it."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from lift.files import reserve, told_plainly


class Spool:
    """A file without a name that grows and is then mapped; the map outlives `with`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir())
        with told_plainly(self._folder):
            self._file = _file_of(self)
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


class Spilled:
    """A growing array of one kind on disk; the file goes with the last map of it."""

    def __init__(self, kind: Any) -> None:
        """Start empty.

        Args:
            kind: numpy's dtype of an item.
        """
        self._kind = np.dtype(kind)
        self._spool: Spool | None = None  # many stay empty

    def __len__(self) -> int:
        return self._spool.length // self._kind.itemsize if self._spool else 0

    def append(self, values: np.ndarray) -> None:
        """Add values [n] at the end. Raises StorageError where the disk is full."""
        self._spool = self._spool or Spool()
        self._spool.append(np.ascontiguousarray(values, self._kind))

    def mapped(self) -> np.ndarray:
        """Return all values [n], read-only; pages of it count as cache, not as memory."""
        return np.frombuffer(self._spool.mapped() if self._spool else b"", self._kind)


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


def room_for(length: int, kind: Any) -> np.ndarray:
    """Return a writable array of zeros on disk, for values that come in any order.

    Raises:
        StorageError: the disk is full.
    """
    kind = np.dtype(kind)
    size = length * kind.itemsize
    if not size:
        return np.empty(0, kind)
    with told_plainly(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        reserve(file, size)  # a full disk later would be a SIGBUS
        return np.frombuffer(mmap.mmap(file.fileno(), size), kind)


class SpilledTable:
    """A growing Arrow table on disk, read back batch by batch, each mapped without a copy."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._file = _file_of(self)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, mode="w"), schema)
        self._reader: Any = None
        self._ends: list[int] = []

    def append(self, table: pa.Table) -> None:
        """Add rows at the end as one batch. Raises StorageError where the disk is full."""
        with told_plainly(Path(tempfile.gettempdir())):
            for batch in table.combine_chunks().to_batches():
                self._writer.write_batch(batch)
                self._ends.append((self._ends[-1] if self._ends else 0) + batch.num_rows)

    def close(self) -> SpilledTable:
        """End the writing; what was written can be read now."""
        with told_plainly(Path(tempfile.gettempdir())):
            self._writer.close()
            self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
        return self

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the rows of each `append`, in order."""
        for number in range(len(self._ends)):
            yield pa.Table.from_batches([self._reader.get_batch(number)])

    def take(self, rows: np.ndarray) -> pa.Table:
        """Return some rows, by number, in the order asked for."""
        owner = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(owner, kind="stable")
        owners, begins = np.unique(owner[order], return_index=True)
        found = [pa.RecordBatch.from_pylist([], self.schema)]
        for number, places in zip(owners.tolist(), np.split(order, begins[1:]), strict=False):
            first = self._ends[number - 1] if number else 0
            found.append(self._reader.get_batch(number).take(pa.array(rows[places] - first)))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.Table.from_batches(found).combine_chunks().take(pa.array(back))


def _file_of(owner: object) -> BinaryIO:
    """Return an unnamed file that is closed when its owner goes; maps of it stay."""
    file = tempfile.TemporaryFile()
    weakref.finalize(owner, file.close)
    return cast(BinaryIO, file)
