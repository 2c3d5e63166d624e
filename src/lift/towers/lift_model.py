"""The tower of a model that lift made, as the start of another: for a new space, a new head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from lift import plugins
from lift.config import Part, from_dict
from lift.errors import CheckpointError, ConfigError
from lift.model_folder import MARKER, WEIGHTS, read_values, require_model

_PREFIX = "tower."


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where the model lies.

    Attributes:
        model: its folder, or that of the run which made it.
    """

    model: str


def pixels(config: Config) -> dict[str, Any]:
    """Return the fields of the model's `Transform`, without its random changes.

    Raises:
        CheckpointError: there is no model, or it is damaged.
    """
    folder = _folder(config)
    transform = read_values(folder / MARKER).get("transform", {})
    if not isinstance(transform, Mapping):
        raise CheckpointError(
            f"{folder / MARKER} does not say how pixels reach the tower; copy the folder again "
            "from where it was made."
        )
    return {name: value for name, value in transform.items() if name != "augment"}


def kept(config: Config, tower: nn.Module) -> Part:
    """Return the part of the network itself."""
    return plugins.kept(tower.came_as, tower)  # type: ignore[arg-type]


def build(config: Config) -> nn.Module:
    """Return the model's tower with its weights, without its head.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        MissingPackage: its tower needs a package that is not installed.
    """
    folder = _folder(config)
    inner = _inner(folder)
    tower = plugins.rebuild(inner)
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            names = [name for name in file.keys() if name.startswith(_PREFIX)]
            state = {name.removeprefix(_PREFIX): file.get_tensor(name) for name in names}
        tower.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights in {folder} can't be loaded ({str(error).splitlines()[0]}); "
            "copy the folder again from where it was made."
        ) from error
    tower.came_as = inner  # the folder may be gone when somebody saves what came of it
    return tower


def rebuild(config: Config) -> nn.Module:
    """Raise ConfigError: a saved model holds the network's own part, see `kept`."""
    raise ConfigError(
        f"The saved model names the tower of another one ({config.model}), where its own network "
        "belongs; copy it again from where it was made."
    )


def _folder(config: Config) -> Path:
    return require_model(Path(config.model).expanduser(), f"tower.model={config.model}")


def _inner(folder: Path) -> Part:
    """Return the part of the model's tower."""
    try:
        found = from_dict(Part, read_values(folder / MARKER)["image"]["tower"], MARKER)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{folder / MARKER} does not say which tower its weights are of; copy the folder again "
            "from where it was made."
        ) from error
    if found.room != "towers" or found.name == "lift_model":
        raise CheckpointError(
            f"{folder / MARKER} names the tower {found.room}/{found.name}, which says nothing of "
            "a network; copy the folder again from where it was made."
        )
    return found
