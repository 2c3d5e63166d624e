"""Unit rows in one file that only grows; how many of them count is known elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from lift.errors import DataError
from lift.files import told_plainly

TYPES = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}


class VectorFile:
    """Rows of one kind; the database says how many of them count.

    Attributes:
        path: of the file.
        count: rows that count.
    """

    def __init__(self, path: Path, width: int, kind: np.dtype, count: int) -> None:
        """Map the first `count` rows.

        Raises:
            DataError: the file is shorter than that, or no plain file.
        """
        self.path, self.count = path, count
        self._width, self._kind = width, kind
        self.rows = self._mapped()

    def at(self, count: int) -> VectorFile:
        """Return the same file with another number of rows that count."""
        return VectorFile(self.path, self._width, self._kind, count)

    def _mapped(self) -> Float[np.ndarray, "n d"]:
        if not self.count:
            return np.zeros((0, self._width), self._kind)
        wanted = self.count * self._width * self._kind.itemsize
        try:
            there = os.lstat(self.path).st_size if self.path.is_file() else -1
        except OSError:
            there = -1
        if there < wanted or self.path.is_symlink():
            raise DataError(
                f"{self.path} should hold {self.count:,} vectors ({wanted:,} bytes) and holds "
                f"{max(there, 0):,} bytes: the index is damaged; build it again, or restore it."
            )
        shape = (self.count, self._width)
        return np.memmap(self.path, self._kind, mode="r", shape=shape)

    def append(self, rows: Float32[np.ndarray, "n d"]) -> int:
        """Write rows behind those that count, and return the place of the first.

        They are on disk when this returns, but don't count before `commit`. What a killed writer
        left behind those that count is overwritten.

        Raises:
            StorageError: the disk refused; nothing was changed that counts.
        """
        if not len(rows):
            return self.count
        step = self._width * self._kind.itemsize
        with told_plainly(self.path):
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            with os.fdopen(handle, "r+b") as file:
                file.seek(self.count * step)
                file.truncate()
                file.write(np.ascontiguousarray(rows, self._kind).tobytes())
                file.flush()
                os.fsync(file.fileno())
        return self.count

    def commit(self, count: int) -> None:
        """Take this many rows as those that count."""
        if count != self.count:
            self.count = count
            self.rows = self._mapped()
