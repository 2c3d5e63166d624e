"""Local copies of files behind URLs: made once for all processes of a run, and never hanging."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lift.data._shelf import Folder, Room
from lift.data._trouble import shown
from lift.data._wire import RETRIES, TIMEOUT_S, Facts, Wire
from lift.errors import ConfigError, DataError, StorageError

_ASKING = 8
"""Threads that ask for sizes."""

_OPEN = 64
"""Copies that a process keeps open."""

_IN_HAND = 4
"""Of these the ones whose descriptors stay even if the copy was removed to make room."""

_LOOK_S = 1.0

_SHARE_OF_FREE = 0.9
"""Of a disk with less room than was allowed for copies, they take this much of what is free."""

_made: weakref.WeakValueDictionary[Path, Folder] = weakref.WeakValueDictionary()
"""Folders that this process made: they stay as long as one of its shelves uses them."""


def is_url(path: str) -> bool:
    """Return whether `path` is a URL (http://, s3://, file://) rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.\-]+://", path) is not None


def expand_url(pattern: str) -> list[str]:
    """Return the URL itself, or the URLs of all files that a glob matches, sorted.

    Raises:
        DataError: nothing matches, or a glob over http, which has no listings.
        MissingPackage: the protocol's package is not installed.
    """
    scheme, _, rest = pattern.partition("://")
    http = scheme.lower() in ("http", "https")
    place = rest.split("?")[0].partition("/")[2] if http else rest  # [::1] is a host
    if not re.search(r"[*\[]" if http else r"[*?\[]", place):
        return [pattern]
    if http:
        raise DataError(
            f"{shown(pattern)} is a glob, and http has no listings; name the files by a brace "
            "range such as train-{0000..0099}.tar. A bracket that is part of a name is written "
            "%5B."
        )
    wire = Wire()
    found = wire.listing(pattern)
    if not found and wire.exists(pattern):  # a name with brackets in it
        return [pattern]
    if not found:
        raise DataError(f"No file matches {shown(pattern)}; check the address.")
    return found


class _Process:
    """What a process keeps of a shelf for itself; a forked one starts with another."""

    def __init__(self, wire: Wire, opened: OrderedDict[int, int]) -> None:
        self.wire = wire
        self.opened = opened
        self.lock = threading.Lock()
        self.room: Room | None = None
        self.looked = 0.0
        self.wishes: tuple[int, ...] = ()
        self.wished = threading.Event()
        self.thread: threading.Thread | None = None
        weakref.finalize(self, _close_all, opened, os.getpid())


class Shelf:
    """Copies of remote files in a temporary folder, within a number of bytes.

    The process that makes the shelf, those it forks and those it sends the shelf to share the
    copies: one fetches a file, the others wait. The folder goes with its maker; what a killed one
    left goes when the next shelf is made.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        disk_mb: int = 4096,
    ) -> None:
        """Make the folder; nothing is asked of a server yet.

        Args:
            urls: of the files; their places are their numbers.
            timeout_s: how long a read or a connection may bring nothing.
            retries: how often a failed one is tried again.
            disk_mb: megabytes (2**20) that the copies may take, as far as they are free; a larger
                file is kept alone.

        Raises:
            ConfigError: a limit that makes no sense.
            StorageError: the temporary folder refuses.
        """
        if timeout_s <= 0 or retries < 0 or disk_mb < 1:
            raise ConfigError(
                "timeout_s must be above 0, retries 0 or more and disk_mb 1 or more, not "
                f"{timeout_s}, {retries} and {disk_mb}."
            )
        self.urls = tuple(urls)
        self._timeout_s, self._retries, self._disk_mb = timeout_s, retries, disk_mb
        self._facts: list[Facts] | None = None
        self._folder = self._new_folder()
        free = shutil.disk_usage(self._folder).free
        self._limit = min(disk_mb << 20, int(_SHARE_OF_FREE * free))
        self._processes: dict[int, _Process] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_processes", "_kept")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._processes = {}
        self._kept = _made.get(self._folder)

    def __len__(self) -> int:
        return len(self.urls)

    @property
    def sizes(self) -> list[int]:
        """Return the bytes of every file; asked for once, best before other processes start.

        Raises:
            DataError: a file is missing or can't be reached; its URL is named.
            MissingPackage: the protocol's package is not installed.
        """
        return [facts.size for facts in self._known()]

    @property
    def tags(self) -> list[str]:
        """Return each file's ETag or time of change, "" where unknown. Raises like `sizes`."""
        return [facts.tag for facts in self._known()]

    def longest_s(self) -> float:
        """Return how long a read that brings nothing can last, all tries together."""
        return Wire(self._timeout_s, self._retries).longest_s()

    def promise(self) -> str:
        """Return one sentence for the start of a run: how long a stalled read can last."""
        wire = Wire(self._timeout_s, self._retries)
        little = self._limit < self._disk_mb << 20
        room = (
            f" Copies take at most {self._limit >> 20:,} MB, since {self._folder.parent} has no "
            f"more room for the {self._disk_mb:,} allowed; TMPDIR may name another folder."
        )
        return (
            f"A remote read that brings nothing for {self._timeout_s:g} s is tried again "
            f"{self._retries} times, with {wire.pauses_s():g} s of pauses in all: it ends the run "
            f"after at most {wire.longest_s():g} s.{room * little}"
        )

    def fd(self, number: int) -> int:
        """Return an open descriptor of a complete copy, fetched if need be; for os.pread.

        It belongs to the shelf, which closes it some time after this process asked for four other
        files or more, so ask again before each use.

        Raises:
            DataError: the file is missing, changed, or no try brought all of it.
            StorageError: the disk of the temporary folder is full.
        """
        here = self._here()
        number = range(len(self.urls))[number]
        with here.lock:
            found = here.opened.get(number)
            if found is not None:
                here.opened.move_to_end(number)
        room = self._room(here)
        if found is None:
            found = room.open(number)
            if found is None:
                found = self._fetched(here, room, number)
            with here.lock:
                if number in here.opened:  # another thread was faster
                    os.close(found)
                    found = here.opened[number]
                here.opened[number] = found
                here.opened.move_to_end(number)
            here.looked = 0.0
        room.touch(number)
        if (now := time.monotonic()) - here.looked > _LOOK_S:
            here.looked = now
            with here.lock:
                _close_old(here.opened)
        return found

    def ahead(self, numbers: Sequence[int]) -> None:
        """Fetch files in the background, in order, as far as they fit; replaces older wishes.

        Copies that are in use don't make room for them. What fails is left to `fd`.
        """
        here = self._here()
        with here.lock:
            here.wishes = tuple(numbers)
            here.wished.set()
            if here.thread is None and here.wishes:
                here.thread = threading.Thread(
                    target=_fetch_ahead, args=(weakref.ref(self), here), name="lift-ahead"
                )
                here.thread.daemon = True
                here.thread.start()

    def _known(self) -> list[Facts]:
        if self._facts is None:
            wire = self._here().wire
            pool = ThreadPoolExecutor(_ASKING, "lift-sizes")
            try:
                self._facts = list(
                    tqdm(
                        pool.map(wire.facts, self.urls), "sizes of files", len(self.urls),
                        leave=False, delay=1, disable=None,
                    )
                )  # fmt: skip
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return self._facts

    def _here(self) -> _Process:
        """Return what is this process's own."""
        pid = os.getpid()
        found = self._processes.get(pid)
        if found is None:
            opened: OrderedDict[int, int] = OrderedDict()
            for parent in self._processes.values():  # descriptors go along, connections don't
                opened = parent.opened.copy()
            made = _Process(Wire(self._timeout_s, self._retries), opened)
            found = self._processes.setdefault(pid, made)
        return found

    def _room(self, here: _Process) -> Room:
        if here.room is None:
            sizes, limit = self.sizes, self._limit
            patience = here.wire.longest_s() + 10.0
            try:
                room = Room(self._folder, sizes, limit, patience)
            except FileNotFoundError:  # its maker ended before this process began
                self._folder = self._new_folder()
                room = Room(self._folder, sizes, limit, patience)
            here.room = here.room or room
        return here.room

    def _new_folder(self) -> Path:
        self._kept: Folder | None = Folder(len(self.urls))
        _made[self._kept.path] = self._kept
        return self._kept.path

    def _fetched(
        self, here: _Process, room: Room, number: int, spare: Sequence[int] | None = None
    ) -> int:
        """Return a descriptor of a copy made now, or by another meanwhile; -1 without room."""
        began = time.time()
        with room.alone(number):
            found = room.open(number)
            if found is not None:
                return found
            if why := room.told(number, began):
                raise DataError(why)
            if not room.reserve(number, spare=spare):
                return -1

            def fill(path: Path) -> None:
                url, facts = self.urls[number], self._known()[number]
                try:
                    with open(path, "w+b", buffering=0) as file:
                        here.wire.fetch(url, facts, file)
                except StorageError as error:
                    raise StorageError(
                        f"{shown(url)} ({facts.size:,} bytes) can't be copied to "
                        f"{self._folder.parent}: {error.__cause__ or error}. Make room there, or "
                        "set the environment variable TMPDIR to a folder that has it."
                    ) from error

            try:
                return room.make(number, fill, used=spare is None)
            except DataError as error:
                room.tell(number, str(error))
                raise


def _close_old(opened: OrderedDict[int, int]) -> None:
    """Close what is too much, and what was removed: an open file takes its bytes on the disk."""
    for number in list(opened)[:-_IN_HAND]:
        if len(opened) > _OPEN or os.fstat(opened[number]).st_nlink == 0:
            os.close(opened.pop(number))


def _close_all(opened: OrderedDict[int, int], pid: int) -> None:
    while opened and os.getpid() == pid:  # a forked child has taken them over
        os.close(opened.popitem()[1])


def _fetch_ahead(shelf: weakref.ref[Shelf], here: _Process) -> None:
    """Fetch what is wished for until it is there, or nobody needs the shelf any more."""
    failed: set[int] = set()
    while True:
        here.wished.clear()
        owner = shelf()
        done = owner is None or _fetch_next(owner, here, failed)
        del owner
        with here.lock:
            if done and not here.wished.is_set():
                here.thread = None
                return
        if done is None:
            here.wished.wait(_LOOK_S)


def _fetch_next(shelf: Shelf, here: _Process, failed: set[int]) -> bool | None:
    """Fetch one file; return whether all are there that fit, None if room may come later."""
    wishes = here.wishes
    with here.lock:
        in_hand = next(reversed(here.opened), None)
    number = -1
    try:
        room = shelf._room(here)
        taken = 0 if in_hand is None else room.sizes[in_hand]
        for number in wishes:
            taken += room.sizes[number]
            if taken > room.limit:
                break
            if number not in failed and not room.has(number):
                found = shelf._fetched(here, room, number, spare=wishes)
                if found < 0:
                    return None
                os.close(found)
                return False
    except Exception:  # noqa: BLE001 - whoever needs the file gets the reason
        failed.add(number)
        return number < 0
    return True
