"""Routes that search and show: /search, /similar, /items, /item, /image, /facts, /about."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from lift.errors import ConfigError
from lift.search.filters import LONGEST, Filter
from lift.search.terms import FactRange, Hit, Searchable, Term
from lift.search.terms import Query as Asking
from lift.serving.pictures import require_data_url
from lift.serving.refusals import Refused
from lift.serving.service import Service, answer, filter_of, kept, taken, told
from lift.serving.shapes import LONGEST_KEY, Part, Search, Similar, described
from lift.serving.workers import Asked

Key = Annotated[str, Query(min_length=1, max_length=LONGEST_KEY)]
LARGEST = (1 << 31) - 1


def routes(service: Service) -> APIRouter:
    """Return the routes."""
    router, workers, searchable = APIRouter(), service.workers, service.searchable

    @router.post("/search", openapi_extra=described(Search))
    async def search(request: Request) -> Response:
        """Return the items that fit texts, pictures, items and vectors best."""
        start = time.perf_counter()
        body = await taken(request, Search)
        query = _query(service, body)
        asked = Asked(service.top(body.top), filter_of(body.where), _kinds(body), body.merge)
        hits = await workers.hits(await workers.vector(query), asked)
        return answer(await _hits(service, hits, body.merge, start))

    @router.post("/similar", openapi_extra=described(Similar))
    async def similar(request: Request) -> Response:
        """Return the items that are most like one of them, without itself."""
        start = time.perf_counter()
        body = await taken(request, Similar)
        top, where = service.top(body.top), filter_of(body.where)
        await service.item(body.key)
        found = await workers.vector(Asking((Term("item", body.key),)))
        hits = await workers.hits(found, Asked(top + 1, where, _kinds(body), "auto"))
        others = [hit for hit in hits if hit.key != body.key][:top]
        return answer(await _hits(service, others, "auto", start))

    @router.get("/items")
    async def items(
        start: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        count: Annotated[int, Query(ge=1, le=100_000)] = 50,
        where: Annotated[str, Query(max_length=LONGEST)] = "",
    ) -> Response:
        """Return items in the order they came in."""
        met = filter_of(_where(where))
        found, total = await workers.read(_browsed, service, start, count, met)
        return answer({"items": [told(item) for item in found], "total": total})

    @router.get("/item")
    async def item(key: Key) -> Response:
        """Return an item with its texts and facts."""
        return answer(told(await service.item(key)))

    @router.get("/image", response_class=Response)
    async def image(
        request: Request, key: Key, number: Annotated[int, Query(ge=0, le=LARGEST)] = 0
    ) -> Response:
        """Return a small JPEG of an item's image."""
        found = await workers.read(searchable.picture, key, number)
        if found is None:
            raise Refused(404, f"There is no image {number} of an item {key[:200]!r}.")
        return kept(request, found, "image/jpeg", cache="private, max-age=60")

    @router.get("/facts")
    async def facts() -> Response:
        """Return what filters can ask for: of each fact its commonest values, or its range."""
        found = await workers.read(searchable.facts)
        return answer({name: _range(fact) for name, fact in found.items()})

    @router.get("/about")
    async def about() -> Response:
        """Return what is searched, and what can be asked."""
        return answer(await workers.read(_about, service))

    return router


def _range(fact: FactRange) -> dict[str, Any]:
    values = [list(pair) for pair in fact.values]
    return {"values": values, "low": fact.low, "high": fact.high, "items": fact.items}


def _about(service: Service) -> dict[str, Any]:
    from lift import __version__

    encoder, space = service.searchable.encoder, service.searchable.space
    tower = getattr(getattr(encoder, "side", None), "tower", None)
    return {
        "name": service.searchable.name,
        "items": len(service.searchable),
        "space": {
            **{"name": space.model, "encoder": space.encoder, "dimensions": space.dimensions},
            "fingerprint": space.fingerprint,
        },
        "model": encoder.name,
        "dense": getattr(tower, "grid", None) is not None,
        "edits": bool(getattr(service.searchable, "edits", False)),
        "version": __version__,
        "bounds": {
            "body": service.config.body,
            "pixels": service.config.pixels,
            "characters": service.config.characters,
            "top": service.config.top,
        },
    }


def _query(service: Service, body: Search) -> Asking:
    """Return what a body asks; pictures stay data URLs until they are in a worker's hands."""
    if isinstance(body.query, str):
        if not body.query.strip():
            raise Refused(400, "The query is empty.")
        return Asking((Term("text", service.text(body.query)),), body.combine)
    return Asking(tuple(_term(service, part) for part in body.query), body.combine)


def _term(service: Service, part: Part) -> Term:
    if part.text is not None:
        return Term("text", service.text(part.text), part.weight)
    if part.image is not None:
        return Term("image", require_data_url(part.image), part.weight)
    if part.item is not None:
        return Term("item", part.item, part.weight)
    width = service.space.dimensions
    if part.vector is None or len(part.vector) != width:
        raise Refused(400, f"A vector has {width} numbers here, not {len(part.vector or ())}.")
    with np.errstate(over="ignore"):
        vector = np.array(part.vector, np.float32)
        length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-12:
        raise ConfigError("A vector has a length above 0 that float32 can hold.")
    return Term("vector", vector / np.float32(length), part.weight)


def _kinds(body: Search | Similar) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(body.kinds))


def _where(words: str) -> Any:
    """Return a filter in a URL: words, or JSON that begins with a brace."""
    if not words.lstrip().startswith("{"):
        return words
    from pydantic_core import from_json

    try:
        return from_json(words, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(400, f"The filter can't be read as JSON: {str(error)[:200]}.") from None


def _browsed(
    service: Service, start: int, count: int, where: Filter | None
) -> tuple[list[Any], int]:
    searchable = service.searchable
    found = searchable.browse(start, service.top(count, "count"), where)
    counted = getattr(searchable, "counted", None)
    if where is None:
        return found, len(searchable)
    if counted is not None:
        return found, counted(where)
    return found, start + len(found)  # as many as are known of


async def _hits(service: Service, hits: list[Hit], merge: str, start: float) -> dict[str, Any]:
    found = await service.workers.read(_decorated, service.searchable, hits)
    return {"hits": found, "merge": merge, "seconds": round(time.perf_counter() - start, 6)}


def _decorated(searchable: Searchable, hits: list[Hit]) -> list[dict[str, Any]]:
    """Return hits with what a page shows of their items; one that is gone meanwhile is left out."""
    found = []
    for hit in hits:
        item = searchable.item(hit.key)
        if item is None:
            continue
        one = {**hit._asdict(), "title": item.title, "facts": dict(item.facts)}
        found.append(
            {**one, "score": float(hit.score), "cosine": float(hit.cosine), "images": item.images}
        )
    return found
