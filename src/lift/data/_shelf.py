"""The folder of copies that the processes of a run share: its locks, its size, its end."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import secrets
import shutil
import stat
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from lift.errors import DataError
from lift.files import temporary_folder, told_plainly

_NAME = "lift-shelf-"
_NEW = "lift-new-shelf-"
_GONE = ".gone"
_OWNER, _USES, _SPACE = "owner", "uses", "space.lock"
_PART = ".part"
_BUSY_S = 10.0
"""A copy that was asked for in the last seconds makes no room for one that nobody asked for yet."""

_LONGEST_NAP_S = 0.05

_locks: set[int] = set()
"""Descriptors of locks of this process; a child that kept them would hold them after its parent."""


def _drop_locks() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_drop_locks)


class Folder:
    """The folder as its maker holds it: gone when the maker no longer needs it, or ends."""

    def __init__(self, count: int) -> None:
        """Make a folder for the copies of `count` files; what dead processes left goes first.

        Raises:
            StorageError: the temporary folder refuses.
        """
        root = temporary_folder()
        _sweep(root)
        own = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.path, new = root / f"{_NAME}{own}", root / f"{_NEW}{own}"
        with told_plainly(self.path):
            new.mkdir(mode=0o700)
            try:
                (new / _USES).write_bytes(bytes(8 * max(1, count)))
                self._held = os.open(new / _OWNER, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_SH)
                new.rename(self.path)  # locked before others see it
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
        weakref.finalize(self, _remove, self.path, os.getpid(), self._held)


def _remove(folder: Path, pid: int, held: int) -> None:
    if os.getpid() == pid:
        gone = folder.with_name(folder.name + _GONE)
        with contextlib.suppress(OSError):
            folder.rename(gone)  # a thread that still writes finds no folder
        shutil.rmtree(gone, ignore_errors=True)
        os.close(held)


def _sweep(root: Path) -> None:
    """Remove the folders of processes that were killed."""
    for path in root.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Return whether no process holds the folder: locks know it even between containers."""
    try:
        held = os.open(folder / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # its removal was cut short
        pid = re.match(rf"{_NAME}(\d+)-", folder.name)
        return pid is not None and not Path(f"/proc/{pid[1]}").exists()
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True


class Room:
    """The folder as one process uses it; a copy of file `n` is the file `n` in it.

    Attributes:
        sizes: bytes of each file.
        limit: bytes that all copies together may take, finished or not.
    """

    def __init__(self, folder: Path, sizes: Sequence[int], limit: int, patience_s: float) -> None:
        """Join the folder.

        Raises:
            FileNotFoundError: it is gone, since its maker ended.
        """
        self.folder, self.sizes, self.limit = folder, sizes, limit
        self._patience_s = patience_s
        held = os.open(folder / _OWNER, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody is about to remove it
            raise FileNotFoundError(folder) from None
        with open(folder / _USES, "r+b") as file:
            self._uses = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")

    def touch(self, number: int) -> None:
        """Note that a copy is in use now, for all processes."""
        self._uses[number] = time.monotonic()

    def open(self, number: int) -> int | None:
        """Return a new descriptor of a copy, None where there is none."""
        try:
            return os.open(self.folder / str(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def has(self, number: int) -> bool:
        """Return whether there is a copy."""
        return (self.folder / str(number)).exists()

    @contextlib.contextmanager
    def alone(self, number: int) -> Iterator[None]:
        """Hold the lock on fetching a file; whoever holds it must show progress in time.

        Raises:
            DataError: the holder does not.
        """
        part = self._part(number)

        def progress() -> object:
            with contextlib.suppress(FileNotFoundError):
                found = part.stat()
                return found.st_size, found.st_mtime_ns
            return None

        with self._locked(f"{number}.lock", progress):
            yield

    def make(self, number: int, fill: Callable[[Path], None], *, used: bool) -> int:
        """Make a copy and return a descriptor of it; call it with the lock, and room reserved."""
        part = self._part(number)
        try:
            fill(part)
            # Opened before it can be seen, so that nobody evicts it in between.
            opened = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            self._uses[number] = time.monotonic() if used else 0.0
            os.replace(part, self.folder / str(number))
            return opened
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def reserve(self, number: int, *, spare: Collection[int] | None = None) -> bool:
        """Take room for a file, removing copies that were not used for longest.

        Args:
            number: of the file; the caller holds its lock.
            spare: copies that stay. Given, the file is not urgent: copies that are in use stay,
                too, and so do those that wait for their first use. None makes room at any price,
                and without any if need be.

        Returns:
            whether there is room now.
        """
        with self._locked(_SPACE, lambda: None):
            copies, taken = self._present(number)
            short = taken + self.sizes[number] - self.limit
            going: list[int] = []
            for copy in sorted(copies, key=self._worth):
                if short <= 0:
                    break
                if spare is not None and (copy in spare or self._worth(copy)[0]):
                    continue
                going.append(copy)
                short -= self.sizes[copy]
            if short > 0 and spare is not None:
                return False
            for copy in going:
                (self.folder / str(copy)).unlink(missing_ok=True)
            with told_plainly(self._part(number)):
                self._part(number).touch()
            return True

    def _present(self, number: int) -> tuple[list[int], int]:
        """Return all other copies, and the bytes of them and of those that are on their way."""
        copies, taken = [], 0
        for name in os.listdir(self.folder):
            other = name.removesuffix(_PART)
            if not other.isdigit() or int(other) == number:
                continue
            if other == name:
                copies.append(int(other))
            elif self._left_behind(int(other)):
                continue
            taken += self.sizes[int(other)]
        return copies, taken

    def _worth(self, copy: int) -> tuple[int, float]:
        """Return what orders copies by when they go: idle, not used yet, busy; by last use."""
        used = self._uses[copy]
        if not used:
            return 1, 0.0
        return (2 if time.monotonic() - used < _BUSY_S else 0), used

    def _left_behind(self, number: int) -> bool:
        """Remove what a killed process had fetched of a file; return whether there was such."""
        lock = os.open(self.folder / f"{number}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._part(number).unlink(missing_ok=True)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return not self.has(number)  # it may have become whole just now

    def told(self, number: int, since: float) -> str | None:
        """Return why another process failed to fetch a file after `since` (time.time())."""
        path = self.folder / f"{number}.failed"
        try:
            return path.read_text("utf-8") if path.stat().st_mtime > since else None
        except FileNotFoundError:
            return None

    def tell(self, number: int, why: str) -> None:
        """Tell those who wait for a file why it can't be fetched."""
        with contextlib.suppress(OSError):  # only a courtesy
            (self.folder / f"{number}.failed").write_text(why, "utf-8")

    def _part(self, number: int) -> Path:
        return self.folder / f"{number}{_PART}"

    @contextlib.contextmanager
    def _locked(self, name: str, progress: Callable[[], object]) -> Iterator[None]:
        """Hold a lock; waiting for it ends when `progress` stays as it is for too long."""
        try:
            lock = os.open(self.folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise DataError(
                f"The folder of local copies {self.folder} is gone: the process that made it "
                "ended, or somebody removed it. Start again."
            ) from error
        _locks.add(lock)
        try:
            self._wait(lock, name, progress)
            try:
                yield
            finally:
                # Closing is not enough: a process that was forked meanwhile has it open, too.
                fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            _locks.discard(lock)
            os.close(lock)

    def _wait(self, lock: int, name: str, progress: Callable[[], object]) -> None:
        nap, seen, since = 0.002, progress(), time.monotonic()
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            if (now := progress()) != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > self._patience_s:
                raise DataError(
                    f"Another process holds {self.folder / name} and got nothing done for "
                    f"{self._patience_s:.0f} s; end it and start again."
                )
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP_S)
