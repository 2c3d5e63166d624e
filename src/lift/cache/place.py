"""Where a cache lies: a folder on disk, or any URL that fsspec knows (s3://, gs://, memory://)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lift.errors import CacheError, ConfigError, LiftError, MissingPackage, StorageError
from lift.files import one_of_several_writers, remove_partial, sole_writer, whole_file


@runtime_checkable
class Place(Protocol):
    """A folder whose files appear whole, wherever it is.

    Attributes:
        scratch: a local folder for what outgrows memory; None takes the system's own.
        whole: whether a file that is there is surely whole, even after a kill.
    """

    scratch: Path | None
    whole: bool

    def names(self) -> list[str]:
        """Return the names of files and folders in it, sorted; [] where it does not exist."""
        ...

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file in it by name, at the cost of one listing."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, None where there is none."""
        ...

    def write(self, name: str, fill: Callable[[Path], None], *, new: bool = False) -> None:
        """Make a file of what `fill` writes to the path it is given; it appears whole.

        Args:
            name: of the file.
            fill: writes to a local path.
            new: leave a file that is already there as it is: the first of several writers wins.

        Raises:
            StorageError: the disk is full, or the place refuses; nothing half-written stays.
        """
        ...

    def local(self, name: str, size: int | None = None) -> Path:
        """Return the file as one that can be mapped: itself, or a copy of this process.

        Args:
            name: of the file.
            size: its bytes, where they are known: a copy of that size is not asked for again.
        """
        ...

    def forget(self, name: str) -> None:
        """Remove the copy that `local` made, if it made one; maps of it stay."""
        ...

    def sub(self, name: str) -> Place:
        """Return the folder `name` in it."""
        ...

    def held(self, part: str = "") -> contextlib.AbstractContextManager[None]:
        """Hold its lock, and clear away what a killed writer left; made where it is missing.

        Args:
            part: hold the lock of this folder in it alone: others write other parts.

        Raises:
            StorageError: another process writes there, or it can't be made.
        """
        ...


def place_of(where: str | Path) -> Place:
    """Return the place that a path or a URL names.

    Raises:
        ConfigError: an unknown protocol.
        MissingPackage: fsspec knows the protocol, but its package is not installed.
    """
    words = str(where)
    protocol, separator, rest = words.partition("://")
    if not separator:
        return LocalPlace(Path(where))
    if protocol in ("file", "local"):
        return LocalPlace(Path(rest))
    return RemotePlace(words.rstrip("/"))


class LocalPlace:
    """A folder on a disk that this machine mounts; see `Place`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch: Path | None = folder
        self.whole = True

    def __str__(self) -> str:
        return str(self.folder)

    def names(self) -> list[str]:
        """Return the names of what lies in the folder."""
        return sorted(p.name for p in self.folder.iterdir()) if self.folder.is_dir() else []

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the files in the folder."""
        if not self.folder.is_dir():
            return {}
        return {p.name: p.stat().st_size for p in self.folder.iterdir() if p.is_file()}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CacheError(
                f"{self.folder / name} can't be read ({error.strerror}); check what lies there."
            ) from error

    def write(self, name: str, fill: Callable[[Path], None], *, new: bool = False) -> None:
        """Write aside, flush, then rename; see `lift.files.whole_file`."""
        with whole_file(self.folder / name, first=new) as aside:
            fill(aside)

    def local(self, name: str, size: int | None = None) -> Path:
        """Return the path itself."""
        return self.folder / name

    def forget(self, name: str) -> None:
        """Do nothing: there are no copies."""

    def sub(self, name: str) -> LocalPlace:
        """Return the folder in it."""
        return LocalPlace(self.folder / name)

    @contextlib.contextmanager
    def held(self, part: str = "") -> Iterator[None]:
        """Hold the folder's lock file; it goes with the process, however it ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Can't make a cache in {self.folder}: {error.strerror}; give a folder that you "
                "may write to."
            ) from error
        if part:
            with one_of_several_writers(self.folder), self.sub(part).held():
                yield
        else:
            with sole_writer(self.folder):
                remove_partial(self.folder)
                yield


class RemotePlace:
    """A folder behind a URL; see `Place`.

    Files go up whole when they are finished, and come down as copies that the process maps. The
    lock holds between processes of one machine only: object stores have none. Two machines that
    write the same part write the same bytes, so what a second one costs is time.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.scratch: Path | None = None
        self.whole = False
        self._opened, self._root = _open(url)
        self._pid = os.getpid()
        self._copies: Path | None = None

    def __str__(self) -> str:
        return self.url

    @property
    def _files(self) -> Any:
        """The file system; a forked process opens its own, since connections can't be shared."""
        if self._pid != os.getpid():
            self._opened, self._root = _open(self.url, skip_instance_cache=True)
            self._pid = os.getpid()
        return self._opened

    def names(self) -> list[str]:
        """Return the names of what lies under the URL."""
        with self._told("read"):
            try:
                found = self._files.ls(self._root, detail=False, refresh=True)
            except FileNotFoundError:
                return []
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found}
        return sorted(names - {"", self._root.rsplit("/", 1)[-1]})

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object under the URL."""
        with self._told("read"):
            try:
                found = self._files.ls(self._root, detail=True, refresh=True)
            except FileNotFoundError:
                return {}
        files = [entry for entry in found if entry["type"] == "file"]
        return {str(entry["name"]).rsplit("/", 1)[-1]: int(entry["size"]) for entry in files}

    def read(self, name: str) -> bytes | None:
        """Return the content of an object."""
        with self._told("read"):
            try:
                return self._files.cat_file(self._at(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, fill: Callable[[Path], None], *, new: bool = False) -> None:
        """Fill a local file, then put it there in one piece."""
        copy = self._copy(name)  # stays for `local` until it is forgotten
        with whole_file(copy) as aside:
            fill(aside)
        with self._told("write"):
            self._files.makedirs(self._root, exist_ok=True)
            # Where a store can, "create" fails if another writer was first; elsewhere it looks.
            with contextlib.suppress(FileExistsError):
                mode = {"mode": "create"} if new else {}
                self._files.put_file(str(copy), self._at(name), **mode)
        if new:
            self.forget(name)

    def local(self, name: str, size: int | None = None) -> Path:
        """Return a copy, made when it is first asked for and gone with the process."""
        copy = self._copy(name)
        if not copy.exists() or size not in (None, copy.stat().st_size):
            with whole_file(copy) as aside, self._told("read"):
                self._files.get_file(self._at(name), str(aside))
        return copy

    def forget(self, name: str) -> None:
        """Remove the copy."""
        if self._copies is not None:
            (self._copies / name).unlink(missing_ok=True)

    def sub(self, name: str) -> RemotePlace:
        """Return the folder in it."""
        return RemotePlace(f"{self.url}/{name}")

    @contextlib.contextmanager
    def held(self, part: str = "") -> Iterator[None]:
        """Hold a local lock of the URL's name."""
        if part:
            with self.sub(part).held():
                yield
            return
        name = hashlib.sha256(self.url.encode("utf-8")).hexdigest()[:24]
        folder = Path(tempfile.gettempdir()) / f"lift-lock-{name}"
        try:
            folder.mkdir(exist_ok=True)  # stays: a lock that goes away is a lock for two
            with sole_writer(folder):
                yield
        except StorageError as error:
            raise StorageError(str(error).replace(str(folder), self.url)) from error

    def _copy(self, name: str) -> Path:
        if self._copies is None:
            self._copies = Path(tempfile.mkdtemp(prefix="lift-cache-"))
            weakref.finalize(self, _remove_own, self._copies, os.getpid())
        return self._copies / name

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except LiftError:
            raise
        except Exception as error:
            if what == "read" and isinstance(error, FileNotFoundError):
                raise
            raise StorageError(
                f"Can't {what} {self.url}: {' '.join(str(error).split())[:300]}. Nothing "
                "half-written was left; check the address and your rights there, and run the same "
                "command again."
            ) from error


def _remove_own(folder: Path, pid: int) -> None:
    """Remove copies at the end of the process that made them, not of one that it forked."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _open(url: str, **options: Any) -> tuple[Any, str]:
    import fsspec  # torch brings it

    try:
        return fsspec.core.url_to_fs(url, **options)
    except ValueError as error:
        raise ConfigError(
            f"{url!r} is no address that can be written to ({error}); give a folder, or a URL such "
            "as s3://bucket/captions."
        ) from error
    except ImportError as error:
        raise MissingPackage(
            f"{url.split('://')[0]}:// needs a package that is not installed ({error})."
        ) from error
