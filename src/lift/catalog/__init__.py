"""One file a data set that models are judged on: how it lies in a folder, and what is asked of it.

Such a file has

- `TITLE`: its name, with year or authors;
- `WHERE`: one sentence: where it is to be had, and under which licence;
- `LAYOUT`: what lies in its folder, in a few words (`val2017/*.jpg, annotations/captions_*.json`);
- `look(folder) -> list[Found]`: what is asked where this very folder is (or holds) the data set;
  an empty list where it is something else. It opens nothing large and raises nothing for what is
  not its own;
- `Config`, empty: options there are none.

What no file knows is looked at by `lift.data.guess` (see `any_pairs`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lift import plugins
from lift.errors import DataError
from lift.evaluation import Plan, parse_plan

ROOM = "catalog"
LAST = "any_pairs"
"""Looks at what no other file knows."""

_DEPTH = 2
_FOLDERS = 200


@dataclass(frozen=True)
class Found:
    """What is asked of one data set.

    Attributes:
        name: of the data set, for tables ("sugarcrepe").
        folder: where it lies.
        on: evaluations in words, as `lift eval --on` takes them.
    """

    name: str
    folder: str
    on: tuple[str, ...]

    def plans(self) -> list[Plan]:
        """Return the same, parsed."""
        return [parse_plan(words) for words in self.on]


@dataclass(frozen=True)
class Catalogue:
    """What a folder holds of the data sets that are known.

    Attributes:
        found: data sets, by folder.
        absent: names of files of this room whose data set is not there.
        unknown: folders that hold nothing that anybody knows.
    """

    found: tuple[Found, ...]
    absent: tuple[str, ...]
    unknown: tuple[str, ...] = field(default=())


def search(folder: str | Path) -> Catalogue:
    """Return the data sets in a folder: the folder itself, or those in the folders below.

    Raises:
        DataError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder} is no folder of data sets.")
    found: list[Found] = []
    unknown: list[str] = []
    _search(root, _DEPTH, found, unknown)
    names = {one.name for one in found}
    absent = [name for name in plugins.names(ROOM) if name != LAST and name not in names]
    return Catalogue(tuple(found), tuple(absent), tuple(unknown))


def _search(folder: Path, depth: int, found: list[Found], unknown: list[str]) -> None:
    below = _below(folder)
    here = _known(folder)
    # Several data sets side by side can look like one of pairs: those that are known come first.
    if not here and not (depth and any(_is_known(path, depth - 1) for path in below)):
        here = plugins.load(ROOM, LAST).look(folder)
    if here:
        found += here
        return
    if not depth or not below:
        unknown.append(str(folder))
        return
    before = len(found)
    inner: list[str] = []
    for path in below:
        _search(path, depth - 1, found, inner)
    unknown += inner if len(found) > before else [str(folder)]


def look(folder: Path) -> list[Found]:
    """Return what is asked of the data sets that this very folder is; empty where it is none."""
    return _known(folder) or list(plugins.load(ROOM, LAST).look(folder))


def _known(folder: Path) -> list[Found]:
    """Return what is asked of a folder that a file of this room knows by name."""
    known = [name for name in plugins.names(ROOM) if name != LAST]
    return [one for name in known for one in plugins.load(ROOM, name).look(folder)]


def _is_known(folder: Path, depth: int) -> bool:
    """Return whether a folder is such a one, or one below it."""
    if _known(folder):
        return True
    return depth > 0 and any(_is_known(inner, depth - 1) for inner in _below(folder))


def _below(folder: Path) -> list[Path]:
    """Return the first folders of a folder that are not hidden; none where it can't be listed."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []
    return [folder / name for name in names[:_FOLDERS]]


def quoted(path: str | Path) -> str:
    """Return a path as a value among words of a plan: in brackets, where it holds a comma."""
    return f"[{path}]" if "," in str(path) or "=" in str(path) else str(path)
