"""Qdrant collections of images beside one of texts: a key's record, written last, counts."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from qdrant_client import models as q

from lift.search.filters import Filter
from lift.search.stores import _qdrant as qd
from lift.search.stores._store import (
    Entry,
    Known,
    NearImage,
    Place,
    enough,
    meets,
    plain,
)
from lift.search.terms import Fact

_ABOUT = "about"
_PIECE = 1_000
_AT_ONCE = 8 << 20
"""Bytes of a request that writes, unless one point has more."""

_LONGEST_WRITE = 600 * 10**9
"""Nanoseconds after which an image without a record is what a killed writer left."""


class ImagePoints:
    """The collections that attaching makes and writes."""

    def __init__(self, db: qd.Client, table: str, exact: bool) -> None:
        self._client, self._thorough = db, exact
        self._images, self._items = f"{table}_lift_images", f"{table}_lift_items"

    # --- searching ---

    def near_images(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None = None
    ) -> list[NearImage]:
        """Return the nearest images."""

        def fetch(limit: int) -> Sequence[Any]:
            with self._client.asked() as client:
                return client.query_points(
                    self._images,
                    query=z.tolist(),
                    query_filter=qd.compiled(where, lambda fact: [("asked",)]),
                    limit=limit,
                    with_payload=True,
                    search_params=qd.thorough(self._thorough),
                ).points

        def keep(found: Sequence[Any]) -> list[Any]:
            payloads = [point.payload or {} for point in found]
            counts = self._generations([str(one.get("key")) for one in payloads])
            return [
                point
                for point, one in zip(found, payloads, strict=True)
                if counts.get(str(one.get("key"))) == one.get("generation")
                and meets(where, plain(one.get("asked")))
            ]

        return [
            NearImage(p.payload["item"], float(p.score), p.payload["key"], p.payload["number"])
            for p in enough(fetch, top, keep)
        ]

    def _generations(self, keys: Sequence[str]) -> dict[str, str]:
        """Return which writing of each key counts."""
        found = self._records(list(dict.fromkeys(keys)), ["key", "generation"])
        return {one["key"]: one["generation"] for one in found}

    def _records(self, keys: Sequence[str], fields: Sequence[str]) -> list[dict[str, Any]]:
        if not keys:
            return []
        with self._client.asked() as client:
            found = client.retrieve(
                self._items, [qd.own_id("item", key) for key in keys], with_payload=list(fields)
            )
        return [point.payload for point in found if point.payload]

    # --- looking up ---

    def _scrolled_items(self, must: Sequence[Any], fields: Sequence[str]) -> Iterator[dict]:
        offset: Any = None
        kind = q.FieldCondition(key="kind", match=q.MatchValue(value="item"))
        while True:
            with self._client.asked() as client:
                found, offset = client.scroll(
                    self._items,
                    scroll_filter=q.Filter(must=[kind, *must]),
                    limit=_PIECE,
                    offset=offset,
                    with_payload=list(fields),
                )
            yield from (point.payload for point in found if point.payload)
            if offset is None:
                return

    def count_alone(self, where: Filter | None = None) -> int:
        """Return how many items of images belong to no text point and meet a filter."""
        if where:
            found = self._scrolled_items([_ALONE], ["asked"])
            return sum(meets(where, plain(one.get("asked"))) for one in found)
        kind = q.FieldCondition(key="kind", match=q.MatchValue(value="item"))
        with self._client.asked() as client:
            return client.count(
                self._items, count_filter=q.Filter(must=[kind, _ALONE]), exact=True
            ).count

    def own_facts(self, most: int) -> list[dict[str, Fact]]:
        """Return the facts that came with each key."""
        return [plain(one.get("facts")) for one in qd.sliced(self._all(["facts"]), 0, most)]

    def _all(self, fields: Sequence[str]) -> Iterator[dict]:
        return self._scrolled_items((), fields)

    def browse_images(self, start: int, count: int, where: Filter | None = None) -> list[str]:
        """Return items of images that belong to no text point."""
        found = [
            (one["order"], one["item"])
            for one in self._scrolled_items([_ALONE], ["item", "order", "asked"])
            if meets(where, plain(one.get("asked")))
        ]
        return [item for _, item in qd.sliced(sorted(found), start, count)]

    def _of_items(self, items: Sequence[str], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Return the records of items in the order of their keys."""
        if not items:
            return []
        wanted = q.FieldCondition(key="item", match=q.MatchAny(any=list(dict.fromkeys(items))))
        return sorted(
            self._scrolled_items([wanted], ["item", "key", *fields]), key=lambda one: one["key"]
        )

    def images_of(self, items: Sequence[str]) -> dict[str, list[Place]]:
        """Return where the images of items lie, in order."""
        found: dict[str, list[Place]] = {}
        for one in self._of_items(items, ["digests", "facts"]):
            own = [Place(one["key"], n, plain(one["facts"])) for n in range(len(one["digests"]))]
            found.setdefault(one["item"], []).extend(own)
        return found

    def image_rows(self, item: str) -> Float32[np.ndarray, "n d"]:
        """Return the vectors of an item's images."""
        return self._rows(self._of_items([item], ["points"]))

    def rows_of(self, key: str) -> Float32[np.ndarray, "n d"]:
        """Return the vectors that are stored under a key."""
        return self._rows(self._records([key], ["points"]))

    def _rows(self, records: Sequence[Mapping[str, Any]]) -> Float32[np.ndarray, "n d"]:
        ids = [point for one in records for point in one["points"]]
        if not ids:
            return np.zeros((0, 0), np.float32)
        with self._client.asked() as client:
            found = client.retrieve(self._images, ids, with_payload=False, with_vectors=True)
        by_id = {str(point.id): point.vector for point in found}
        return np.array([by_id[point] for point in ids], np.float32)

    def thumbnail(self, item: str, number: int) -> bytes | None:
        """Return a small JPEG of an item's image."""
        if number < 0:
            return None
        for one in self._of_items([item], ["digests", "thumbnails"]):
            if number < len(one["digests"]):
                own = one.get("thumbnails") or []
                return base64.b64decode(own[number]) if number < len(own) else None
            number -= len(one["digests"])
        return None

    def about(self) -> dict[str, Any] | None:
        """Return what was said of the images' model; None where nothing was attached yet."""
        with self._client.asked() as client:
            if not client.collection_exists(self._items):
                return None
            found = client.retrieve(self._items, [qd.own_id(_ABOUT)], with_payload=True)
        return found[0].payload["about"] if found and found[0].payload else None

    def known(self, keys: Sequence[str]) -> dict[str, Known]:
        """Return what is stored under these keys."""
        return {
            one["key"]: Known(
                tuple(one["digests"]), one["link"], plain(one["facts"]), plain(one["asked"])
            )
            for one in self._records(keys, ["key", "digests", "link", "facts", "asked"])
        }

    # --- writing ---

    def prepare(self, about: Mapping[str, Any], dimensions: int) -> None:
        """Make the collections of images; remove what a killed writer left in them."""
        with self._client.asked() as client:
            if not client.collection_exists(self._images):
                client.create_collection(
                    self._images,
                    vectors_config=q.VectorParams(size=dimensions, distance=q.Distance.COSINE),
                )
            if not client.collection_exists(self._items):
                client.create_collection(self._items, vectors_config={})
            if not self._client.local:  # a server filters by fields that it has indexed
                for table, field in ((self._items, "item"), (self._images, "key")):
                    client.create_payload_index(table, field, q.PayloadSchemaType.KEYWORD)
        if self.about() is None:
            told = q.PointStruct(
                id=qd.own_id(_ABOUT), vector={}, payload={"kind": _ABOUT, "about": dict(about)}
            )
            with self._client.asked() as client:
                client.upsert(self._items, [told], wait=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove images that no record names; on a server, where others may write, old ones."""
        before = time.time_ns() - (0 if self._client.local else _LONGEST_WRITE)
        offset: Any = None
        while True:
            with self._client.asked() as client:
                found, offset = client.scroll(
                    self._images,
                    limit=_PIECE,
                    offset=offset,
                    with_payload=["key", "generation", "order"],
                )
            payloads = {point.id: point.payload or {} for point in found}
            counts = self._generations([str(one.get("key")) for one in payloads.values()])
            stray = [
                point
                for point, one in payloads.items()
                if counts.get(str(one.get("key"))) != one.get("generation")
                and int(one.get("order") or 0) < before
            ]
            self._remove(stray)
            if offset is None:
                return

    def _remove(self, points: Sequence[Any]) -> None:
        if points:
            with self._client.asked() as client:
                client.delete(self._images, q.PointIdsList(points=list(points)), wait=True)

    def put(self, entries: Sequence[Entry]) -> None:
        """Store entries: images first, then the records by which they count; then old images go."""
        if not entries:
            return
        old = [
            point
            for one in self._records([entry.key for entry in entries], ["points"])
            for point in one["points"]
        ]
        generation, order = uuid.uuid4().hex, time.time_ns()
        points, records = [], []
        for place, entry in enumerate(entries):
            ids = [qd.own_id("image", entry.key, generation, n) for n in range(len(entry.rows))]
            shared = {"key": entry.key, "item": entry.item, "generation": generation}
            shared |= {"asked": entry.asked, "order": order + place}
            points += [
                q.PointStruct(id=ids[n], vector=row.tolist(), payload={**shared, "number": n})
                for n, row in enumerate(entry.rows)
            ]
            told = {**shared, "kind": "item", "link": entry.link, "points": ids}
            told |= {"facts": dict(entry.facts), "digests": list(entry.digests)}
            told["thumbnails"] = [base64.b64encode(one).decode() for one in entry.thumbnails]
            own = qd.own_id("item", entry.key)
            records.append(q.PointStruct(id=own, vector={}, payload=told))
        with self._client.asked() as client:
            for some in _pieces(points):
                client.upsert(self._images, some, wait=True)
            for some in _pieces(records):
                client.upsert(self._items, some, wait=True)
        self._remove(old)

    def delete(self, keys: Sequence[str]) -> int:
        """Remove the images of these keys; return how many keys there were."""
        found = self._records(list(dict.fromkeys(keys)), ["key", "points"])
        ids = [qd.own_id("item", one["key"]) for one in found]
        if ids:
            with self._client.asked() as client:
                client.delete(self._items, q.PointIdsList(points=list(ids)), wait=True)
        self._remove([point for one in found for point in one["points"]])
        return len(found)

    def index(self) -> None:
        """Do nothing: Qdrant makes its index by itself once there are enough points."""


def _pieces(points: Sequence[q.PointStruct]) -> Iterator[list[q.PointStruct]]:
    """Yield points in pieces that a server takes at once: it refuses more than 32 MB."""
    piece, held = [], 0
    for point in points:
        size = len(json.dumps([point.vector, point.payload]))
        if piece and held + size > _AT_ONCE:
            yield piece
            piece, held = [], 0
        piece.append(point)
        held += size
    if piece:
        yield piece


_ALONE: Any = q.IsEmptyCondition(is_empty=q.PayloadField(key="link"))
