"""What approximate engines share: what is proposed, exact cosines, late rows, filters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lift.errors import StorageError
from lift.search.engines import NOWHERE, Vectors
from lift.search.engines import _built as built
from lift.search.engines._built import Record, Unusable
from lift.search.engines._exact import Found, cosines_of, exact
from lift.search.engines._questions import checked

_MARGIN = 16
FEW_PROPOSED = 20 + _MARGIN
"""Rows that are proposed for ten hits: their order is that of rounded rows."""

_MOST_SHARE = 0.125
"""Of the rows that may be candidates."""

_A_QUESTION_MORE = 0.02
"""What comparing a row with one question more costs, measured by fetching the row (384 values)."""

_TRIED = 256
"""Questions that the effort is chosen on."""


@runtime_checkable
class Lookup(Protocol):
    """Something in memory or mapped that proposes rows. Several threads may ask at once."""

    def propose(
        self, z: Float32[np.ndarray, "q d"], count: int, effort: int, share: float
    ) -> Int64[np.ndarray, "q count"]:
        """Return places of rows that are likely near, `NOWHERE` where there are none.

        Args:
            z: of unit length.
            count: how many for each.
            effort: how hard to look.
            share: of the rows that are wanted; the rest is sieved out afterwards.
        """
        ...

    def costs(self, count: int, effort: int, share: float) -> float:
        """Return as how many rows compared one by one a question takes, about."""
        ...


@dataclass(frozen=True, kw_only=True)
class Way:
    """What an engine's file brings.

    Attributes:
        name: of the file.
        options: that what it builds depends on.
        recall: that is declared.
        least: rows below which comparing with all is quick enough.
        make: writes a lookup of the vectors into a file.
        load: returns the lookup of a file, whatever the file holds; raises `Unusable`.
        efforts: least and most of it, for so many rows.
    """

    name: str
    options: Mapping[str, Any]
    recall: float
    least: int
    make: Callable[[Vectors, Path], None]
    load: Callable[[Path, int, int], Lookup]
    efforts: Callable[[int], tuple[int, int]]


@dataclass(frozen=True)
class _State:
    vectors: Vectors
    lookup: Lookup | None = None
    record: Record | None = None
    complaint: str = ""
    stamp: tuple[int, int, int] | None = None

    @property
    def rows(self) -> int:
        return 0 if self.record is None else self.record.rows


class Approximate:
    """See `Engine`."""

    def __init__(self, way: Way, vectors: Vectors, folder: Path, *, writes: bool) -> None:
        self.recall = way.recall
        self._way, self._folder, self._writes = way, folder, writes
        self._changing = threading.RLock()
        if writes:
            built.tidy(folder)
        self._state = self._opened(vectors)

    @property
    def stale(self) -> int:
        state = self._state
        return len(state.vectors) - state.rows

    @property
    def complaint(self) -> str:
        return self._state.complaint

    def nearest(
        self,
        z: Float32[np.ndarray, "q d"],
        top: int,
        allowed: Bool[np.ndarray, " m"] | None = None,
    ) -> tuple[Int64[np.ndarray, "q top"], Float32[np.ndarray, "q top"]]:
        """Look among what is proposed and among rows that came later; see `Engine`."""
        state = self._state  # one object, so that rows and lookup fit each other
        checked(state.vectors, z, top)
        z = np.ascontiguousarray(z, np.float32)
        found = self._nearest(state, z, top, allowed)
        return found.places, found.cosines

    def follow(self, vectors: Vectors) -> None:
        """Go on with these vectors; looks whether another process built anew."""
        with self._changing:
            state = self._state
            known = state.record is not None and built.is_of(state.record, vectors)
            if known and built.stamp(self._folder) == state.stamp:
                self._state = _State(
                    vectors, state.lookup, state.record, state.complaint, state.stamp
                )
            else:
                self._state = self._opened(vectors)

    def build(self) -> None:
        """Build the lookup over all rows, choose the effort it needs, and go over to it."""
        if not self._writes:
            raise StorageError(f"The index in {self._folder} was opened for reading only.")
        with self._changing:
            vectors, way = self._state.vectors, self._way

            def fill(path: Path) -> tuple[int, float]:
                way.make(vectors, path)
                lookup = way.load(path, len(vectors), vectors.shape[1])
                return self._effort(vectors, lookup)

            built.write(
                self._folder,
                fill,
                engine=way.name,
                options=dict(way.options),
                rows=len(vectors),
                width=vectors.shape[1],
                kind=str(vectors.dtype),
                sample=built.sample_of(vectors, len(vectors)),
            )
            self._state = self._opened(vectors)

    def close(self) -> None:
        """Let go of files and maps."""
        with self._changing:
            self._state = _State(self._state.vectors[:0].copy())

    def _opened(self, vectors: Vectors) -> _State:
        way, stamp = self._way, built.stamp(self._folder)
        try:
            record = built.read(self._folder, way.name, way.options)
            if not built.is_of(record, vectors):
                raise Unusable("it was built of other vectors")
            if record.recall < way.recall:
                raise Unusable(
                    f"it found only {record.recall:.3f} of the nearest when it was built"
                )
            lookup = way.load(built.lookup_file(self._folder), record.rows, record.width)
        except Unusable as error:
            complaint = (
                f"The {way.name} lookup in {self._folder} is not used, because {error}: every row "
                "is compared, which is right and slower. Build it again to have it back."
            )
            return _State(vectors, complaint=complaint, stamp=stamp)
        return _State(vectors, lookup, record, stamp=stamp)

    def _nearest(
        self,
        state: _State,
        z: Float32[np.ndarray, "q d"],
        top: int,
        allowed: Bool[np.ndarray, " m"] | None,
    ) -> Found:
        vectors, rows = state.vectors, state.rows
        if state.lookup is None or state.record is None or rows < self._way.least or not len(z):
            return exact(vectors, z, top, allowed)
        inside = None if allowed is None else allowed[:rows]
        count = rows if inside is None else int(np.count_nonzero(inside))
        if not count:
            return exact(vectors, z, top, allowed, first=rows)
        found = _proposed(state.lookup, state.record, vectors, z, top, inside, count)
        if len(vectors) > rows:
            late = exact(vectors, z, top, allowed, first=rows)
            asked, place = np.nonzero(late.places != NOWHERE)
            found = found.with_pairs(asked, late.places[asked, place], late.cosines[asked, place])
        return found

    def _effort(self, vectors: Vectors, lookup: Lookup) -> tuple[int, float]:
        """Return the least effort with which more than the declared recall is reached."""
        rows = len(vectors)
        effort, most = self._way.efforts(rows)
        if not rows:
            return effort, 1.0
        z = _questions(vectors)
        best = exact(vectors, z, min(10, rows)).cosines
        aim = self._way.recall + 0.4 * (1 - self._way.recall)
        while True:
            places = lookup.propose(z, min(rows, FEW_PROPOSED), effort, 1.0)
            mine = _judged(vectors, z, places, best.shape[1], None)
            # By cosine: of equal rows any will do. What float32 rounds is no miss.
            reached = float(np.mean(mine.cosines >= best[:, -1:] - 1e-6))
            if reached >= aim or effort >= most:
                return effort, reached
            effort = min(most, effort * 2)


def _proposed(
    lookup: Lookup,
    record: Record,
    vectors: Vectors,
    z: Float32[np.ndarray, "q d"],
    top: int,
    allowed: Bool[np.ndarray, " m"] | None,
    count: int,
) -> Found:
    """Return the best of what is proposed; of all rows, where it proposes too few allowed ones.

    What a filter leaves is looked for among as many more rows as it takes away.
    """
    found = Found.nothing(len(z), top)
    left, share = np.arange(len(z)), count / record.rows
    wanted = min(top, count)
    many = int((2 * wanted + _MARGIN) / share) + 1
    while len(left) and many <= record.rows * _MOST_SHARE:
        looking = len(left) * lookup.costs(many, record.effort, share)
        if looking > count * (1 + _A_QUESTION_MORE * len(left)):
            break  # comparing with all is quicker
        places = lookup.propose(z[left], many, record.effort, share)
        some = _judged(vectors, z[left], places, top, allowed)
        done = (some.places != NOWHERE).sum(axis=1) >= wanted
        found.places[left[done]] = some.places[done]
        found.cosines[left[done]] = some.cosines[done]
        left, many = left[~done], many * 4
    if len(left):
        rest = exact(vectors[: record.rows], z[left], top, allowed)
        found.places[left], found.cosines[left] = rest.places, rest.cosines
    return found


def _judged(
    vectors: Vectors,
    z: Float32[np.ndarray, "q d"],
    proposed: Int64[np.ndarray, "q c"],
    top: int,
    allowed: Bool[np.ndarray, " m"] | None,
) -> Found:
    """Return the best of the proposed and allowed rows by their exact cosines."""
    good = (proposed >= 0) & (proposed < len(vectors))
    if allowed is not None:
        inside = good & (proposed < len(allowed))
        good[inside] = allowed[proposed[inside]]
        good &= inside
    asked, column = np.nonzero(good)
    places = proposed[asked, column]
    both = np.unique(asked * np.int64(len(vectors) or 1) + places)  # a strange file may say twice
    asked, places = np.divmod(both, len(vectors) or 1)
    rows = np.asarray(vectors)
    return Found.nothing(len(z), top).with_pairs(asked, places, cosines_of(rows, z, asked, places))


def _questions(vectors: Vectors) -> Float32[np.ndarray, "q d"]:
    """Return unit vectors to try: rows, half of them moved to a cosine of about 0.7."""
    dice = np.random.default_rng(0)
    places = np.sort(dice.choice(len(vectors), min(len(vectors), _TRIED), replace=False))
    with np.errstate(all="ignore"):
        z = np.nan_to_num(vectors[places].astype(np.float32), posinf=0, neginf=0)
        noise = dice.standard_normal(z.shape, np.float32) / np.sqrt(z.shape[1])
        z[::2] += noise[::2]
        z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return np.nan_to_num(z, posinf=0, neginf=0)
