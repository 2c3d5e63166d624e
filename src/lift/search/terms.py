"""What searching speaks of: items, queries, hits, and whatever can be searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from lift.errors import ConfigError
from lift.search.filters import Filter
from lift.terms import Encoder, ImageLike

if TYPE_CHECKING:
    from lift.text.space import TextSpace

Kind: TypeAlias = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")

Fact: TypeAlias = str | float | int | bool
"""What is known of an item besides what is embedded: price, colour, tag."""

Merge: TypeAlias = Literal["auto", "calibrated", "reciprocal", "cosine"]
"""How hits among images and among texts become one list: by the odds that they are right, which a
calibration gives; in turns (reciprocal rank fusion); by bare cosines, which favours texts. "auto"
is the first where the query is made of texts and the index knows its calibrations, else the
second; where all hits are of one kind it makes no difference."""

IMAGE_FIELD = "image"
"""The field of an item's images."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to be found, by what it says and by what it looks like.

    Attributes:
        key: unique in its index; the same key again replaces the item.
        texts: of each field ("title", "body", "caption") its texts.
        images: files' bytes, paths or pictures.
        facts: what filters ask for; in no vector.
    """

    key: str
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: tuple[ImageLike, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)


class Term(NamedTuple):
    """A part of a query.

    Attributes:
        kind: what the value is: "text" (str), "image" (`ImageLike`), "item" (the key of an item in
            the index: its first image, else its first text), "vector" (float32 [d], which counts
            as a text).
        value: as told.
        weight: how much it counts; below 0 for what is not wanted.
    """

    kind: Literal["text", "image", "item", "vector"]
    value: Any
    weight: float = 1.0


MOST_TERMS = 16

Combine: TypeAlias = Literal["sum", "edit"]
"""How terms become one vector: the weighted sum of their unit vectors, or a trained combiner that
takes one picture and one text as what is to change in it (`lift.search.combiner`)."""


@dataclass(frozen=True)
class Query:
    """What is looked for: one or several texts and pictures.

    Attributes:
        terms: at least one, and one at least with a weight above 0.
        combine: see `Combine`.

    Raises:
        ConfigError: no terms, too many, or nothing that is wanted.
    """

    terms: tuple[Term, ...]
    combine: Combine = "sum"

    def __post_init__(self) -> None:
        if not self.terms or len(self.terms) > MOST_TERMS:
            raise ConfigError(
                f"A query has from 1 to {MOST_TERMS} texts and pictures, not {len(self.terms)}."
            )
        weights = [term.weight for term in self.terms]
        if not all(np.isfinite(weights)) or max(weights) <= 0:
            raise ConfigError(
                f"The weights of a query are {weights}: one at least has to be above 0, and all "
                "finite."
            )

    @classmethod
    def of(
        cls,
        *texts: str,
        images: Sequence[ImageLike] = (),
        without: Sequence[str] = (),
        combine: Combine = "sum",
    ) -> Query:
        """Return a query of texts and images that count alike, away from some texts."""
        terms = [Term("text", text) for text in texts]
        terms += [Term("image", image) for image in images]
        terms += [Term("text", text, -0.5) for text in without]
        return cls(tuple(terms), combine)


class Hit(NamedTuple):
    """An item that was found.

    Attributes:
        key: of the item.
        score: what hits are ordered by; comparable within one answer only.
        cosine: of the query with the row that was nearest.
        kind, field, number: which row that was: an image or a text, of which field, the how-manieth
            of that field.
        text: the text of that row, "" of an image.
    """

    key: str
    score: float
    cosine: float
    kind: Kind
    field: str
    number: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An item as an index gives it back.

    Attributes:
        key, texts, facts: as in `Item`.
        images: how many it has.
    """

    key: str
    texts: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, Fact]
    images: int

    @property
    def title(self) -> str:
        """Its first text, "" for none."""
        return next((texts[0] for texts in self.texts.values() if texts), "")


@dataclass(frozen=True)
class FactRange:
    """What values a fact has.

    Attributes:
        values: the commonest ones with how many items have each, where it is words or truths.
        low, high: where it is numbers.
        items: that have it.
    """

    values: tuple[tuple[Fact, int], ...] = ()
    low: float | None = None
    high: float | None = None
    items: int = 0


@runtime_checkable
class Searchable(Protocol):
    """What the console, the server and the page ask: an index, or a database with images beside.

    It can be asked from several threads.

    Attributes:
        name: for people.
        space: of its vectors.
        encoder: makes vectors of queries; a `Bundle`, with all it can (patches, text encoder).
    """

    name: str

    @property
    def encoder(self) -> Encoder: ...

    @property
    def space(self) -> TextSpace: ...

    def __len__(self) -> int:
        """Return how many items it holds."""
        ...

    def vectors(
        self, queries: Sequence[Query]
    ) -> tuple[Float32[np.ndarray, "q d"], list[Kind | None]]:
        """Return the unit vector of each query, and the kind of its terms (None: both)."""
        ...

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
        """Return the best items for each vector, best first, each item once.

        Args:
            z: of unit length.
            of: what each was made of, as `vectors` says it.
            top: hits of each.
            where: only items that meet it.
            kinds: rows of which kinds are looked at.
            merge: see `Merge`.
        """
        ...

    def search(
        self,
        query: Query | str,
        *,
        top: int = 20,
        where: Filter | str | None = None,
        kinds: Sequence[Kind] = KINDS,
        merge: Merge = "auto",
    ) -> list[Hit]:
        """Return the best items for a query: `vectors`, then `near`."""
        asked = Query.of(query) if isinstance(query, str) else query
        met = Filter.parse(where) if isinstance(where, str) else where
        z, of = self.vectors([asked])
        return self.near(z, of=of, top=top, where=met, kinds=kinds, merge=merge)[0]

    def item(self, key: str) -> Stored | None:
        """Return an item, None where there is none of this key."""
        ...

    def rows(self, key: str) -> list[tuple[Kind, str, int, Float32[np.ndarray, " d"]]]:
        """Return the vectors of an item with kind, field and number."""
        ...

    def browse(self, start: int, count: int, where: Filter | None = None) -> list[Stored]:
        """Return items in the order they came in."""
        ...

    def picture(self, key: str, number: int = 0) -> bytes | None:
        """Return a small JPEG of an item's image, None where it has none."""
        ...

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for."""
        ...
