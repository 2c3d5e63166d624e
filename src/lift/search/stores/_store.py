"""What databases of text vectors have in common: rows of texts, images beside them, one protocol.

Text rows are another program's: they are read and never written. An image lies in a table (or
collection) of its own; several images of one key are written together or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float32

from lift.search.filters import Condition, Filter
from lift.search.terms import Fact, FactRange

LONGEST_KEY = 2_000
"""Bytes of a key: PostgreSQL can't index more than about 2,700."""

MOST_FACTS = 256
SHOWN = 20_000
"""Characters of a text row that are read; a row may hold a whole book."""

MOST_VALUES = 50
BROWSED = 100_000
"""Rows that are looked at to say what values a fact has."""


class TextRow(NamedTuple):
    """A row of texts as another program wrote it.

    Attributes:
        key: its id, as text.
        text: the start of it; "" where no column of texts is known.
        facts: its other columns, as far as they are words, numbers or truths.
        row: its vector, where that was asked for.
    """

    key: str
    text: str
    facts: dict[str, Fact]
    row: np.ndarray | None = None


class NearText(NamedTuple):
    """A text row that is near a query."""

    item: str
    cosine: float
    text: str


class NearImage(NamedTuple):
    """An image that is near a query: of which item, under which key of its own, which of these."""

    item: str
    cosine: float
    key: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a database's text rows are.

    Attributes:
        dimensions: length of a vector; None where the table is empty and does not say.
        rows: how many.
        metric: what its own index goes by: "cosine", "inner product", "l2"; "" for none.
        text: the column of texts, "" where none is known.
        columns: others that could hold them, for the sentence that asks which.
    """

    dimensions: int | None
    rows: int
    metric: str = ""
    text: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """All images of one key, ready to be stored.

    Attributes:
        key: of these images; again, it replaces them.
        link: the id of the text row that they belong to, None for none.
        facts: their own.
        linked: facts of that row as they are now.
        digests: of each image's content.
        rows: the vector of each, of unit length.
        thumbnails: a small JPEG of each.
    """

    key: str
    link: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    linked: Mapping[str, Fact] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    rows: Float32[np.ndarray, "n d"]
    thumbnails: tuple[bytes, ...] = ()

    @property
    def item(self) -> str:
        """The key of the item that it is part of."""
        return self.key if self.link is None else self.link

    @property
    def asked(self) -> dict[str, Fact]:
        """What filters ask: the row's facts go before its own."""
        return {**self.facts, **self.linked}


class Known(NamedTuple):
    """What a database has under a key."""

    digests: tuple[str, ...]
    link: str | None
    facts: dict[str, Fact]
    asked: dict[str, Fact]


class Place(NamedTuple):
    """Where an image of an item lies: the key it came under, and which of that key's it is."""

    key: str
    number: int
    facts: dict[str, Fact]


@runtime_checkable
class Store(Protocol):
    """What a file in `search/stores/` builds.

    It can be asked from several threads; one process at a time writes (`writing`). Every method
    raises ServerError where the database can't be reached or refuses.

    Attributes:
        words: the database and table, for people; never with a password.
        dimensions: of its vectors; None where nobody knows yet.
        unit: whether the stored vectors have unit length, so that an index of any metric gives the
            order of cosines; attaching finds it out.
    """

    words: str
    dimensions: int | None
    unit: bool

    def layout(self) -> Layout: ...
    def options(self) -> dict[str, Any]:
        """Return the options that open it again, without any password."""
        ...

    def sample(self, count: int) -> list[TextRow]:
        """Return rows spread over the table, with vectors."""
        ...

    def texts(self, keys: Sequence[str], *, rows: bool = False) -> dict[str, TextRow]:
        """Return the text rows of these ids, by id."""
        ...

    def near_texts(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None = None
    ) -> list[NearText]:
        """Return the text rows nearest to a vector of unit length, nearest first."""
        ...

    def near_images(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None = None
    ) -> list[NearImage]:
        """Return the nearest images, nearest first; several may be of one item."""
        ...

    def browse_texts(self, start: int, count: int, where: Filter | None = None) -> list[TextRow]:
        """Return text rows in the order of their ids."""
        ...

    def count_texts(self, where: Filter | None = None) -> int:
        """Return how many text rows meet a filter."""
        ...

    def browse_images(self, start: int, count: int, where: Filter | None = None) -> list[str]:
        """Return the items of images that belong to no text row, in the order they came in."""
        ...

    def count_alone(self, where: Filter | None = None) -> int:
        """Return how many items of images belong to no text row and meet a filter."""
        ...

    def images_of(self, items: Sequence[str]) -> dict[str, list[Place]]:
        """Return where the images of items lie, in order."""
        ...

    def image_rows(self, item: str) -> Float32[np.ndarray, "n d"]:
        """Return the vectors of an item's images, in the same order."""
        ...

    def thumbnail(self, item: str, number: int) -> bytes | None:
        """Return a small JPEG of an item's image."""
        ...

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for."""
        ...

    def about(self) -> dict[str, Any] | None:
        """Return what was said of the images' model when they were first attached."""
        ...

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write. Raises StorageError where another process has it."""
        ...

    def prepare(self, about: Mapping[str, Any], dimensions: int) -> None:
        """Make the place of images, if there is none, and say whose vectors they are."""
        ...

    def known(self, keys: Sequence[str]) -> dict[str, Known]:
        """Return what is stored under these keys."""
        ...

    def rows_of(self, key: str) -> Float32[np.ndarray, "n d"]:
        """Return the vectors that are stored under a key."""
        ...

    def put(self, entries: Sequence[Entry]) -> None:
        """Store entries, each whole; what had their keys goes."""
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Remove the images of these keys; return how many keys there were."""
        ...

    def index(self) -> None:
        """Make searching the images approximate and fast, where that is to be asked for."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


_CALLED = ("text", "content", "page_content", "document", "body", "chunk", "passage", "caption")


def chosen_text(columns: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the column of texts among those of words, "" where several could be, and these.

    One is it where there is no other, or where no other is called as such columns mostly are. A
    wrong one is found out: its texts don't give the vectors.
    """
    called = [column for column in columns if column.lower() in _CALLED]
    for fit in (columns, called):
        if len(fit) == 1:
            return fit[0], ()
    return "", tuple(columns)


def meets(where: Filter | None, facts: Mapping[str, Fact]) -> bool:
    """Return whether facts meet a filter; what databases can't ask for is asked here."""
    return where is None or all(_meets(one, facts.get(one.fact)) for one in where.conditions)


def _meets(asked: Condition, fact: Fact | None) -> bool:
    if asked.operator in ("=", "!="):
        same = any(_equal(fact, value) for value in asked.values)
        return same == (asked.operator == "=")
    if asked.operator == "~":
        if not isinstance(fact, str):
            return False
        return any(str(value).casefold() in fact.casefold() for value in asked.values)
    if isinstance(fact, bool | str) or fact is None:
        return False
    least = asked.values[0]
    assert not isinstance(least, str)
    return {"<": fact < least, "<=": fact <= least, ">": fact > least, ">=": fact >= least}[
        asked.operator
    ]


def _equal(fact: Fact | None, value: Fact) -> bool:
    if isinstance(fact, bool) or isinstance(value, bool):
        return fact is value
    return fact == value


def plain(facts: Any) -> dict[str, Fact]:
    """Return what is a fact among a database's values: finite numbers, words and truths."""
    if not isinstance(facts, Mapping):
        return {}
    return {
        str(name): value
        for name, value in facts.items()
        if isinstance(value, str | bool | int) or (isinstance(value, float) and value * 0 == 0)
    }


Row = TypeVar("Row")


def enough(
    fetch: Callable[[int], Sequence[Row]], top: int, keep: Callable[[Sequence[Row]], list[Row]]
) -> list[Row]:
    """Return the first `top` rows that are kept, asking for more until there are as many.

    Args:
        fetch: gives the first so many rows, fewer where there are no more.
        top: rows wanted.
        keep: of rows those that count.
    """
    limit = top
    while True:
        found = fetch(limit)
        kept = keep(found)
        if len(kept) >= top or len(found) < limit:
            return kept[:top]
        limit *= 4


def ranges(counted: Mapping[str, Sequence[tuple[Fact, int]]]) -> dict[str, FactRange]:
    """Return what values facts have.

    Args:
        counted: of each fact, values with how many items have them; the same value may come twice.
    """
    made = {}
    for name, pairs in sorted(counted.items()):
        values: dict[tuple[bool, Fact], int] = {}  # 1 and true are equal to Python
        for value, count in pairs:
            which = (isinstance(value, bool), value)
            values[which] = values.get(which, 0) + count
        numbers = [v for truth, v in values if not truth and not isinstance(v, str)]
        others = [(v, n) for (truth, v), n in values.items() if truth or isinstance(v, str)]
        others.sort(key=lambda pair: (-pair[1], str(pair[0])))
        made[name] = FactRange(
            values=tuple(others[:MOST_VALUES]),
            low=float(min(numbers)) if numbers else None,
            high=float(max(numbers)) if numbers else None,
            items=sum(values.values()),
        )
    return made
