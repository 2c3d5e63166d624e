"""Find files, and open `.npy`, parquet and text files that may be anything, with plain words."""

from __future__ import annotations

import glob
import os
import re
import tokenize
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lift.errors import DataError

_BROKEN_HEADER = (
    ValueError,
    OverflowError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
"""What numpy raises for a header that is none; it never runs it, and reads 10,000 bytes of it."""


class Files:
    """Paths in order, 20 bytes or so each: a data set may come in millions of files."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._folders: list[str] = []
        self._folder_of, self._ends, self._names = array("i"), array("q", [0]), bytearray()
        for path in paths:
            folder, name = os.path.split(path)
            if not self._folders or self._folders[-1] != folder:
                self._folders.append(folder)
            self._folder_of.append(len(self._folders) - 1)
            self._names += os.fsencode(name)
            self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._folder_of)

    def __getitem__(self, number: int) -> Path:
        if not 0 <= number < len(self):
            raise IndexError(number)
        name = bytes(self._names[self._ends[number] : self._ends[number + 1]])
        return Path(self._folders[self._folder_of[number]], os.fsdecode(name))

    def __iter__(self) -> Iterator[Path]:
        return (self[number] for number in range(len(self)))


def natural(path: str | Path) -> list[tuple[int, int | str]]:
    """Return a sort key by which part-10 comes after part-9."""
    pieces = re.split(r"([0-9]+)", str(path))
    return [(0, int(p)) if p.isascii() and p.isdigit() else (1, p) for p in pieces]


def listed(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder with one suffix, in natural order; hidden ones stay out."""
    named = [entry for entry in _entries(folder) if entry.name.endswith(suffix)]
    return [folder / entry.name for entry in named if os.path.isfile(entry)]


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in natural order; hidden ones stay out."""
    return [folder / entry.name for entry in _entries(folder) if os.path.isdir(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"The folder {folder} can't be read ({error.strerror}).") from error
    return sorted(seen, key=lambda entry: natural(entry.name))


def matching(pattern: str) -> list[Path]:
    """Return the files of a path or glob, in natural order.

    Raises:
        DataError: there are none.
    """
    names = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
    found = [Path(name) for name in sorted(names, key=natural) if os.path.isfile(name)]
    if not found:
        raise DataError(f"No file matches {pattern!r}; check the path.")
    return found


def map_npy(path: Path) -> np.ndarray:
    """Return an `.npy` file mapped into memory, whatever it holds but objects.

    Raises:
        DataError: not such a file, one cut short, or one of Python objects.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise DataError(f"{path} has the npy version {version}; write it again with 1.0.")
            shape, fortran, dtype = read(file)
            offset = file.tell()
        if dtype.hasobject:
            raise DataError(
                f"{path} holds Python objects, which only pickle can load and lift never does; "
                "save numbers as float32 and texts with astype(str), or as a .txt or .jsonl."
            )
        if 0 in shape or dtype.itemsize == 0:
            return np.empty(shape, dtype)
        order = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", offset=offset, shape=shape, order=order)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or error}).") from error
    except _BROKEN_HEADER as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not a whole .npy file ({reason}).") from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file without reading ahead; raises DataError where it is none."""
    try:
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from error


def batches_of(
    path: Path, file: pq.ParquetFile, column: str, size: int, groups: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield one column of a parquet file, about `size` rows at a time."""
    try:
        yield from file.iter_batches(size, groups, columns=[column], use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DataError:
    """Return the sentence about a file that its library can't read."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return DataError(f"{path} can't be read as {path.suffix or 'a file'} ({reason}).")
