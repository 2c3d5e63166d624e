"""Qdrant: a collection of text vectors that is read, and two collections of images beside it.

`NAME_lift_images` holds a point an image, `NAME_lift_items` one for all images of a key, which says
which of those points count: it is written last, so that however a writer ends, a key has all of
its images, or those that it had before. A server is asked by URL; the local mode of qdrant-client
by the path of its folder, or `:memory:`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from qdrant_client import models as q

from lift.errors import ConfigError
from lift.search.filters import Filter
from lift.search.stores import _qdrant as qd
from lift.search.stores._qdrant_images import ImagePoints
from lift.search.stores._store import (
    BROWSED,
    SHOWN,
    Layout,
    NearText,
    TextRow,
    chosen_text,
    enough,
    meets,
    plain,
    ranges,
)
from lift.search.terms import Fact, FactRange

NEEDS = {"qdrant_client": "qdrant"}

_METRICS = {q.Distance.COSINE: "cosine", q.Distance.DOT: "inner product", q.Distance.EUCLID: "l2"}
_LOOKED_AT = 256
"""Points whose payload says which fields there are."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        url: of a server (`http://localhost:6333`), or the folder of the client's local mode; the
            key of a server is read from the environment variable QDRANT_API_KEY.
        table: the collection.
        vector: the name of its vectors, where they have one.
        text: the field of a payload that holds the text; the only one of words if not given.
        facts: fields that filters may ask for, an object among them standing for its fields; all
            if not given.
        exact: whether to go past the approximate index.
        unit: whether the stored vectors have unit length; attaching finds it out.
    """

    url: str
    table: str
    vector: str = ""
    text: str = ""
    facts: tuple[str, ...] = ()
    exact: bool = False
    unit: bool = False


def build(config: Config) -> Qdrant:
    """Return the store. Raises ConfigError for a collection that isn't one, ServerError."""
    return Qdrant(config)


class Qdrant(ImagePoints):
    """See the module; a `Store`."""

    def __init__(self, config: Config) -> None:
        self._db = qd.Client(config.url)
        self._config, self.unit = config, config.unit
        try:
            self._look()
        except BaseException:
            self._db.close()
            raise
        ImagePoints.__init__(self, self._db, config.table, config.exact)

    def _look(self) -> None:
        """Find out what the collection is."""
        config = self._config
        self.words = f"{config.table} in {self._db.words}"
        with self._db.asked() as client:
            if not client.collection_exists(config.table):
                raise ConfigError(f"There is no collection {config.table!r} in {self._db.words}.")
            vectors = client.get_collection(config.table).config.params.vectors
            seen = client.scroll(config.table, limit=_LOOKED_AT, with_payload=True)[0]
        if isinstance(vectors, q.VectorParams):
            vectors = {"": vectors}
        chosen = dict(vectors or {})
        name = config.vector or (next(iter(chosen)) if len(chosen) == 1 else "")
        if name not in chosen:
            raise ConfigError(
                f"The collection {config.table} has no vectors {name!r}; name them with vector=: "
                f"{', '.join(chosen) or 'none'}."
            )
        params = chosen[name]
        if params.distance not in _METRICS or params.multivector_config is not None:
            raise ConfigError(
                f"The collection {config.table} compares by {params.distance.value}, or holds "
                "several vectors a point; cosine, dot and Euclid with one are what can be searched."
            )
        self._vector, self._metric = name, _METRICS[params.distance]
        self.dimensions: int | None = params.size
        payloads = [point.payload or {} for point in seen]
        self._text, self._candidates = self._texts(payloads)
        self._objects = self._fields(payloads)

    def _texts(self, payloads: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[str, ...]]:
        if self._config.text:
            return self._config.text, ()
        fields = dict.fromkeys(
            name for one in payloads for name, value in one.items() if isinstance(value, str)
        )
        return chosen_text([name for name in fields if name not in self._config.facts])

    def _fields(self, payloads: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the fields of payloads whose own fields are facts."""
        told = self._config.facts
        fields = dict.fromkeys(
            name for one in payloads for name, value in one.items() if isinstance(value, dict)
        )
        fit = (name for name in fields if not told or name in told)
        return [name for name in fit if not set(name) & set('"\\')]

    def layout(self) -> Layout:
        """Return what the points are."""
        return Layout(
            dimensions=self.dimensions,
            rows=self.count_texts(),
            metric=self._metric,
            text=self._text,
            columns=self._candidates,
        )

    def options(self) -> dict[str, Any]:
        """Return what opens it again, without a password."""
        told = asdict(self._config)
        return told | {"unit": self.unit, "url": self._db.saved, "facts": list(self._config.facts)}

    # --- text points ---

    def _facts(self, payload: Mapping[str, Any]) -> dict[str, Fact]:
        told = self._config.facts
        own = {n: v for n, v in payload.items() if n != self._text and (not told or n in told)}
        found: dict[str, Fact] = {}
        for name in self._objects:
            found |= plain(payload.get(name))
        return {**found, **plain(own)}

    def _row(self, point: Any) -> TextRow:
        payload = point.payload or {}
        vector = point.vector
        if isinstance(vector, Mapping):
            vector = vector.get(self._vector)
        return TextRow(
            str(point.id),
            self._shown(payload),
            self._facts(payload),
            None if vector is None else np.array(vector, np.float32),
        )

    def _shown(self, payload: Mapping[str, Any]) -> str:
        text = payload.get(self._text) if self._text else ""
        return text[:SHOWN] if isinstance(text, str) else ""

    def _where(self, where: Filter | None) -> q.Filter | None:
        """Return a filter that lets all pass that meet `where`, and few others."""
        return qd.compiled(where, lambda fact: [(), *((one,) for one in self._objects)])

    @property
    def _which(self) -> list[str] | bool:
        return [self._vector] if self._vector else True

    def sample(self, count: int) -> list[TextRow]:
        """Return points chosen at random, with vectors."""
        with self._db.asked() as client:
            found = client.query_points(
                self._config.table,
                query=q.SampleQuery(sample=q.Sample.RANDOM),
                limit=count,
                with_vectors=self._which,
                with_payload=True,
            )
        rows = [self._row(point) for point in found.points]
        return [row for row in rows if row.row is not None]

    def texts(self, keys: Sequence[str], *, rows: bool = False) -> dict[str, TextRow]:
        """Return the points of these ids."""
        ids = [one for one in map(qd.point_id, keys) if one is not None]
        if not ids:
            return {}
        with self._db.asked() as client:
            found = client.retrieve(
                self._config.table,
                ids,
                with_payload=True,
                with_vectors=self._which if rows else False,
            )
        return {row.key: row for row in map(self._row, found) if row.key in set(keys)}

    def near_texts(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None = None
    ) -> list[NearText]:
        """Return the nearest points."""
        if self._metric != "cosine" and not self.unit:
            raise ConfigError(
                f"The vectors of {self.words} have other lengths than 1 and are compared by "
                f"{self._metric}, which is not the order of cosines; make the collection with "
                "cosine."
            )

        def fetch(limit: int) -> Sequence[Any]:
            with self._db.asked() as client:
                return client.query_points(
                    self._config.table,
                    query=z.tolist(),
                    using=self._vector or None,
                    query_filter=self._where(where),
                    limit=limit,
                    with_payload=True,
                    search_params=qd.thorough(self._config.exact),
                ).points

        found = enough(
            fetch, top, lambda own: [p for p in own if meets(where, self._facts(p.payload or {}))]
        )
        squared = self._metric == "l2"
        return [
            NearText(
                str(point.id),
                1 - point.score**2 / 2 if squared else float(point.score),
                self._shown(point.payload or {}),
            )
            for point in found
        ]

    def _scrolled(self, where: Filter | None) -> Iterator[TextRow]:
        offset: Any = None
        while True:
            with self._db.asked() as client:
                found, offset = client.scroll(
                    self._config.table,
                    scroll_filter=self._where(where),
                    limit=1_000,
                    offset=offset,
                    with_payload=True,
                )
            rows = map(self._row, found)
            yield from (row for row in rows if meets(where, row.facts))
            if offset is None:
                return

    def browse_texts(self, start: int, count: int, where: Filter | None = None) -> list[TextRow]:
        """Return points in the order of their ids."""
        return qd.sliced(self._scrolled(where), start, count)

    def count_texts(self, where: Filter | None = None) -> int:
        """Return how many points meet a filter."""
        if where:
            return sum(1 for _ in self._scrolled(where))
        with self._db.asked() as client:
            return client.count(self._config.table, exact=True).count

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for, of texts and images."""
        counted: dict[str, list[tuple[Fact, int]]] = {}
        rows = (row.facts for row in qd.sliced(self._scrolled(None), 0, BROWSED))
        for facts in (*rows, *self.own_facts(BROWSED)):
            for name, value in facts.items():
                counted.setdefault(name, []).append((value, 1))
        return ranges(counted)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write within this process; local mode has one process anyway.

        Two processes that write through a server at once put whole keys, one after the other.
        """
        with self._lock:
            yield

    _lock = threading.RLock()

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()
