"""A folder is a registry: turn (room, name) into a module, its `Config` and what it builds.

A plugin is one file. It defines a frozen dataclass `Config` and a function `build(config, ...)`.
Nothing else registers it. A file that needs an extra declares `NEEDS = {"package": "extra"}`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from lift.config import Part, from_options, to_dict
from lift.errors import MissingPackage, unknown

ROOMS = (
    "text/encoders",
    "cache/codecs",
    "data/formats",
    "towers",
    "text_towers",
    "objectives",
    "solvers",
    "evals",
    "contenders",
    "catalog",
    "diagnosis",
    "export",
    "search/engines",
    "search/stores",
)
"""Folders of `lift` whose files are parts chosen by name."""


def names(room: str) -> list[str]:
    """Return the names of the parts in a room, from the folder listing alone."""
    folder = Path(__file__).parent / room
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def load(room: str, name: str) -> ModuleType:
    """Import the part's file.

    Raises:
        ConfigError: no such room or part (with the nearest match).
        MissingPackage: the file needs a package that is not installed.
    """
    if room not in ROOMS:  # a stranger's file may name any module of ours
        raise unknown("plugin room", room, ROOMS)
    if name not in names(room):
        raise unknown(room.rstrip("s").replace("/", " "), name, names(room))
    module = importlib.import_module(f"lift.{room.replace('/', '.')}.{name}")
    for package, extra in getattr(module, "NEEDS", {}).items():
        require(package, extra, f"{room}/{name}")
    return module


def require(package: str, extra: str, wanted_by: str) -> None:
    """Raise MissingPackage with the command to type unless `package` can be imported."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(
            f"{wanted_by} needs the package {package}, which is not installed: "
            f"pip install 'lift-align[{extra}]'."
        )


def configure(part: Part) -> Any:
    """Return the part's `Config` with its options checked."""
    module = load(part.room, part.name)
    return from_options(module.Config, part.options, f"{part.room}/{part.name}")


def build(part: Part, *args: Any) -> Any:
    """Return `build(config, *args)` of the part's file."""
    return load(part.room, part.name).build(configure(part), *args)


def resolve(part: Part) -> Part:
    """Return the part with every option spelled out, so that a saved config repeats the run."""
    config = configure(part)
    inner = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    inner = {name: resolve(value) for name, value in inner.items() if isinstance(value, Part)}
    return Part(part.room, part.name, to_dict(dataclasses.replace(config, **inner)))


def kept(part: Part, module: Any) -> Part:
    """Return the part from which a saved model rebuilds what `part` built, reading nothing else.

    Args:
        part: as it was built.
        module: what it built.
    """
    found = getattr(load(part.room, part.name), "kept", None)
    return resolve(part) if found is None else found(configure(part), module)


def rebuild(part: Part) -> Any:
    """Return the network, with random weights, of a part that `kept` made and a file may hold.

    Its options may be a stranger's: nothing but them is read.

    Raises:
        ConfigError: no such part, or options that don't say the network.
    """
    found = getattr(load(part.room, part.name), "rebuild", None)
    return build(part) if found is None else found(configure(part))


def pixels(part: Part) -> dict[str, Any]:
    """Return the fields of a `Transform` that a tower's weights were made with; {} if it has none.

    Raises:
        ConfigError: nobody knows them; the message says how to give them.
    """
    found = getattr(load(part.room, part.name), "pixels", None)
    return {} if found is None else dict(found(configure(part)))
