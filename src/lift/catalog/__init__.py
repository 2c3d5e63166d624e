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
from lift.data.formats._files import is_folder
from lift.errors import DataError
from lift.evaluation import Plan, parse_plan

ROOM = "catalog"
LAST = "any_pairs"
"""Looks at what no other file knows."""

_DEPTH = 2
_FOLDERS = 200
"""Of one folder."""

_MOST = 2_000
"""Folders that are looked at in all: 10 ms each."""


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
        unseen: folders of which not all was looked at: they hold very many, or can't be listed.
    """

    found: tuple[Found, ...]
    absent: tuple[str, ...]
    unknown: tuple[str, ...] = field(default=())
    unseen: tuple[str, ...] = field(default=())


def search(folder: str | Path) -> Catalogue:
    """Return the data sets in a folder: the folder itself, or those in the folders below.

    Raises:
        DataError: no such folder.
    """
    root = Path(folder)
    if not os.path.isdir(root):
        raise DataError(f"{folder} is no folder of data sets.")
    glance = _Glance()
    found, unknown = glance.search(root, _DEPTH)
    names = {one.name for one in found}
    absent = [name for name in plugins.names(ROOM) if name != LAST and name not in names]
    return Catalogue(tuple(found), tuple(absent), tuple(unknown), tuple(sorted(glance.unseen)))


def look(folder: Path) -> list[Found]:
    """Return what is asked of the data sets that this very folder is; empty where it is none."""
    return _Glance().at(folder)


class _Glance:
    """A look at folders, each once and not without end.

    Attributes:
        unseen: folders of which not all was looked at.
    """

    def __init__(self) -> None:
        self.unseen: set[str] = set()
        self._known: dict[Path, list[Found]] = {}
        self._below: dict[Path, list[Path]] = {}

    def search(self, folder: Path, depth: int) -> tuple[list[Found], list[str]]:
        """Return what a folder and those below it hold, and those that hold nothing known."""
        here = self.known(folder)
        # Several data sets side by side can look like one of pairs: known ones come first.
        if not here and not (depth and self._holds_known(folder, depth)):
            here = self.at(folder)
        if here:
            return here, []
        found: list[Found] = []
        unknown: list[str] = []
        for path in self.below(folder) if depth else ():
            more, others = self.search(path, depth - 1)
            found += more
            unknown += others
        return found, unknown if found else [str(folder)]

    def at(self, folder: Path) -> list[Found]:
        """Return what is asked of this very folder, known by name or guessed."""
        here = self.known(folder)
        return here if here or folder not in self._known else self._asked(LAST, folder)

    def known(self, folder: Path) -> list[Found]:
        """Return what is asked of a folder that a file of the room knows by name."""
        if folder not in self._known:
            if len(self._known) >= _MOST:
                self.unseen.add(str(folder.parent))
                return []
            names = [name for name in plugins.names(ROOM) if name != LAST]
            self._known[folder] = [one for name in names for one in self._asked(name, folder)]
        return self._known[folder]

    def _asked(self, name: str, folder: Path) -> list[Found]:
        """Return what one file of the room asks; nothing where the disk refuses."""
        try:
            return list(plugins.load(ROOM, name).look(folder))
        except OSError:
            self.unseen.add(str(folder))
            return []

    def _holds_known(self, folder: Path, depth: int) -> bool:
        """Return whether a folder below this one, at most so deep, is known by name."""
        return any(
            self.known(one) or (depth > 1 and self._holds_known(one, depth - 1))
            for one in self.below(folder)
        )

    def below(self, folder: Path) -> list[Path]:
        """Return the first folders of a folder that are not hidden."""
        if folder not in self._below:
            self._below[folder] = [folder / name for name in self._names(folder)]
        return self._below[folder]

    def _names(self, folder: Path) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if is_folder(e) and e.name[0] != ".")
        except OSError:
            self.unseen.add(str(folder))
            return []
        if len(names) > _FOLDERS:
            self.unseen.add(str(folder))
        return names[:_FOLDERS]


def quoted(path: str | Path) -> str:
    """Return a path as a value among words of a plan: in brackets, where it holds a comma."""
    return f"[{path}]" if "," in str(path) or "=" in str(path) else str(path)
