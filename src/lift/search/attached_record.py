"""What `attached.json` says: which database images were attached to, by which model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lift import plugins
from lift.config import Part, from_dict, to_dict
from lift.errors import ConfigError, DataError, SpaceMismatch
from lift.files import write_text
from lift.search.ranking import Ranking
from lift.search.record import told
from lift.search.stores._store import Store

NAME, MODEL = "attached.json", "model"
FORMAT = "lift.attached/1"
DATABASE = "LIFT_DATABASE"
"""Environment variable with the address of the database, in place of the one in the folder."""

ROOM = "search/stores"


@dataclass(frozen=True, kw_only=True)
class AttachedRecord:
    """What `attached.json` says.

    Attributes:
        store: the kind of database with the options that open it; no password is among them.
        model: identity of the model whose images lie there.
        weights: of fields, above 0: how many times the odds of their rows count.
        calibrations: slope and offset by kind, from cosine to log odds; empty where none was
            fitted.
        format: another one is another version's.
    """

    store: Part
    model: str
    weights: Mapping[str, float] = field(default_factory=dict)
    calibrations: Mapping[str, Any] = field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        if self.store.room != ROOM:  # a stranger's file may say so
            raise ConfigError(f"No database is opened by {self.store.room}.")
        if not all(0 < weight < 1e300 for weight in self.weights.values()):
            raise ConfigError(f"The weights of fields {dict(self.weights)} must be above 0.")
        self.ranking  # noqa: B018  # raises

    @property
    def ranking(self) -> Ranking:
        """How rows become one list."""
        return Ranking.told(self.weights, self.calibrations)

    def write(self, folder: Path) -> None:
        """Write it, whole. Raises StorageError."""
        write_text(folder / NAME, json.dumps(to_dict(self), indent=2, ensure_ascii=False) + "\n")


def read(folder: Path) -> AttachedRecord:
    """Return what a folder says.

    Raises:
        DataError: nothing of the kind there, or damaged, or newer.
    """
    with told(folder / NAME, FORMAT, "lift index attach") as values:
        return from_dict(AttachedRecord, values, NAME)


def is_attached(folder: str | Path) -> bool:
    """Return whether a folder is one that `lift index attach` made."""
    return (Path(folder) / NAME).is_file()


def open_store(store: Part, url: str = "") -> Store:
    """Return the database that a folder names.

    Args:
        store: as the folder has it.
        url: in place of the folder's, as the user says it now; a database that is a folder itself
            is only opened so, for its client trusts what lies there.

    Raises:
        ConfigError: no such database, or one that the user has to name.
        MissingPackage: its client is not installed.
        ServerError: it can't be reached.
    """
    told = url or os.environ.get(DATABASE, "")
    if not told and "://" not in str(store.options.get("url")) and store.name == "qdrant":
        raise ConfigError(
            f"The database of this folder is a folder, too ({store.options.get('url')}): name it "
            f"yourself in {DATABASE} (Python: url=), for its client runs what it finds there."
        )
    options = {**store.options, **({"url": told} if told else {})}
    return plugins.build(Part(ROOM, store.name, options))


def require_model(store: Store, identity: str) -> None:
    """Raise unless a database has images, and they are of one model."""
    about = store.about()
    if about is None:
        raise DataError(f"No images are attached to {store.words}; run `lift index attach`.")
    if about.get("format") != FORMAT:
        raise DataError(
            f"The images beside {store.words} are of the format {about.get('format')!r}, not "
            f"{FORMAT!r}; use the version of lift that attached them."
        )
    if about.get("model") != identity:
        raise SpaceMismatch(
            f"The images beside {store.words} were made by another model "
            f"({str(about.get('name'))[:80]}, identity {str(about.get('model'))[:12]}; this one "
            f"has {identity[:12]}): their vectors don't mix. Use that model, or remove the tables "
            "(or collections) that `lift index attach` made beside the texts and attach anew."
        )
