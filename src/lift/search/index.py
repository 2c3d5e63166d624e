"""An index of images and texts in one folder: made, asked, changed.

    index = lift.open_index("photos.index")
    index.search("two dogs in the snow")
    index.search(Query.of("at night", images=["harbour.jpg"]), where="year>2019")

A folder holds `index.json`, `items.db` (items, facts, small pictures), a file of vectors for each
kind, what the engine keeps, and a copy of the model. What one commit wrote counts whole or not at
all, whenever the process ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lift.bundle import Bundle
from lift.config import Part
from lift.errors import ConfigError
from lift.files import is_ours_or_empty, whole_folder
from lift.search import adding, calibrating, record
from lift.search.filters import Filter
from lift.search.reading import COMBINER as COMBINER
from lift.search.reading import MODEL, Opened
from lift.search.record import EXACT, IndexRecord
from lift.search.tables import Tables
from lift.search.terms import Item
from lift.search.view import View
from lift.terms import Source


class Index(Opened):
    """An index that can be asked from several threads, and changed by one process at a time.

    Threads that change it wait for each other. How it is asked is in `lift.search.reading`.
    """

    # --- made, opened, closed -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model: Bundle,
        *,
        weights: dict[str, float] | None = None,
        engine: Part = EXACT,
        thumbnails: int = 256,
        stored: str = "float32",
    ) -> Index:
        """Make an empty index, open for writing.

        Args:
            folder: of the index; it must not hold anything else.
            model: makes its vectors; a copy goes into the folder.
            weights: of fields ({"title": 2.0}): how many times the odds of their rows count.
            engine: how near rows are found.
            thumbnails: pixels of the longer side of the pictures that are kept, 0 for none.
            stored: float32, or float16 for half the disk.

        Raises:
            ConfigError: something else is there, or an option that is none.
            StorageError: the disk refused.
        """
        folder = Path(folder)
        if not is_ours_or_empty(folder, record.NAME) or (folder / record.NAME).exists():
            raise ConfigError(f"{folder} holds something already; choose another folder.")
        made = IndexRecord(
            space=model.space,
            model=model.identity,
            weights=weights or {},
            engine=engine,
            thumbnails=thumbnails,
            stored=stored,  # type: ignore[arg-type]
        )
        with whole_folder(folder) as aside:
            Tables(aside, writes=True, new=True).close()
            model.save(aside / MODEL)
            made.write(aside)
        return cls(folder, model=model, device=str(model.device), writes=True)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        model: Bundle | None = None,
        device: str = "auto",
        writes: bool = False,
    ) -> Index:
        """Open an index.

        Args:
            folder: of the index.
            model: in place of the copy that lies there; it has to be the same one.
            device: where queries are encoded.
            writes: to change it; only one process can.

        Raises:
            DataError: no index there, or a damaged one.
            SpaceMismatch: `model` is another one.
            StorageError: another process is changing it.
        """
        return cls(Path(folder), model=model, device=device, writes=writes)

    # --- changed --------------------------------------------------------------------------------

    def add(self, items: Iterable[Item], **how: Any) -> adding.Added:
        """Add items, or replace those whose key is there; see `lift.search.adding.add`."""
        return adding.add(self._writer(), items, thumbnails=self.record.thumbnails, **how)

    def delete(self, keys: Iterable[str]) -> int:
        """Remove items and return how many were there."""
        return adding.delete(self._writer(), keys)

    def compact(self) -> int:
        """Write the vectors without those of removed items; return how many went.

        What an engine had built is built anew: places are others then.
        """
        with self._changing:
            writer = self._writer()
            built = any(side.engine.stale < len(side.owner) for side in writer.view.sides.values())
            gone = adding.compact(writer)
            if gone and built and any(side.engine.stale for side in self._view.sides.values()):
                self.build_engine()
            return gone

    def build_engine(self, engine: Part | None = None) -> None:
        """Make what the engine looks things up in anew, over all rows; with another engine first.

        Raises:
            MissingPackage: the engine needs a package that is not installed.
        """
        with self._changing:
            writer = self._writer()
            if engine is not None:
                self._change(engine=engine)
            for side in writer.view.sides.values():
                side.engine.build()

    def calibrate(self, source: Source | None = None) -> bool:
        """Fit the curves by which images and texts compete fairly; return whether there are some.

        Args:
            source: pairs with two captions an image, best such that the model was not trained on;
                None takes the index's own items with an image and two texts.
        """
        with self._changing:
            view = self._writer().view
            if source is None:
                items = self._tables.meeting(Filter())
                curves = calibrating.of_rows(items, view.rows_of)
            else:
                curves = calibrating.of_source(self.encoder, source)
            if curves:
                told = {kind: (curve.slope, curve.offset) for kind, curve in curves.items()}
                on = "" if source is None else source.name
                self._change(calibrations=told, calibrated_on=on)
            return bool(curves)

    def weigh(self, weights: dict[str, float]) -> None:
        """Let the fields count by other weights from now on; see `create`."""
        with self._changing:
            self._writer()
            self._change(weights=weights)

    def _change(self, **values: object) -> None:
        self.record = replace(self.record, **values)  # type: ignore[arg-type]
        self.record.write(self.folder)
        with self._lock:
            before = self._view if "engine" not in values else None
            self._view = self._opened(before)

    def _writer(self) -> adding.Writing:
        if not self._writes:
            raise ConfigError(f"The index {self.folder} was opened for reading; open it to write.")
        return adding.Writing(
            folder=self.folder,
            tables=self._tables,
            encoder=lambda: self.encoder,
            last=lambda: self._view,
            settled=self._settled,
            lock=self._changing,
        )

    def _settled(self) -> View:
        """Return what the last commit left, now."""
        self.refresh()
        return self._view
