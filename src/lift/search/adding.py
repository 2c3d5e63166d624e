"""Items into an index: what changed is encoded, appended, and committed in pieces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from lift.bundle import Bundle
from lift.data.tally import Tally
from lift.errors import DataError, NotFinite
from lift.search.prepared import Prepared, Row, prepared
from lift.search.tables import Tables
from lift.search.terms import KINDS, Item, Kind
from lift.search.vectors import VectorFile
from lift.search.view import View, file_of

AT_ONCE = 128
"""Items of one commit."""

_BYTES = 64 << 20
"""Of image files that are held at a time, but for a single item that has more."""

_PIECE = 65_536
"""Rows that are moved at a time where vectors are compacted: 100 MB at 384 numbers."""

_UNIT = 2e-3
"""How far from 1 the length of a row may be: float16 rounds that far."""


@dataclass
class Added:
    """What `add` did.

    Attributes:
        added, replaced, unchanged: items; the last cost no encoding.
        removed: items that were no longer wanted.
        rows: vectors that were computed, by kind.
        known: rows whose content had a vector already.
        left_out: what could not be used, and why.
        seconds: wall time.
        notes: sentences about what was not done as asked, or is slower than it could be.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    rows: dict[Kind, int] = field(default_factory=lambda: {kind: 0 for kind in KINDS})
    known: int = 0
    left_out: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = (
            f"{self.added:,} added, {self.replaced:,} replaced, {self.unchanged:,} unchanged, "
            f"{self.removed:,} removed; "
            f"{self.rows['image']:,} images and {self.rows['text']:,} texts encoded in "
            f"{self.seconds:.1f} s; left out: {self.left_out.sentence()}"
        )
        return "\n".join((said, *self.notes))


@dataclass(frozen=True)
class Writing:
    """An index that is open for writing.

    Attributes:
        folder, tables: of the index.
        encoder: gives its model.
        last: gives a view that may be older than the last commit.
        settled: gives what the last commit left, now.
        lock: held by whoever changes something.
    """

    folder: Path
    tables: Tables
    encoder: Callable[[], Bundle]
    last: Callable[[], View]
    settled: Callable[[], View]
    lock: threading.RLock

    @property
    def view(self) -> View:
        """What the last commit left."""
        return self.settled()

    def files(self) -> dict[Kind, VectorFile]:
        """Return the vector files with the rows that count now; items are not looked at."""
        _, counts, generation = self.tables.state()
        view = self.last()
        if view.generation != generation:
            view = self.settled()
        return {kind: side.file.at(counts[kind]) for kind, side in view.sides.items()}


def add(
    index: Writing,
    items: Iterable[Item],
    *,
    progress: bool = False,
    total: int | None = None,
    thumbnails: int = 256,
    encode_texts: Callable[[Sequence[str]], np.ndarray] | None = None,
) -> Added:
    """Add items, or replace those whose key is there.

    An item that is there already, the same in all its parts, costs no encoding; a text or image
    whose content has a vector gets that one. Each `AT_ONCE` items are one commit: killed at any
    time the index is what the last commit left, and the same call goes on.

    Args:
        index: open for writing.
        items: may be a stream longer than memory.
        progress: whether to draw a progress bar.
        total: how many there are, for that.
        thumbnails: pixels of the longer side of kept pictures.
        encode_texts: in place of the model's own, for vectors that exist already.

    Raises:
        DataError: an item without a key, or with facts that are none.
        NotFinite: a vector that is.
        StorageError: the disk refused.
    """
    done, start = Added(), time.monotonic()
    try:
        with tqdm(total=total, unit="item", disable=not progress) as bar:
            for batch in _batches(items):
                for ready in _prepared(index, batch, thumbnails, done):
                    with index.lock:
                        _commit(index, ready, done, encode_texts)
                bar.update(len(batch))
    finally:  # once: looking at all rows for every commit would take longer than encoding
        index.settled()
    done.seconds = time.monotonic() - start
    return done


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in pieces, in each no key twice: the later one replaces the earlier."""
    batch: dict[str, Item] = {}
    held = 0
    for item in items:
        if item.key in batch or len(batch) == AT_ONCE or held > _BYTES:
            yield list(batch.values())
            batch, held = {}, 0
        batch[item.key] = item
        held += sum(len(image) for image in item.images if isinstance(image, bytes))
    if batch:
        yield list(batch.values())


def _prepared(
    index: Writing, batch: Sequence[Item], thumbnails: int, done: Added
) -> Iterator[list[Prepared]]:
    """Yield what of some items is new, in pieces of not much more than `_BYTES`."""
    known = index.tables.known([item.key for item in batch])
    ready: list[Prepared] = []
    held = 0
    for item in batch:
        digest = known[item.key][1] if item.key in known else None
        one = prepared(item, thumbnails, done.left_out, digest)
        if one is None:
            continue
        if one.digest == digest:
            done.unchanged += 1
            continue
        ready.append(one)
        held += one.size
        if held > _BYTES:
            yield ready
            ready, held = [], 0
    if ready:
        yield ready


def _commit(
    index: Writing,
    new: Sequence[Prepared],
    done: Added,
    encode_texts: Callable[[Sequence[str]], np.ndarray] | None,
) -> None:
    """Add some items in one transaction."""
    known = index.tables.known([one.key for one in new])
    encoder = index.encoder()
    encoders: dict[Kind, Callable[[Any], np.ndarray]] = {
        "image": encoder.encode_images,
        "text": encode_texts or encoder.encode_texts,
    }
    files, counts = index.files(), {}
    for kind in KINDS:
        rows = [row for one in new for row in one.rows if row.kind == kind]
        z = _vectors(index, files[kind], kind, rows, encoders[kind], done)
        first = files[kind].append(z)
        counts[kind] = first + len(z)
        for place, row in enumerate(rows, start=first):
            row.place = place
    with index.tables.transaction() as base:
        for one in new:
            if one.key in known:
                _forget(base, known[one.key][0])
            _insert(base, one)
        base.execute("UPDATE state SET images = ?, texts = ?", (counts["image"], counts["text"]))
    done.replaced += sum(one.key in known for one in new)
    done.added += sum(one.key not in known for one in new)


def _vectors(
    index: Writing,
    file: VectorFile,
    kind: Kind,
    rows: Sequence[Row],
    encode: Callable[[Any], np.ndarray],
    done: Added,
) -> Float32[np.ndarray, "n d"]:
    """Return a vector for each row: one that the index has of that content, or a new one."""
    width = index.encoder().space.dimensions
    z = np.empty((len(rows), width), np.float32)
    there = index.tables.places(kind, [row.content for row in rows])
    new: dict[bytes, list[int]] = {}
    for at, row in enumerate(rows):
        place = there.get(row.content)
        if place is not None and place < file.count:
            z[at] = file.rows[place]
            done.known += 1
        else:
            new.setdefault(row.content, []).append(at)
    if new:
        made = np.asarray(encode([rows[ats[0]].value for ats in new.values()]), np.float32)
        lengths = np.linalg.norm(made, axis=1)
        if made.shape != (len(new), width) or not np.isfinite(made).all():
            raise NotFinite(
                f"The model gave {made.shape} numbers for {len(new)} {kind}s, or NaN; check its "
                "weights, or use precision float32."
            )
        if (abs(lengths - 1) > _UNIT).any():
            raise DataError(
                f"The vector of a {kind} has the length {lengths[abs(lengths - 1).argmax()]:.3f}, "
                "not 1: an index holds unit vectors."
            )
        done.rows[kind] += len(new)
        done.known += sum(len(ats) - 1 for ats in new.values())
        for row, ats in zip(made, new.values(), strict=True):
            z[ats] = row
    return z


def _forget(base: Any, item: int) -> None:
    for table, column in (("items", "id"), *((t, "item") for t in ("facts", "rows", "pictures"))):
        base.execute(f"DELETE FROM {table} WHERE {column} = ?", (item,))


def _insert(base: Any, one: Prepared) -> None:
    item = base.execute(
        "INSERT INTO items (key, digest, texts, images) VALUES (?, ?, ?, ?)",
        (one.key, one.digest, one.texts, one.images),
    ).lastrowid
    base.executemany(
        "INSERT INTO facts VALUES (?, ?, ?, ?)",
        [
            (item, name, int(value) if isinstance(value, bool) else value, isinstance(value, bool))
            for name, value in one.facts.items()
        ],
    )
    base.executemany(
        "INSERT INTO pictures VALUES (?, ?, ?)",
        [(item, number, jpeg) for number, jpeg in enumerate(one.pictures) if jpeg],
    )
    names = {row.field for row in one.rows}
    base.executemany("INSERT OR IGNORE INTO fields (name) VALUES (?)", [(n,) for n in names])
    numbers = dict(base.execute("SELECT name, id FROM fields"))
    base.executemany(
        "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)",
        [
            (KINDS.index(r.kind), r.place, item, numbers[r.field], r.number, r.content)
            for r in one.rows
        ],
    )


def delete(index: Writing, keys: Iterable[str]) -> int:
    """Remove items and return how many were there; their vectors stay until `compact`."""
    wanted = list(dict.fromkeys(keys))
    with index.lock:
        known = index.tables.known(wanted)
        if not known:
            return 0
        with index.tables.transaction() as base:
            for item, _ in known.values():
                _forget(base, item)
    index.settled()
    return len(known)


def compact(index: Writing) -> int:
    """Write the vectors without those of removed items; return how many went.

    Killed at any time the old files count.
    """
    with index.lock:
        return _compact(index, index.view)


def _compact(index: Writing, view: View) -> int:
    dead = sum(len(side.owner) - side.live for side in view.sides.values())
    if not dead:
        return 0
    generation = view.generation + 1
    moved: dict[Kind, np.ndarray] = {}
    for kind, side in view.sides.items():
        kept = np.flatnonzero(side.owner >= 0)
        path = side.file.path.with_name(
            file_of(index.folder, kind, generation, "float32").stem + side.file.path.suffix
        )
        new = type(side.file)(path, side.file.rows.shape[1], side.file.rows.dtype, 0)
        for start in range(0, len(kept), _PIECE):
            piece = kept[start : start + _PIECE]
            new.append(np.asarray(side.file.rows[piece], np.float32))
            new.commit(start + len(piece))
        moved[kind] = kept
    with index.tables.transaction() as base:
        for kind, kept in moved.items():
            base.executemany(  # to smaller places in order: none is taken twice
                "UPDATE rows SET place = ? WHERE kind = ? AND place = ?",
                [
                    (new, KINDS.index(kind), old)
                    for new, old in enumerate(kept.tolist())
                    if new != old
                ],
            )
        base.execute(
            "UPDATE state SET images = ?, texts = ?, generation = ?",
            (len(moved["image"]), len(moved["text"]), generation),
        )
    after = index.settled()
    remove_leftovers(index.folder, after)
    return dead


def remove_leftovers(folder: Path, view: View) -> None:
    """Remove vector files of other generations, which a killed `compact` left."""
    current = {side.file.path.name for side in view.sides.values()}
    for kind in KINDS:
        for path in folder.glob(f"{kind}-[0-9]*.f*"):
            if path.name not in current:
                path.unlink(missing_ok=True)
