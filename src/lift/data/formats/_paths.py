"""Paths, URLs, globs, brace ranges to files; names for them; paths that stay in a folder."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

from lift.data.remote import expand_url, is_url
from lift.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_FILES = 1_000_000

File: TypeAlias = str | Path
"""A local file (a Path) or a URL (a str)."""


def expand(patterns: str | Sequence[str]) -> list[Path]:
    """Return the files of a path, a glob or a brace range (or a list of them), in a fixed order.

    Raises:
        DataError: a pattern that names no file, a URL, or a file that is named twice.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if is_url(pattern):
            raise DataError(
                f"{shown(pattern)} is a URL; of remote files only tar shards are read, so fetch it "
                "first and give its path."
            )
        for name in [pattern] if os.path.exists(pattern) else _braces(pattern):
            matches = [name] if os.path.isfile(name) else sorted(glob.glob(name, recursive=True))
            files = [Path(match) for match in matches if os.path.isfile(match)]
            if not files:
                raise DataError(f"No file matches {name!r} (of {pattern!r}); check the path.")
            found += files
    if not found:
        raise DataError("No path was given; set path to a file, a glob or a list of files.")
    seen: set[str] = set()
    for path in found:
        real = os.path.realpath(path)
        if real in seen:
            raise DataError(f"{path} is named twice; give every file once.")
        seen.add(real)
    return found


def expand_anywhere(patterns: str | Sequence[str]) -> list[Path] | list[str]:
    """Return the files of paths or of URLs, in a fixed order; globs and brace ranges in both.

    Raises:
        DataError: as `expand` does, or paths and URLs are mixed.
        MissingPackage: what reads the URLs is not installed.
    """
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    remote = [pattern for pattern in listed if is_url(pattern)]
    if not remote:
        return expand(listed)
    if len(remote) < len(listed):
        here = next(pattern for pattern in listed if pattern not in remote)
        raise DataError(
            f"{here!r} is a path and {shown(remote[0])!r} a URL; a source is either, so give them "
            "as two sources."
        )
    found = [url for pattern in remote for name in _braces(pattern) for url in expand_url(name)]
    if not found:
        raise DataError(f"Nothing matches {shown(remote[0])!r}; check the URL.")
    for url in _repeated(found):
        raise DataError(f"{shown(url)} is named twice; give every file once.")
    return found


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]


def shown(file: File) -> str:
    """Return a path or URL as errors and pages show it: without a query and a password."""
    if isinstance(file, Path) or "://" not in file:
        return str(file)
    try:
        parts = urlsplit(file)
    except ValueError:  # a host that is none
        return file.partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def parent_and_name(file: File) -> tuple[str, str]:
    """Return the folder that a file lies in, in full, and its name there."""
    whole = os.path.abspath(file) if isinstance(file, Path) else shown(file)
    folder, _, name = whole.rpartition("/")
    return folder, name


def _braces(pattern: str) -> list[str]:
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    inner = match.group(1)
    numbers = _RANGE.fullmatch(inner)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < _MOST_FILES:
            raise DataError(f"{match.group(0)} in {shown(pattern)!r} is not a rising range.")
        choices = [str(n).zfill(len(numbers[1])) for n in range(first, last + 1)]
    elif "," in inner:
        choices = inner.split(",")
    else:
        raise DataError(f"{match.group(0)} in {shown(pattern)!r} is neither {{0..9}} nor {{a,b}}.")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [name for choice in choices for name in _braces(head + choice + tail)]


def source_name(files: Sequence[File]) -> str:
    """Return what to call a source: `flickr8k/val-0000.tar`, `flickr8k/train-*.tar (4 files)`.

    The folder belongs to it, because `train-0000.tar` of many data sets would read alike.
    """
    both = [parent_and_name(file) for file in files]
    folders = {folder.rpartition("/")[2] for folder, _ in both}
    names = [name for _, name in both]
    name = names[0]
    if len(set(names)) > 1:
        start = _common_start(names)
        end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
        name = f"{start.rstrip('0123456789')}*{end.lstrip('0123456789')}"
    if len(names) > 1:
        name += f" ({len(names)} files)"
    folder = folders.pop() if len(folders) == 1 else "*"
    return f"{folder}/{name}" if folder else name


def whereabouts(files: Sequence[File]) -> str:
    """Return the folders or URLs that files lie in, in full, for guesses at what data they are."""
    return " ".join(sorted({parent_and_name(file)[0] for file in files}))


def _common_start(names: Sequence[str]) -> str:
    least, most = min(names), max(names)
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    )
    return least[:same]


def key_prefixes(files: Sequence[File]) -> list[str]:
    """Return what keys of each file start with: nothing for one file, else its stem.

    Where stems repeat, all that stands before the last dot, or the folder with it, tells files
    apart, so that keys stay when files are added; only where those repeat too, their places do.
    """
    if len(files) == 1:
        return [""]
    both = [parent_and_name(file) for file in files]
    stems = [name.split(".")[0] for _, name in both]
    longer = [name.rpartition(".")[0] or name for _, name in both]
    folders = [f"{a.rpartition('/')[2]}/{b}" for (a, _), b in zip(both, longer, strict=True)]
    placed = [f"{number}-{name}" for number, name in enumerate(longer)]
    for names in (stems, longer, folders):
        if len(set(names)) == len(names):
            return [name + "/" for name in names]
    return [name + "/" for name in placed]


def read_bounded(path: str | Path, most: int, what: str) -> bytes:
    """Return the bytes of an ordinary file of at most `most` bytes.

    Raises:
        DataError: missing, not a file, or larger; `what` names the sample in the sentence.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{what}: {path} is not an ordinary file.")
            if status.st_size > most:
                raise DataError(
                    f"{what}: {path} has {status.st_size:,} bytes; up to {most:,} are read."
                )
            return file.read(most)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{what}: {path} can't be read ({reason}).") from error


def inside(root: str | Path, name: str, what: str, allow_outside: bool = False) -> str:
    """Return the path `name` below `root`, links followed.

    Raises:
        DataError: it lies outside `root` and that was not allowed.
    """
    joined = os.path.join(root, name)
    if allow_outside:
        return joined
    try:
        real, base = os.path.realpath(joined), os.path.realpath(root)
    except ValueError as error:
        raise DataError(f"{what}: {name!r} is not a path.") from error
    if real != base and not real.startswith(base.rstrip(os.sep) + os.sep):
        raise DataError(
            f"{what}: {name!r} lies outside {base}; "
            "set root to a folder above it, or allow_outside=true if you trust this data."
        )
    return real
