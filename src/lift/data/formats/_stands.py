"""Where shards stand: local files, at most 256 of them open, or copies of remote ones."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lift.data.formats._index import Span
from lift.data.formats._paths import File
from lift.data.formats._recent import Recent
from lift.data.formats._scans import Mark
from lift.data.remote import Shelf
from lift.errors import DataError

_MOST_OPEN = 256


@runtime_checkable
class Stand(Protocol):
    """Shards that can be read by their number.

    Attributes:
        remote: whether reading a shard again costs a transfer.
    """

    remote: bool

    def mark(self, number: int) -> Mark:
        """Return the state of a shard when it was opened."""
        ...

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        """Yield a descriptor of a shard. Raises DataError where it can't be read."""
        yield -1

    def read(self, number: int, span: Span) -> bytes:
        """Return bytes of a shard, fewer where it ends. Raises OSError or DataError."""
        ...

    def ahead(self, numbers: Sequence[int]) -> None:
        """Hear which shards are read next."""
        ...

    def promise(self) -> str:
        """Return how long reading may wait at most, as a sentence."""
        ...

    def window(self, groups: Sequence[int]) -> int | None:
        """Return how many samples in random order are read without fetching a shard twice."""
        ...


def stand_of(files: Sequence[File], timeout_s: float, retries: int, disk_mb: int) -> Stand:
    """Return the stand of local files or of URLs. Raises DataError where one is missing."""
    if isinstance(files[0], Path):
        return _Local([Path(file) for file in files])
    return _Remote([str(file) for file in files], timeout_s, retries, disk_mb)


class _Local:
    remote = False

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._marks = [_mark_of(path) for path in paths]
        self._open = Recent(self._opened, _MOST_OPEN)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open = Recent(self._opened, _MOST_OPEN)

    def mark(self, number: int) -> Mark:
        return self._marks[number]

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        handle = self._open(number)
        yield handle.fd

    def read(self, number: int, span: Span) -> bytes:
        handle = self._open(number)  # held, so that no one closes it meanwhile
        return os.pread(handle.fd, span.size, span.offset)

    def ahead(self, numbers: Sequence[int]) -> None:
        pass

    def promise(self) -> str:
        return ""

    def window(self, groups: Sequence[int]) -> None:
        return None

    def _opened(self, number: int) -> _Handle:
        return _Handle(self._paths[number], self._marks[number])


class _Handle:
    """An open file, closed with the last one who holds this."""

    def __init__(self, path: Path, mark: Mark) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error) from error
        weakref.finalize(self, os.close, self.fd)
        if _state(os.fstat(self.fd)) != mark:
            raise DataError(f"{path} changed while it was being read; start again.")


def _mark_of(path: Path) -> Mark:
    try:
        return _state(os.stat(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def _state(status: os.stat_result) -> Mark:
    return Mark(status.st_size, str(status.st_mtime_ns))


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} can't be opened ({error.strerror}).")


class _Remote:
    remote = True

    def __init__(self, urls: list[str], timeout_s: float, retries: int, disk_mb: int) -> None:
        self._shelf = Shelf(urls, timeout_s=timeout_s, retries=retries, disk_mb=disk_mb)
        self._disk = disk_mb << 20
        told = zip(self._shelf.sizes, self._shelf.tags, strict=True)
        self._marks = [Mark(size, tag) for size, tag in told]

    def mark(self, number: int) -> Mark:
        return self._marks[number]

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        fd = os.dup(self._shelf.fd(number))  # the shelf may close its own
        try:
            yield fd
        finally:
            os.close(fd)

    def read(self, number: int, span: Span) -> bytes:
        return os.pread(self._shelf.fd(number), span.size, span.offset)

    def ahead(self, numbers: Sequence[int]) -> None:
        self._shelf.ahead(numbers)

    def promise(self) -> str:
        return self._shelf.promise()

    def window(self, groups: Sequence[int]) -> int:
        # A window ends with the shard that fills it, so any shards that are as many as fit must.
        held = accumulate(sorted((mark.size for mark in self._marks), reverse=True))
        fit = max(1, sum(size <= self._disk for size in held) // 2)
        return sum(sorted(groups)[:fit])
