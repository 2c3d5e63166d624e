"""Files that appear whole or not at all, and a lock that dies with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from lift.errors import CacheError

TEMPORARY = ".tmp-"
LOCK = ".lock"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file aside, flush it to the disk, and rename it; whatever fails leaves no trace.

    Args:
        path: the final name; an older file there is replaced.
        write: writes the content into the open file it is given.

    Raises:
        CacheError: the disk is full, or the folder can't be written.
    """
    aside = path.with_name(f"{TEMPORARY}{path.name}")
    with unwritable(path.parent):
        try:
            with aside.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(path.parent)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Turn an OSError of writing into the one sentence that a user can act on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise CacheError(
                f"The disk is full: {folder} can't take the next file ({reason}); what was "
                "written before is whole, so free some space and run the same command again."
            ) from error
        raise CacheError(
            f"{folder} can't be written ({reason}); give a folder that you may write to."
        ) from error


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it however the process ends.

    Raises:
        CacheError: another process holds it, or it can't be made.
    """
    with unwritable(folder), contextlib.ExitStack() as stack:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CacheError(
                f"Another process is writing to {folder}; wait for it, or give another folder."
            ) from error
        held = stack.pop_all()
    with held:
        yield


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, not only a kill."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
