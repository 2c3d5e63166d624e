"""Files appear whole: written aside in the same folder, flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from lift.errors import StorageError

_DISK_REFUSED = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.ENOTDIR,
}
_ASIDE = ".partial-"
_OLD = ".replaced-"
LOCK = ".lock"
_BLOCK = 1 << 20
_CLEARING = 5.0
"""Seconds that removing what was left aside may take."""


@contextlib.contextmanager
def whole_file(path: Path, *, first: bool = False) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it becomes `path` when the block ends well.

    Args:
        path: the file.
        first: leave a `path` that another process made meanwhile as it is: the first one stays.

    Raises:
        StorageError: the disk is full or not writable; what was written aside is removed and an
            older `path` is as it was.
    """
    # Of several first ones each needs a name of its own; pids repeat between machines.
    own = f".{secrets.token_hex(8)}" if first else ""
    aside = path.with_name(f"{_ASIDE}{path.name}{own}")
    if path.is_dir():
        raise StorageError(f"{path} is a folder; give the name of a file.")
    with told_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            _flush(aside)
            if first:
                _become_first(aside, path)
            else:
                os.replace(aside, path)
            _flush(path.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; it becomes `path` when the block ends well.

    An older `path` is replaced. Raises StorageError like `whole_file`.
    """
    aside = path.with_name(f"{_ASIDE}{path.name}")
    with told_plainly(path):
        restore_old(path)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
            for file in sorted(aside.rglob("*")):
                _flush(file)
            _flush(aside)
            if path.exists():
                old = path.with_name(f"{_OLD}{path.name}")
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
                # Killed here, `restore_old` brings the old one back.
                os.replace(aside, path)
                shutil.rmtree(old)
            else:
                os.replace(aside, path)
            _flush(path.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def require_writable(folder: Path) -> None:
    """Raise StorageError unless a file can be made in `folder` (which is made if need be)."""
    probe = folder / ".writable"
    with whole_file(probe) as aside:
        aside.touch()
    probe.unlink()


def reserve(file: IO[Any], length: int) -> None:
    """Give a file room for `length` bytes of zeros from where it is written next.

    A disk that is full under a map would end the process; here it raises OSError.
    """
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), file.tell(), length)
        return
    for start in range(0, length, _BLOCK):  # macOS
        file.write(bytes(min(_BLOCK, length - start)))
    file.flush()


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole; half of a surrogate pair (of a file's name) is spelled out."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def restore_old(path: Path) -> None:
    """Bring back the folder that a killed `whole_folder` had moved away and not yet replaced."""
    old = path.with_name(f"{_OLD}{path.name}")
    if os.path.exists(old) and not os.path.exists(path):  # unlike a Path's, never raises
        os.replace(old, path)


def remove_partial(folder: Path) -> None:
    """Remove what a killed writer left aside in `folder`; bring back what it had moved away."""
    for path in folder.glob(f"{_OLD}*"):
        restore_old(path.with_name(path.name.removeprefix(_OLD)))
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{_ASIDE}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the lock goes with the process, however it ends.

    A folder that was made for the lock and got nothing else in it is removed at the end.

    Raises:
        StorageError: another process writes into the folder.
    """
    created = not folder.exists()
    with _lock_of(folder) as lock:
        if not _taken(lock, fcntl.LOCK_EX, folder):
            raise _busy(folder)
        try:
            yield
        finally:
            if created and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


@contextlib.contextmanager
def one_of_several_writers(folder: Path) -> Iterator[None]:
    """Hold the folder's lock together with others that do.

    Who comes while nobody else is there removes what killed ones left aside.

    Raises:
        StorageError: a sole writer is at work in the folder.
    """
    with _lock_of(folder) as lock:
        if _taken(lock, fcntl.LOCK_EX, folder):
            remove_partial(folder)
        until = time.monotonic() + _CLEARING
        while not _taken(lock, fcntl.LOCK_SH, folder):  # another one clears away
            if time.monotonic() > until:
                raise _busy(folder)
            time.sleep(0.02)
        yield


def _lock_of(folder: Path) -> IO[str]:
    with told_plainly(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / LOCK, "w")


def _taken(lock: IO[str], how: int, folder: Path) -> bool:
    """Return whether the lock could be taken."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # ENOLCK, ENOSYS: NFS or Lustre mounted without locks
        raise StorageError(
            f"The file system of {folder} has no locks ({error.strerror}), so two writers "
            "could not be told apart; mount it with locks, or write to another one and copy."
        ) from error
    return True


def _busy(folder: Path) -> StorageError:
    return StorageError(
        f"Another process is writing into {folder}; wait for it or choose another folder."
    )


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is a lock, or was left aside by a killed writer."""
    return name == LOCK or name.startswith((_ASIDE, _OLD))


def is_ours_or_empty(folder: Path, marker: str, besides: Collection[str] = ()) -> bool:
    """Return whether `folder` is absent, empty, or holds the file `marker` that we put there.

    Files named in `besides` count as nothing, as what a killed writer left aside does.
    """
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    if (folder / marker).exists():
        return True
    return all(is_leftover(p.name) or p.name in besides for p in folder.iterdir())


@contextlib.contextmanager
def told_plainly(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_REFUSED:
            raise
        raise StorageError(
            f"Can't write {path}: {error.strerror}. Nothing half-written was left; make room "
            "there (or choose another folder) and run the same command again."
        ) from error


def temporary_folder() -> Path:
    """Return the folder for temporary files. Raises StorageError where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise StorageError(
            f"No folder for temporary files can be written ({error.strerror}); set the environment "
            "variable TMPDIR to one that can."
        ) from error


def _become_first(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)  # unlike a rename, refused where `path` is there
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(aside, path)
    aside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
