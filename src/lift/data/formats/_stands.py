"""Where shards stand: local files, few of them open at a time, or copies of remote ones."""

from __future__ import annotations

import itertools
import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lift.data.formats._index import Span
from lift.data.formats._paths import File
from lift.data.formats._scans import Mark
from lift.data.remote import Shelf
from lift.errors import DataError

_MOST_OPEN = 256
"""Shards that a process keeps open, of all its sources together: it may have 1,024 files."""


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
        self._open = _Open(self._opened)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open = _Open(self._opened)

    def mark(self, number: int) -> Mark:
        return self._marks[number]

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        handle = self._open(number)
        try:
            yield handle.fd
        except OSError as error:  # a link into /proc opens, and then can't be read
            raise _unreadable(self._paths[number], error) from error

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


_handles: OrderedDict[tuple[int, int], _Handle] = OrderedDict()
"""The files of all stands that are open, by stand and number; last used last."""

_stands_made = itertools.count()


class _Open:
    """The open files of one stand; all stands of a process share the number of them."""

    def __init__(self, load: Callable[[int], _Handle]) -> None:
        self._load = weakref.WeakMethod(load)  # of the stand that owns this
        self._own = next(_stands_made)
        weakref.finalize(self, _forget, self._own)

    def __call__(self, number: int) -> _Handle:
        place = self._own, number
        handle = _handles.get(place)
        if handle is None:
            with suppress(KeyError):
                while len(_handles) >= _MOST_OPEN:
                    _handles.popitem(last=False)
            load = self._load()
            assert load is not None, "the stand that asks lives"
            handle = _handles[place] = load(number)
        with suppress(KeyError):  # another thread needed its place
            _handles.move_to_end(place)
        return handle


def _forget(own: int) -> None:
    for place in [place for place in list(_handles) if place[0] == own]:
        _handles.pop(place, None)


class _Handle:
    """An open file, closed with the last one who holds this."""

    def __init__(self, path: Path, mark: Mark) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error) from error
        weakref.finalize(self, os.close, self.fd)
        if not _same(_state(os.fstat(self.fd)), mark):
            raise DataError(f"{path} changed while it was being read; start again.")


def _mark_of(path: Path) -> Mark:
    try:
        return _state(os.stat(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def _state(status: os.stat_result) -> Mark:
    # Tools that copy set the time of change as they like, but not that of the entry.
    return Mark(status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}")


def _same(now: Mark, before: Mark) -> bool:
    """Return whether content is the same; rights and names may change while a run reads."""
    return now.size == before.size and now.tag.split()[0] == before.tag.split()[0]


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} can't be read ({error.strerror}).")


class _Remote:
    remote = True

    def __init__(self, urls: list[str], timeout_s: float, retries: int, disk_mb: int) -> None:
        self._shelf = Shelf(urls, timeout_s=timeout_s, retries=retries, disk_mb=disk_mb)
        self._disk = disk_mb << 20
        self._failed: dict[int, tuple[float, DataError]] = {}
        told = zip(self._shelf.sizes, self._shelf.tags, strict=True)
        self._marks = [Mark(size, tag) for size, tag in told]

    def mark(self, number: int) -> Mark:
        return self._marks[number]

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        fd = os.dup(self._fd(number))  # the shelf may close its own
        try:
            yield fd
        finally:
            os.close(fd)

    def read(self, number: int, span: Span) -> bytes:
        return os.pread(self._fd(number), span.size, span.offset)

    def _fd(self, number: int) -> int:
        # Those who go on to the next sample of the shard don't wait once more for each.
        until, why = self._failed.get(number, (0.0, None))
        if why is not None and time.monotonic() < until:
            raise why
        try:
            return self._shelf.fd(number)
        except DataError as error:
            self._failed[number] = time.monotonic() + self._shelf.longest_s(), error
            raise

    def ahead(self, numbers: Sequence[int]) -> None:
        self._shelf.ahead(numbers)

    def promise(self) -> str:
        return self._shelf.promise()

    def window(self, groups: Sequence[int]) -> int:
        # A window ends with the shard that fills it, so any shards that are as many as fit must.
        held = accumulate(sorted((mark.size for mark in self._marks), reverse=True))
        fit = max(1, sum(size <= self._disk for size in held) // 2)
        return sum(sorted(groups)[:fit])
