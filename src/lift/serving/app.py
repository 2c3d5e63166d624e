"""The routes of the server, put together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from lift.errors import LiftError
from lift.search.terms import Searchable
from lift.serving import embedding, searching, seeing
from lift.serving.config import ServerConfig
from lift.serving.guard import Guard
from lift.serving.keeping import Keeping
from lift.serving.metrics import Metrics, resident
from lift.serving.page_files import INDEX, page_files
from lift.serving.refusals import Refused, body, failed, refusal_of, sentence_of
from lift.serving.service import Service, answer, kept
from lift.serving.shapes import REFUSAL, schemas
from lift.serving.workers import Workers

_log = logging.getLogger("lift.serving")


def create_app(searchable: Searchable, config: ServerConfig | None = None) -> FastAPI:
    """Return the server of whatever can be searched, as an ASGI app.

    Args:
        searchable: what is searched.
        config: bounds, token, names; where it listens is of no matter here.
    """
    config = config or ServerConfig()
    metrics = Metrics()
    workers = Workers(searchable, config, metrics)
    service = Service(searchable, config, metrics, workers)
    metrics.gauge("lift_resident_bytes", "Memory of the process.", lambda: {"": resident()})
    metrics.gauge("lift_items", "Items that are searched.", lambda: {"": float(len(searchable))})

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with Keeping(service):
            yield
        workers.close()

    from lift import __version__

    app = FastAPI(
        title="lift",
        version=__version__,
        summary="Search over images and texts in one space.",
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # to whatever name `Host` carries
        lifespan=life,
    )
    for part in (searching, embedding, seeing):
        app.include_router(part.routes(service))
    _add_house(app, service)
    _add_refusals(app)
    _add_schema(app)
    app.add_middleware(Guard, config=config, metrics=metrics)  # type: ignore[arg-type]
    app.state.service = service
    return app


def _add_house(app: FastAPI, service: Service) -> None:
    """Add the page, and what says how the server is."""
    files, workers = page_files(), service.workers

    @app.get("/health")
    async def health() -> Response:
        """Return whether searching is possible, and over how many items."""
        return answer({"ready": True, "items": await workers.read(len, service.searchable)})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return counts for Prometheus."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        told = await workers.read(service.metrics.text)
        return Response(told, 200, {"cache-control": "no-store"}, kind)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return _page(request, INDEX)

    @app.get("/page/{name}", include_in_schema=False)
    async def page(request: Request, name: str) -> Response:
        return _page(request, name)

    def _page(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise Refused(404, "The page has no such file.")
        return kept(request, file.content, file.media_type, file.etag)


def _add_refusals(app: FastAPI) -> None:
    """Have every refusal told in one shape."""

    def refused(refusal: Refused) -> Response:
        told = {"cache-control": "no-store", **refusal.headers}
        content = body(refusal.status, refusal.sentence)
        return Response(content, refusal.status, told, "application/json")

    @app.exception_handler(Refused)
    async def of_ours(request: Request, error: Refused) -> Response:
        return refused(error)

    @app.exception_handler(LiftError)
    async def of_lift(request: Request, error: LiftError) -> Response:
        refusal = refusal_of(error)
        if refusal is None:
            _log.error("%s failed: %s", request.scope["path"][:200], error)
        return refused(refusal or failed())

    @app.exception_handler(Exception)
    async def of_nobody(request: Request, error: Exception) -> Response:
        return refused(failed())  # and raised again, for the guard to log

    @app.exception_handler(RequestValidationError)
    async def of_shape(request: Request, error: RequestValidationError) -> Response:
        return refused(Refused(400, sentence_of(list(error.errors()))))

    @app.exception_handler(HTTPException)
    async def of_routing(request: Request, error: HTTPException) -> Response:
        sentence = {404: "There is nothing here.", 405: "This can't be asked in this way."}
        told = sentence.get(error.status_code, str(error.detail))
        return refused(Refused(error.status_code, told, dict(error.headers or {})))


def _add_schema(app: FastAPI) -> None:
    """Have openapi.json tell of refusals, and of bodies, which routes read themselves."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            schema["components"] = {"schemas": schemas()}  # in place of FastAPI's own, for errors
            for operations in schema["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    operation["responses"]["default"] = REFUSAL
        return made()

    app.openapi = openapi  # type: ignore[method-assign]
