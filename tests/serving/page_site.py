"""The real server with its page in this process, made slow or broken where a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from PIL import Image

from lift.search.terms import Searchable
from lift.serving.app import create_app
from lift.serving.config import ServerConfig


class Site:
    """A server under way.

    Attributes:
        url: of the page.
        delays: seconds that a search waits whose body has this word.
        failing: paths that answer 500, as a server whose disk is gone.
        asked: path and body of what was asked, in order.
    """

    def __init__(self, app: Any) -> None:
        self.delays: dict[str, float] = {}
        self.failing: set[str] = set()
        self.asked: list[tuple[str, Any]] = []
        self.url = ""
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, late or not at all where that was asked for."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        first = await receive()
        body = first.get("body", b"")
        while first.get("more_body"):
            first = await receive()
            body += first.get("body", b"")
        path = scope["path"]
        self.asked.append((path, json.loads(body) if body else scope["query_string"].decode()))
        for word, seconds in self.delays.items():
            if word.encode() in body:
                await asyncio.sleep(seconds)
        if path in self.failing:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": b"no"})
            return
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return parts.pop() if parts else await receive()

        await self._app(scope, again, send)

    def bodies(self, path: str) -> list[Any]:
        """Return what was asked of a path."""
        return [body for asked, body in self.asked if asked == path]

    def wait(self, path: str, seconds: float = 60.0) -> None:
        """Return once a path was asked for."""
        end = time.monotonic() + seconds
        while not self.bodies(path):
            assert time.monotonic() < end, f"nobody asked for {path}"
            time.sleep(0.01)


@contextlib.contextmanager
def site(searchable: Searchable, **config: Any) -> Iterator[Site]:
    """Serve what can be searched on a free port of this machine."""
    found = Site(create_app(searchable, ServerConfig(**config)))
    options = uvicorn.Config(found, port=0, log_level="error", ws="none", access_log=False)
    server = uvicorn.Server(options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        found.url = f"http://127.0.0.1:{port}/"
        yield found
    finally:
        server.should_exit = True
        thread.join(10)


def photo(width: int = 3000, height: int = 2000, colour: str = "red", form: str = "JPEG") -> bytes:
    """Return a picture of one colour, as large as a phone's."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, form)
    return stream.getvalue()
