"""Bytes from behind a URL, with an end to every wait, whatever driver fetches them."""

from __future__ import annotations

import os
import re
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lift.data._caller import Caller, Stalled
from lift.data._trouble import Wrong, cause, is_http, shown, told, worth_another_try
from lift.errors import ConfigError, DataError, LiftError, MissingPackage
from lift.files import told_plainly
from lift.plugins import require

T = TypeVar("T")

TIMEOUT_S = 30.0
RETRIES = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_CHUNK = 1 << 20

_BLOCK = 4 << 20
"""What a driver that reads in blocks asks for at once; halved with every try, for slow lines."""

_PROGRESS = 16 << 20
"""Bytes that show a connection to be worth going on with, however often it breaks."""

_SLOWEST = 1024
"""Bytes a second below which a read counts as stalled: drips would go on for ever."""

_LISTING_S = 120.0
"""Listings come as a whole, a thousand names a request, so that progress can't be seen."""

_TAGS = (
    "ETag", "etag", "blob_id", "Last-Modified", "LastModified", "last_modified", "updated",
    "mtime", "modify", "modificationTime",
)  # fmt: skip


class Facts(NamedTuple):
    """What is known of a file: its bytes, and what changes when it does ("" where unknown)."""

    size: int
    tag: str


class Wire:
    """Reads files through fsspec for one process; never shared with a forked one."""

    def __init__(self, timeout_s: float = TIMEOUT_S, retries: int = RETRIES) -> None:
        self.timeout_s, self.retries = timeout_s, retries
        self._opened: dict[str, Any] = {}

    def pauses_s(self) -> float:
        """Return the seconds between all tries together."""
        return sum(_pause_s(number) for number in range(1, self.retries + 1))

    def longest_s(self) -> float:
        """Return how long a read that brings nothing can last, all tries together."""
        return self.timeout_s * (self.retries + 1) + self.pauses_s()

    def facts(self, url: str) -> Facts:
        """Return what is known of a file.

        Raises:
            DataError: there is none, it does not say its size, or no try brought an answer.
            MissingPackage: the protocol's package is not installed.
        """
        _require(url)
        return self._tried(url, lambda _: self._once(self.timeout_s, self._facts, url))

    def listing(self, pattern: str) -> list[str]:
        """Return the URLs of the files that match, sorted. Raises like `facts`."""
        _require(pattern)
        wait = max(self.timeout_s, _LISTING_S)
        return self._tried(pattern, lambda _: self._once(wait, self._listing, pattern))

    def exists(self, url: str) -> bool:
        """Return whether there is a file of exactly this name."""
        try:
            return self.facts(url).size >= 0
        except DataError:
            return False

    def fetch(self, url: str, known: Facts, to: FileIO) -> None:
        """Write the whole file to `to`, which is empty and unbuffered.

        Raises:
            DataError: it changed since it was `known`, or no try brought all of it.
            StorageError: the disk refuses.
        """

        def attempt(number: int) -> None:
            caller, files = Caller(), []
            try:
                self._pour(caller, files, url, known, to, number)
            finally:
                caller.end(lambda: _close(files))

        _require(url)
        to.seek(0)
        self._tried(url, attempt, to.tell)

    def _tried(
        self, url: str, attempt: Callable[[int], T], reached: Callable[[], int] = lambda: 0
    ) -> T:
        """Return what the first try that succeeds returns; see `fetch` for what is raised.

        Tries are counted anew when one got further than all before, by `_PROGRESS` bytes.
        """
        began = time.monotonic()
        number, again, furthest = 0, True, 0
        last: Exception | None = None
        while again and number <= self.retries:
            if number:
                time.sleep(_pause_s(number))
            try:
                return attempt(number)
            except LiftError:
                raise
            except Exception as error:  # noqa: BLE001 - drivers raise what they like
                last = cause(url, error)
                again = worth_another_try(last)
            number += 1
            if reached() >= furthest + _PROGRESS:
                furthest, number = reached(), 1
        tries = "1 try" if number == 1 else f"{number} tries"
        raise DataError(
            f"{shown(url)} can't be read: {told(last, url, self.timeout_s)} ({tries} in "
            f"{time.monotonic() - began:.1f} s). Check the address, your rights there and the "
            "connection."
        ) from last

    def _once(self, seconds: float, work: Callable[[str], T], url: str) -> T:
        caller = Caller()
        try:
            return caller.call(seconds, work, url)
        finally:
            caller.end(lambda: None)

    def _pour(
        self, caller: Caller, files: list[Any], url: str, known: Facts, to: FileIO, tried: int
    ) -> None:
        """Go on where `to` stands, or start anew where that is not possible."""
        at, path = to.tell(), Path(to.name)
        try:
            start = caller.call(self.timeout_s, self._open, files, url, known, at, tried)
        except Wrong:
            self._unchanged(url, known)
            to.seek(0)
            raise
        if start != at:
            to.seek(start)
        to.truncate()
        since, came = time.monotonic(), 0
        while chunk := caller.call(self.timeout_s, files[-1].read, _CHUNK):
            if to.tell() + len(chunk) > known.size:
                to.seek(0)
                self._unchanged(url, known)
                raise Wrong(f"more bytes came than the {known.size:,} it should have")
            with told_plainly(path):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[to.write(rest) :]
            came += len(chunk)
            if (now := time.monotonic()) - since > self.timeout_s:
                if came < _SLOWEST * self.timeout_s:
                    raise Stalled(f"only {came:,} bytes came in {now - since:.0f} s")
                since, came = now, 0
        if to.tell() != known.size:
            self._unchanged(url, known)
            raise Wrong(f"only {to.tell():,} of {known.size:,} bytes came")
        if not is_http(url):  # http says what it sends with every answer
            self._unchanged(url, known)

    def _unchanged(self, url: str, known: Facts) -> None:
        """Raise DataError if the file is another one by now."""
        now = self._once(self.timeout_s, self._facts, url)
        if now.size != known.size or (now.tag and known.tag and now.tag != known.tag):
            raise DataError(
                f"{shown(url)} changed while it was in use: {known.size:,} bytes ({known.tag}) "
                f"before, {now.size:,} bytes ({now.tag}) now. Start again with files that stay."
            )

    # What follows runs in a caller's thread and may hang.

    def _files(self, url: str) -> tuple[Any, str]:
        where = "/".join(url.split("/", 3)[:3])
        if where not in self._opened:
            # Of threads that come at once, all take the first one's.
            self._opened.setdefault(where, _open_files(url, self.timeout_s))
        files = self._opened[where]
        return files, files._strip_protocol(url)

    def _facts(self, url: str) -> Facts:
        files, path = self._files(url)
        files.invalidate_cache()
        found = files.info(path)
        if found.get("type") == "directory":
            raise DataError(f"{shown(url)} is a folder; name the files in it, or use a glob.")
        if found.get("size") is None:
            raise DataError(
                f"{shown(url)} does not say how many bytes it has (no Content-Length), so a copy "
                "could not be checked; copy it to a disk first."
            )
        # Files in memory know only when they were made.
        tag = next((found[name] for name in (*_TAGS, "created") if found.get(name)), "")
        return Facts(int(found["size"]), str(tag))

    def _listing(self, pattern: str) -> list[str]:
        files, path = self._files(pattern)
        files.invalidate_cache()
        found = sorted(str(name) for name in files.glob(path))
        # A driver's names lack the protocol, and some the host.
        front = pattern.removesuffix(path) if pattern.endswith(path) else None
        return [files.unstrip_protocol(name) if front is None else front + name for name in found]

    def _open(self, held: list[Any], url: str, known: Facts, start: int, tried: int) -> int:
        """Open the file at `start` or at 0, put it into `held`, return where it stands."""
        files, path = self._files(url)
        if not is_http(url):
            held.append(files.open(path, "rb", block_size=max(_BLOCK >> tried, 1 << 18)))
            held[-1].seek(start)
            return start
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if known.tag and not known.tag.startswith("W/"):
                headers["If-Range"] = known.tag
        try:  # without blocks it is one answer, read as it comes
            size = max(1, known.size)  # for 0 it would ask again
            held.append(files.open(path, "rb", block_size=0, size=size, headers=headers))
        except Exception as error:
            if getattr(error, "status", None) == 416:
                raise Wrong(f"it ends before byte {start:,}") from error
            raise
        return _begins_at(held[-1].r, known, start)


def _require(url: str) -> None:
    """Import what a protocol needs, outside of all timeouts.

    Raises:
        ConfigError: an unknown protocol.
        MissingPackage: its package is not installed.
    """
    scheme = url.partition("://")[0]
    require("fsspec", "remote", f"{scheme}://")
    if is_http(url):
        require("aiohttp", "remote", f"{scheme}://")
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise ConfigError(f"{shown(url)} is no address that can be read ({error}).") from error
    except ImportError as error:
        raise MissingPackage(
            f"{scheme}:// needs a package that is not installed ({error}); the extra remote "
            "(pip install 'lift-align[remote]') brings what http needs, no more."
        ) from error


def _open_files(url: str, timeout_s: float) -> Any:
    """Return a file system of this process alone; `_require` was called before."""
    import fsspec.config

    options: dict[str, Any] = {}
    if is_http(url):
        import aiohttp

        # Later than our own limit; it is there to end what was left behind.
        limit = 1.5 * timeout_s
        waits = aiohttp.ClientTimeout(total=None, sock_connect=limit, sock_read=limit)
        said = fsspec.config.conf.get(url.partition("://")[0], {}).get("client_kwargs", {})
        options["client_kwargs"] = {"read_bufsize": _CHUNK, **said, "timeout": waits}
    made = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)[0]
    _alive[id(made)] = made
    return made


_alive: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Every file system made here, by id: to Python, two for one address are equal."""

_of_parents: list[Any] = []


def _after_fork() -> None:
    """Have a forked child leave its parents' connections alone, and start an event loop anew."""
    # Never collected, not even those that nobody uses: fsspec would wait for the parent's event
    # loop to close them, a second or two, in the middle of the child's.
    _of_parents.extend(_alive.values())
    _alive.clear()
    if "fsspec.asyn" in sys.modules:  # its lock may have been held at that moment
        sys.modules["fsspec.asyn"].reset_lock()


os.register_at_fork(after_in_child=_after_fork)


def _begins_at(response: Any, known: Facts, start: int) -> int:
    """Return where the body of an answer begins. Raises Wrong if it is of another file."""
    headers: Mapping[str, str] = response.headers
    tag = headers.get("Last-Modified" if known.tag.endswith("GMT") else "ETag", "")
    if tag and known.tag and tag != known.tag:
        raise Wrong(f"it came as {tag}, and was {known.tag} before")
    if response.status != 206:
        return 0
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    # Without a tag only the size tells that it is the same file.
    sizes = [str(known.size)] + (["*"] if tag else [])
    if found is None or int(found[1]) != start or found[2] not in sizes:
        raise Wrong(f"another range came than asked for ({headers.get('Content-Range')})")
    return start


def _pause_s(number: int) -> float:
    return min(_FIRST_PAUSE_S * 2 ** (number - 1), _LONGEST_PAUSE_S)


def _close(files: list[Any]) -> None:
    for file in files:
        try:
            file.close()
        except Exception:  # noqa: BLE001 - nobody waits for it any more
            pass
