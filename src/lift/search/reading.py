"""An index as it is asked: opened, its model loaded when it is needed, its last commit seen."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32

from lift import bundle as bundles
from lift.bundle import Bundle
from lift.errors import CheckpointError, ConfigError, DataError
from lift.files import sole_writer
from lift.search import adding, record
from lift.search.composing import Edit, compose
from lift.search.filters import Filter
from lift.search.near import near, require_askable
from lift.search.tables import Tables
from lift.search.terms import KINDS, FactRange, Hit, Kind, Merge, Query, Searchable, Stored
from lift.search.view import View, opened
from lift.text.space import TextSpace

MODEL, COMBINER = "model", "combiner"

_TRIES = 10

LOOK = 0.5
"""Seconds between two looks at whether another process has committed."""


OpenedT = TypeVar("OpenedT", bound="Opened")


class Opened(Searchable):
    """An index that can be asked from several threads, and changed by one process at a time.

    Attributes:
        name: of its folder.
        folder: where it lies.
        record: what `index.json` says.
    """

    def __init__(self, folder: Path, *, model: Bundle | None, device: str, writes: bool) -> None:
        """Use `Index.open`."""
        self.folder, self.name = folder, folder.name
        self._held = contextlib.ExitStack()
        try:
            if writes:
                self._held.enter_context(sole_writer(folder))
            self.record = record.read(folder)
            self._tables = Tables(folder, writes=writes)
            self._held.callback(self._tables.close)
            self._device, self._model, self._writes = device, None, writes
            if model is not None:
                self._model = self._ours(model)
            self._lock = threading.RLock()
            self._changing = threading.RLock()  # taken before the other one
            self._written = record.stamp(folder)
            self._edit: Edit | None = None
            self._view = self._opened()
            self._looked = time.monotonic()
            if writes:
                adding.remove_leftovers(folder, self._view)
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        """Let go of files, and of the lock."""
        self._view.close()
        self._held.close()

    def __enter__(self: OpenedT) -> OpenedT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ours(self, model: Bundle) -> Bundle:
        self.record.space.require_same(
            model.space, ours=f"the index {self.folder}", theirs="the model"
        )
        if model.identity != self.record.model:
            raise ConfigError(
                f"The index {self.folder} was made by another model of the same text space, whose "
                "images lie elsewhere: leave the model out (the index has its own), or build an "
                "index of it."
            )
        return model

    # --- what it is -----------------------------------------------------------------------------

    @property
    def space(self) -> TextSpace:
        """The text space of its vectors."""
        return self.record.space

    @property
    def encoder(self) -> Bundle:
        """The model that encodes queries, loaded when it is first asked for."""
        with self._lock:
            if self._model is None:
                try:
                    self._model = bundles.load(self.folder / MODEL, device=self._device)
                except CheckpointError as error:
                    raise DataError(f"The model of the index can't be loaded: {error}") from error
                self.space.require_same(
                    self._model.space, ours=f"the index {self.folder}", theirs="its model"
                )
            return self._model

    @property
    def view(self) -> View:
        """What the last commit left."""
        if time.monotonic() - self._looked > LOOK:
            self.refresh()
        return self._view

    def refresh(self) -> None:
        """See what other processes have committed since; it happens by itself twice a second."""
        with self._lock:
            self._looked = time.monotonic()
            stamp = record.stamp(self.folder)
            if stamp != self._written:
                self._written = stamp
                self._read_again()
            if self._tables.state()[0] != self._view.commits:
                self._view = self._opened(self._view)

    def _read_again(self) -> None:
        """See curves, weights and an engine that another process chose since."""
        try:
            found = record.read(self.folder)
        except DataError:  # what was read when it was opened still holds
            return
        if (found.space, found.model, found.stored) != (
            self.record.space,
            self.record.model,
            self.record.stored,
        ):
            return
        before = self._view if found.engine == self.record.engine else None
        self.record = found
        self._view = self._opened(before)

    def _opened(self, before: View | None = None) -> View:
        for attempt in range(_TRIES):
            try:
                return opened(
                    self.folder, self.record, self._tables, writes=self._writes, before=before
                )
            except DataError:  # files that another process compacted away in between
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("returned or raised")

    def __len__(self) -> int:
        return self.view.items

    # --- asked ----------------------------------------------------------------------------------

    def vectors(self, queries: Sequence[Query]) -> tuple[np.ndarray, list[Kind | None]]:
        """Return the unit vector of each query, and the kind of its terms (None: both)."""
        return compose(queries, self.encoder, self.rows, self._combiner)

    def near(
        self,
        z: Float32[np.ndarray, "q d"],
        *,
        of: Sequence[Kind | None],
        top: int = 20,
        where: Filter | None = None,
        kinds: Sequence[Kind] = KINDS,
        merge: Merge = "auto",
    ) -> list[list[Hit]]:
        """See `lift.search.terms.Searchable`."""
        require_askable(self, z, top, kinds, merge)
        how: dict[str, Any] = dict(of=of, top=top, where=where, kinds=kinds, merge=merge)
        view = self.view
        found = near(view, z, **how)
        if where is None and all(len(own) == top for own in found):
            return found
        for _ in range(_TRIES):  # rows may be of one commit, and items or a filter of a later one
            if self._tables.state()[0] == view.commits:
                break
            self.refresh()
            view = self._view
            with self._tables.snapshot():
                if self._tables.state()[0] == view.commits:
                    return near(view, z, **how)
        return found

    def item(self, key: str) -> Stored | None:
        """Return an item, None where there is none of this key."""
        known = self._tables.known([key])
        return None if not known else self._tables.stored([known[key][0]]).get(known[key][0])

    def rows(self, key: str) -> list[tuple[Kind, str, int, Float32[np.ndarray, " d"]]]:
        """Return the vectors of an item with kind, field and number."""
        while True:  # places are those of one generation of files
            self.refresh()
            view = self._view
            with self._tables.snapshot():
                if self._tables.state()[2] == view.generation:
                    known = self._tables.known([key])
                    return view.rows_of(known[key][0]) if known else []

    def browse(self, start: int, count: int, where: Filter | None = None) -> list[Stored]:
        """Return items in the order they came in."""
        numbers = self._tables.meeting(where or Filter(), max(start, 0), max(count, 0))
        found = self._tables.stored(numbers)
        return [found[number] for number in numbers if number in found]

    def counted(self, where: Filter) -> int:
        """Return how many items meet a filter."""
        return self._tables.counted(where) if where else len(self)

    def picture(self, key: str, number: int = 0) -> bytes | None:
        """Return a small JPEG of an item's image, None where it has none."""
        known = self._tables.known([key])
        return self._tables.picture(known[key][0], number) if known else None

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for."""
        return self._tables.facts()

    def keys(self) -> Iterator[str]:
        """Yield the key of every item in the order they came in."""
        return self._tables.keys()

    @property
    def edits(self) -> bool:
        """Whether there is a combiner, for queries to "edit"."""
        return (self.folder / COMBINER).is_dir()

    def _combiner(self) -> Edit:
        from lift.search import combiner

        with self._lock:
            if self._edit is not None:
                return self._edit
            if not self.edits:
                raise ConfigError(
                    f"The index {self.name} has no combiner to edit pictures with; train one "
                    "with `lift index build INDEX --combiner`, or ask with the sum of both."
                )
            edit: Edit = combiner.load(self.folder / COMBINER, self.space)
            self._edit = edit
            return edit
