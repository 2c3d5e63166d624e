"""Connections to a database file: one a thread, closed when the thread has ended.

A folder that can't be written (a disc, another user's) is read too. SQLite's log needs a file for
what readers share beside the database; where none can be made and no writer left a log behind, the
database is read as what nobody changes, until somebody does.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from pathlib import Path

_WAIT_MS = 30_000


class _Own:
    """A thread's connection; it goes when the thread's own storage does."""

    def __init__(self, base: sqlite3.Connection, frozen: tuple[int, int] | None) -> None:
        self.base, self.frozen = base, frozen


class Connections:
    """Connections of all threads to one file.

    Attributes:
        path: of the database.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path, self._writes = path, writes
        self._own = threading.local()
        self._all: dict[int, sqlite3.Connection] = {}
        self._closed = False

    def get(self) -> sqlite3.Connection:
        """Return this thread's connection. Raises sqlite3.Error."""
        own: _Own | None = getattr(self._own, "own", None)
        if own is not None and own.frozen is not None and not own.base.in_transaction:
            own = own if own.frozen == self._frozen() else None  # somebody who may write does
        if own is None:
            if self._closed:
                raise sqlite3.ProgrammingError("it was closed")
            frozen = None if self._writes else self._frozen()
            base = self._connected(frozen is not None)
            own = _Own(base, frozen)
            self._all[id(base)] = base
            weakref.finalize(own, self._let_go, id(base)).atexit = False
            self._own.own = own
        return own.base

    def _frozen(self) -> tuple[int, int] | None:
        """Return size and time of a file that nobody writes and we can't; None of any other."""
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            if _writable(self.path.parent) or (log.exists() and log.stat().st_size):
                return None
            found = self.path.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def _connected(self, frozen: bool) -> sqlite3.Connection:
        how = "mode=rwc" if self._writes else "mode=ro" + ("&immutable=1" if frozen else "")
        base = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?{how}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # closed by whoever closes the index
        )
        base.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")
        base.execute("PRAGMA trusted_schema = OFF")
        # SQLite's own lower() knows ASCII alone.
        base.create_function("folded", 1, str.casefold, deterministic=True)
        if self._writes:
            base.execute("PRAGMA synchronous = FULL")
        return base

    def _let_go(self, number: int) -> None:
        base = self._all.pop(number, None)
        if base is not None:
            base.close()

    def close(self) -> None:
        """Close every thread's connection."""
        self._closed = True
        for number in list(self._all):
            self._let_go(number)


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)
