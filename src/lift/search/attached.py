"""A database of text vectors with images beside them, searched as an index is.

    found = Attached.open("products.attached")
    found.search("red shoes with white soles")

The folder holds `attached.json` (where the database is, without any password) and a copy of the
model. Texts stay where they are; two queries are asked and their answers merged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32

from lift import bundle as bundles
from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.search.attached_record import MODEL, open_store, read, require_model
from lift.search.composing import Edit, compose
from lift.search.filters import Filter
from lift.search.near import require_askable
from lift.search.ranking import DEPTH, Near, Ranked, Ranking
from lift.search.stores._store import NearImage, NearText, Store, TextRow
from lift.search.terms import (
    IMAGE_FIELD,
    KINDS,
    FactRange,
    Hit,
    Kind,
    Merge,
    Query,
    Searchable,
    Stored,
)
from lift.text.space import TextSpace

_FRESH, _FRESH_FACTS = 5.0, 60.0
"""Seconds that a count, and what facts there are, are remembered."""

_DIGITS = 6
"""Of cosines: databases round the rest each in its way, and equal ones stand by their keys."""

Value = TypeVar("Value")


class Attached(Searchable):
    """A database that can be asked from several threads; a `Searchable`.

    Attributes:
        name: for people.
        encoder: the model whose images lie there.
        store: the database.
        ranking: how rows become one list.
    """

    def __init__(
        self, store: Store, model: Bundle, *, ranking: Ranking | None = None, name: str = ""
    ) -> None:
        """Hold a database that images were attached to.

        Raises:
            DataError: none were.
            SpaceMismatch: another model's images lie there.
        """
        require_model(store, model.identity)
        self.name, self._encoder, self.store = name or store.words, model, store
        self.ranking = ranking or Ranking()
        layout = store.layout()
        self._field = layout.text or "text"
        self._remembered: dict[str, tuple[float, Any]] = {}

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        url: str = "",
        model: Bundle | None = None,
        device: str = "auto",
    ) -> Attached:
        """Open what `lift index attach` made.

        Args:
            folder: that it named.
            url: of the database, in place of the folder's; see `open_store`.
            model: in place of the copy in the folder; it has to be the same.
            device: where queries are encoded.

        Raises:
            DataError: nothing of the kind there.
            SpaceMismatch: another model's images lie in the database.
            ServerError: it can't be reached.
        """
        folder = Path(folder)
        record = read(folder)
        own = model or bundles.load(folder / MODEL, device=device)
        store = open_store(record.store, url)
        try:
            return cls(store, own, ranking=record.ranking, name=folder.name)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def encoder(self) -> Bundle:
        """The model that encodes queries."""
        return self._encoder

    @property
    def space(self) -> TextSpace:
        """The text space of all vectors."""
        return self.encoder.space

    def _fresh(self, what: str, seconds: float, ask: Callable[[], Value]) -> Value:
        """Return what was asked a short while ago, or ask."""
        now = time.monotonic()
        found = self._remembered.get(what)
        if found is None or now - found[0] > seconds:
            found = self._remembered[what] = (now, ask())
        return found[1]

    def __len__(self) -> int:
        return self._texts + self._fresh("alone", _FRESH, self.store.count_alone)

    @property
    def _texts(self) -> int:
        return self._fresh("texts", _FRESH, self.store.count_texts)

    # --- asked ---

    def vectors(
        self, queries: Sequence[Query]
    ) -> tuple[Float32[np.ndarray, "q d"], list[Kind | None]]:
        """See `lift.search.terms.Searchable`."""
        return compose(queries, self.encoder, self.rows, _no_combiner)

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
        """See `lift.search.terms.Searchable`.

        Raises:
            ConfigError: `z`, `top`, `kinds` or `merge` that are none.
            ServerError: the database can't be reached.
        """
        require_askable(self, z, top, kinds, merge)
        asked: list[Kind] = [
            kind for kind in KINDS if kind in kinds and (kind == "image" or self._texts)
        ]
        return [
            self._near(row, self.ranking.way(merge, made_of, asked), top, where, asked)
            for row, made_of in zip(z, of, strict=True)
        ]

    def _near(
        self,
        z: Float32[np.ndarray, " d"],
        way: Merge,
        top: int,
        where: Filter | None,
        kinds: Sequence[Kind],
    ) -> list[Hit]:
        deep = max(top, DEPTH) if way == "reciprocal" else top
        images = self._images(z, deep, where) if "image" in kinds else []
        texts = self.store.near_texts(z, deep, where) if "text" in kinds else []
        texts.sort(key=lambda one: (-round(one.cosine, _DIGITS), one.item))
        rows: dict[Kind, list[Near]] = {
            "image": [
                Near(o.item, round(o.cosine, _DIGITS), IMAGE_FIELD, at)
                for at, o in enumerate(images)
            ],
            "text": [
                Near(o.item, round(o.cosine, _DIGITS), self._field, at)
                for at, o in enumerate(texts)
            ],
        }
        found = self.ranking.merged(rows, top=top, way=way)
        shown = [images[one.row.number].item for one in found if one.kind == "image"]
        places = self.store.images_of(shown) if shown else {}
        return [_hit(one, images, texts, places) for one in found]

    def _images(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None
    ) -> list[NearImage]:
        """Return the nearest images, so many that `top` items are among them if there are."""
        limit = 2 * top
        while True:
            found = self.store.near_images(z, limit, where)
            items = list(dict.fromkeys(one.item for one in found))
            if len(found) < limit or len(items) >= top:
                kept = set(items[:top])
                found = [one for one in found if one.item in kept]
                return sorted(found, key=_place)
            limit *= 2

    # --- items ---

    def item(self, key: str) -> Stored | None:
        """Return a text row with its images, or images without one."""
        return next(iter(self._stored([key])), None)

    def _stored(
        self, keys: Sequence[str], known: Mapping[str, TextRow] | None = None
    ) -> list[Stored]:
        """Return items in the order of their keys; those that are none are left out."""
        texts = self.store.texts(keys) if known is None else known
        places = self.store.images_of(keys)
        found: list[Stored] = []
        for key in keys:
            row, own = texts.get(key), places.get(key, [])
            if row is None and not own:
                continue
            facts = {name: value for one in reversed(own) for name, value in one.facts.items()}
            facts |= row.facts if row else {}
            shown = {self._field: (row.text,)} if row and row.text else {}
            found.append(Stored(key=key, texts=shown, facts=facts, images=len(own)))
        return found

    def rows(self, key: str) -> list[tuple[Kind, str, int, Float32[np.ndarray, " d"]]]:
        """Return the vectors of an item, of unit length, with kind, field and number."""
        found: list[tuple[Kind, str, int, np.ndarray]] = []
        for number, row in enumerate(self.store.image_rows(key)):
            found.append(("image", IMAGE_FIELD, number, row))
        text = self.store.texts([key], rows=True).get(key)
        if text is not None and text.row is not None and np.linalg.norm(text.row) > 0:
            found.append(("text", self._field, 0, text.row / np.linalg.norm(text.row)))
        return found

    def browse(self, start: int, count: int, where: Filter | None = None) -> list[Stored]:
        """Return text rows by their ids, then images without one in the order they came in."""
        start, count = max(start, 0), max(count, 0)
        texts = self.store.browse_texts(start, count, where)
        found = self._stored([row.key for row in texts], {row.key: row for row in texts})
        if len(texts) < count:
            before = self.store.count_texts(where) if where else self._texts
            rest = count - len(texts)
            alone = self.store.browse_images(max(start - before, 0), rest, where)
            found += self._stored(alone, {})
        return found

    def counted(self, where: Filter) -> int:
        """Return how many items meet a filter."""
        if not where:
            return len(self)
        return self.store.count_texts(where) + self.store.count_alone(where)

    def picture(self, key: str, number: int = 0) -> bytes | None:
        """Return a small JPEG of an item's image, None where it has none."""
        return self.store.thumbnail(key, number)

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for."""
        return self._fresh("facts", _FRESH_FACTS, self.store.facts)

    def delete(self, keys: Sequence[str]) -> int:
        """Remove the images that came under these keys; text rows stay. Return how many keys."""
        with self.store.writing():
            return self.store.delete(list(keys))


def _place(one: NearImage) -> tuple[float, str, str, int]:
    return (-round(one.cosine, _DIGITS), one.item, one.key, one.number)


def _no_combiner() -> Edit:
    raise ConfigError("A database has no combiner to edit pictures with; ask with the sum of both.")


def _hit(
    one: Ranked,
    images: Sequence[NearImage],
    texts: Sequence[NearText],
    places: Mapping[str, Sequence[Any]],
) -> Hit:
    key, number, text = str(one.item), 0, ""
    if one.kind == "image":
        image = images[one.row.number]
        own = [(place.key, place.number) for place in places.get(key, ())]
        number = own.index((image.key, image.number)) if (image.key, image.number) in own else 0
    else:
        text = texts[one.row.number].text
    return Hit(key, one.score, one.row.cosine, one.kind, one.row.field, number, text)
