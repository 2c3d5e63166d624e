"""The rows of a bank and whose they are: checked, edited, saved."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lift.bank import folder as on_disk
from lift.bank.scoring import Reduce
from lift.errors import CheckpointError, ConfigError, DataError, LiftError, NotFinite, unknown
from lift.text.space import TextSpace

KINDS = ("template", "descriptor", "text", "learned", "image")
"""Where a row comes from: a template with the class's name, a sentence about a part of it, any
other text, learning, images."""

RowsT = TypeVar("RowsT", bound="Rows")


@dataclass(frozen=True, eq=False)
class Rows:
    """Classes as sets of rows of one text space.

    It never changes: every method that edits returns a new one, whose other rows are the same to
    the bit.

    Attributes:
        classes: their names.
        rows: of unit length [n d].
        owner: the number of each row's class, in order; every class owns a row [n].
        kinds: where each row comes from, one of `KINDS`.
        texts: the sentence of each row, "" where there is none.
        weights: how much each row counts in its class, 0 or more, and not 0 for a whole class [n].
        space: the text space of the rows; None where the encoder did not say.
        reduce: how the rows of a class make one score, see `lift.bank.scoring.Reduce`.
        temperature: of "logsumexp".
    """

    classes: tuple[str, ...]
    rows: Float32[np.ndarray, "n d"]
    owner: Int64[np.ndarray, " n"]
    kinds: tuple[str, ...]
    texts: tuple[str, ...]
    weights: Float32[np.ndarray, " n"]
    space: TextSpace | None = None
    reduce: Reduce = "mean"
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Check what the attributes promise. Raises DataError, ConfigError or NotFinite."""
        _check_words(self)
        _check_numbers(self)
        for name in ("rows", "owner", "weights"):
            if (array := getattr(self, name)).flags.writeable:
                array = array.view()  # the caller's own stays as it is
                array.setflags(write=False)
                object.__setattr__(self, name, array)

    @property
    def digest(self) -> str:
        """Return 8 hex digits that stand for all that decides a score, and for the names."""
        words = [self.classes, self.reduce, self.temperature, self.space and self.space.fingerprint]
        found = hashlib.blake2b(json.dumps(words).encode(), digest_size=4)
        for array in (self.rows, self.owner, self.weights):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def number(self, name: str) -> int:
        """Return the number of a class. Raises ConfigError for one that is not there, or twice."""
        if self.classes.count(name) > 1:
            raise ConfigError(
                f"{self.classes.count(name)} classes of the bank are called {name!r}."
            )
        if name not in self.classes:
            raise unknown("class of the bank:", name, self.classes[:20])
        return self.classes.index(name)

    def require_space(self, other: object, what: str = "the encoder") -> None:
        """Raise SpaceMismatch if `other` says its space and that is not the bank's."""
        theirs = getattr(other, "space", None)
        if self.space is not None and isinstance(theirs, TextSpace):
            self.space.require_same(theirs, ours="the bank", theirs=what)

    def require_width(self, width: int, what: str) -> None:
        """Raise DataError unless rows have this width."""
        if width != self.rows.shape[1]:
            raise DataError(
                f"The bank has rows of {self.rows.shape[1]} numbers, {what} {width}: they are not "
                "of one space."
            )

    # --- editing --------------------------------------------------------------------------------

    def with_rows(
        self: RowsT,
        rows: Float32[np.ndarray, "k d"],
        labels: Sequence[str],
        kind: str,
        texts: Sequence[str] = (),
        weights: Float32[np.ndarray, " k"] | None = None,
    ) -> RowsT:
        """Return the value with more rows of unit length.

        Args:
            rows, labels: the rows, and the class of each.
            kind: one of `KINDS`.
            texts: where they come from; none: nowhere.
            weights: None: 1 each.

        Raises:
            ConfigError: an unknown class or kind.
            DataError: rows of another width or not of unit length.
        """
        self.require_width(rows.shape[1], "the new ones have")
        place = {name: self.number(name) for name in dict.fromkeys(labels)}
        owner = np.array([place[label] for label in labels], dtype=np.int64)
        even = np.ones(len(rows), np.float32) if weights is None else weights
        return self._ordered(
            self.classes,
            np.concatenate([self.rows, rows]),
            np.concatenate([self.owner, owner]),
            (*self.kinds, *[kind] * len(rows)),
            (*self.texts, *(texts or [""] * len(rows))),
            np.concatenate([self.weights, even]),
        )

    def with_classes(self: RowsT, other: Rows) -> RowsT:
        """Return the value with the classes of another one; a class of both has the rows of both.

        Raises:
            SpaceMismatch, DataError: the other is of another space or width.
        """
        self.require_space(other, "the other one")
        self.require_width(other.rows.shape[1], "the other bank has")
        names = (*self.classes, *(name for name in other.classes if name not in self.classes))
        place = np.array([names.index(name) for name in other.classes], dtype=np.int64)
        return self._ordered(
            names,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.owner, place[other.owner]]),
            (*self.kinds, *other.kinds),
            (*self.texts, *other.texts),
            np.concatenate([self.weights, other.weights]),
        )

    def without(self: RowsT, *names: str) -> RowsT:
        """Return the value without some classes. Raises ConfigError for an unknown one, or all."""
        gone = {self.number(name) for name in names}
        kept = [number for number in range(len(self.classes)) if number not in gone]
        if not kept:
            raise ConfigError("A bank without all of its classes has none left.")
        return self._taken(np.isin(self.owner, kept), kept)

    def without_kind(self: RowsT, kind: str) -> RowsT:
        """Return the value without the rows of a kind.

        Raises:
            ConfigError: an unknown kind, or a class that has no other rows.
        """
        if kind not in KINDS:
            raise unknown("kind of row", kind, KINDS)
        return self._taken(np.array(self.kinds) != kind)

    def renamed(self: RowsT, old: str, new: str) -> RowsT:
        """Return the value with another name for a class; its rows and their texts stay.

        Raises:
            ConfigError: an unknown class, an empty name, or one that another class has.
        """
        number = self.number(old)
        if not new.strip() or (new != old and new in self.classes):
            raise ConfigError(f"The class {old!r} can't be called {new!r}: empty, or taken.")
        names = (*self.classes[:number], new, *self.classes[number + 1 :])
        return dataclasses.replace(self, classes=names)

    def _taken(
        self: RowsT, kept: Bool[np.ndarray, " n"], classes: Sequence[int] | None = None
    ) -> RowsT:
        """Return the value with some rows only, and with some classes only."""
        classes = range(len(self.classes)) if classes is None else classes
        at = np.flatnonzero(kept)
        bare = [self.classes[c] for c in classes if not (self.owner[at] == c).any()]
        if bare:
            raise ConfigError(f"The class {bare[0]!r} of the bank would have no row left.")
        return self._ordered(
            tuple(self.classes[c] for c in classes),
            self.rows[at],
            np.searchsorted(classes, self.owner[at]).astype(np.int64),
            tuple(self.kinds[row] for row in at),
            tuple(self.texts[row] for row in at),
            self.weights[at],
        )

    def _ordered(
        self: RowsT,
        classes: tuple[str, ...],
        rows: Float32[np.ndarray, "n d"],
        owner: Int64[np.ndarray, " n"],
        kinds: Sequence[str],
        texts: Sequence[str],
        weights: Float32[np.ndarray, " n"],
    ) -> RowsT:
        order = np.argsort(owner, kind="stable")
        return dataclasses.replace(
            self,
            classes=classes,
            rows=rows[order],
            owner=owner[order],
            kinds=tuple(kinds[row] for row in order),
            texts=tuple(texts[row] for row in order),
            weights=weights[order],
        )

    # --- on disk --------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the bank, whole or not at all, and return its folder.

        Raises:
            CheckpointError: the folder holds something else.
            StorageError: the disk refused.
        """
        words: dict[str, Any] = {
            "reduce": self.reduce,
            "temperature": self.temperature,
            "classes": list(self.classes),
            "kinds": list(self.kinds),
            "texts": list(self.texts),
        }
        arrays = {"rows": self.rows, "owner": self.owner, "weights": self.weights}
        on_disk.write(Path(folder), words, self.space, arrays)
        return Path(folder)

    @classmethod
    def load(cls: type[RowsT], folder: str | Path) -> RowsT:
        """Return the bank that `save` wrote.

        Raises:
            CheckpointError: no bank there, a newer format, or a damaged one.
        """
        words, space, arrays = on_disk.read(Path(folder))
        try:
            return cls(
                classes=tuple(words["classes"]),
                rows=arrays["rows"],
                owner=arrays["owner"],
                kinds=tuple(words["kinds"]),
                texts=tuple(words["texts"]),
                weights=arrays["weights"],
                space=space,
                reduce=words["reduce"],
                temperature=words["temperature"],
            )
        except (KeyError, TypeError, LiftError) as error:
            raise CheckpointError(
                f"The bank {folder} is damaged ({error}); copy it again from where it was made."
            ) from error


def _check_words(bank: Rows) -> None:
    arrays = (bank.rows, bank.owner, bank.kinds, bank.texts, bank.weights)
    numbers = ((bank.rows, 2, "f"), (bank.owner, 1, "i"), (bank.weights, 1, "f"))
    fitting = all(array.ndim == axes and array.dtype.kind == k for array, axes, k in numbers)
    if not fitting or len({len(array) for array in arrays}) > 1:
        raise DataError("The rows of a bank, their owners, kinds, texts and weights don't match.")
    texts = (*bank.classes, *bank.texts)
    if not all(isinstance(text, str) for text in texts) or "" in bank.classes:
        raise DataError("A class or a text of a bank is not a text, or a class has no name.")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise DataError("A class or a text of a bank is not valid Unicode.") from error
    if bank.reduce not in get_args(Reduce):
        raise unknown("reduce of a bank:", str(bank.reduce), get_args(Reduce))
    told = bank.temperature
    if not isinstance(told, int | float) or not 1e-6 <= told <= 1e6:  # else sums are no numbers
        raise ConfigError(f"The temperature of a bank must lie in [1e-6, 1e6], not {told!r}.")
    if strange := set(bank.kinds) - set(KINDS):
        raise unknown("kind of row", str(min(map(str, strange))), KINDS)


def _check_numbers(bank: Rows) -> None:
    if not np.array_equal(np.unique(bank.owner), np.arange(len(bank.classes))) or not bank.classes:
        raise DataError("Every class of a bank owns a row, and every row belongs to a class.")
    if (np.diff(bank.owner) < 0).any():
        raise DataError("The rows of a bank stand in the order of their classes.")
    lengths = np.linalg.norm(bank.rows, axis=1)
    broken = np.flatnonzero(~np.isfinite(lengths) | ~np.isfinite(bank.weights))
    if len(broken):
        raise NotFinite(
            f"{len(broken)} rows of a bank, or their weights, are NaN or infinite; the first is "
            f"{_named(bank, broken)}: the encoder is damaged."
        )
    # A zero row is what `unit` makes of zeros.
    off = np.flatnonzero((np.abs(lengths - 1) > 1e-3) & (lengths > 0))
    if len(off):
        raise DataError(
            f"{len(off)} rows of a bank are not of unit length (the first has "
            f"{lengths[off[0]]:.4g}, {_named(bank, off)}); scale rows with `lift.terms.unit`."
        )
    totals = np.bincount(bank.owner, bank.weights, minlength=len(bank.classes))
    if (bank.weights < 0).any() or (totals <= 0).any():
        raise DataError("The weights of a bank are 0 or more, and not 0 for all rows of a class.")


def _named(bank: Rows, rows: np.ndarray) -> str:
    """Return what the first of some rows is: its text, or else its class."""
    first = int(rows[0])
    return repr(bank.texts[first] or bank.classes[int(bank.owner[first])])
