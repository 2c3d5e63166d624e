"""Paths, globs and brace ranges to files; names for them; paths that may not leave a folder."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from lift.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_FILES = 1_000_000


def expand(patterns: str | Sequence[str]) -> list[Path]:
    """Return the files of a path, a glob or a brace range (or a list of them), in a fixed order.

    Raises:
        DataError: a pattern that names no file, or a file that is named twice.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
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


def _braces(pattern: str) -> list[str]:
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    inner = match.group(1)
    numbers = _RANGE.fullmatch(inner)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < _MOST_FILES:
            raise DataError(f"{match.group(0)} in {pattern!r} is not a rising range.")
        choices = [str(n).zfill(len(numbers[1])) for n in range(first, last + 1)]
    elif "," in inner:
        choices = inner.split(",")
    else:
        raise DataError(f"{match.group(0)} in {pattern!r} is neither {{0..9}} nor {{a,b}}.")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [name for choice in choices for name in _braces(head + choice + tail)]


def source_name(files: Sequence[Path]) -> str:
    """Return what to call a source: `flickr8k/val-0000.tar`, `flickr8k/train-*.tar (4 files)`.

    The folder belongs to it, because `train-0000.tar` of many data sets would read alike.
    """
    folders = {os.path.basename(os.path.dirname(os.path.abspath(path))) for path in files}
    names = [path.name for path in files]
    name = names[0]
    if len(set(names)) > 1:
        start = _common_start(names)
        end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
        name = f"{start.rstrip('0123456789')}*{end.lstrip('0123456789')}"
    if len(names) > 1:
        name += f" ({len(names)} files)"
    folder = folders.pop() if len(folders) == 1 else "*"
    return f"{folder}/{name}" if folder else name


def whereabouts(files: Sequence[Path]) -> str:
    """Return the folders that files lie in, in full, for guesses at what data they are."""
    return " ".join(sorted({os.path.dirname(os.path.abspath(path)) for path in files}))


def _common_start(names: Sequence[str]) -> str:
    least, most = min(names), max(names)
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    )
    return least[:same]


def key_prefixes(files: Sequence[Path]) -> list[str]:
    """Return what keys of each file start with: nothing for one file, else its stem.

    Stems that repeat (files of several folders) get their place in front.
    """
    if len(files) == 1:
        return [""]
    stems = [path.name.split(".")[0] for path in files]
    if len(set(stems)) < len(stems):
        stems = [f"{number}-{stem}" for number, stem in enumerate(stems)]
    return [stem + "/" for stem in stems]


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
