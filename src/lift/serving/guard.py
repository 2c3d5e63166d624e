"""What stands before every route: who may ask, how much, for how long; and what answers carry."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from lift.serving.config import ServerConfig
from lift.serving.metrics import Metrics
from lift.serving.refusals import Refused, body, busy, failed, late

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = "lift.body"
"""Where in the scope the whole body of a request lies."""

OPEN = ("/", "/health", "/favicon.ico")
"""Paths that ask for no token, and everything below /page/: there is nothing of the index."""

SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
"""Methods that are counted by name; of others a client could make up any number."""

LEFT = 499
"""The status that is counted where the client left before its answer, as nginx has it."""

_log = logging.getLogger("lift.serving")
_LINGER, _LINGER_BYTES = 1.0, 64 << 20


class Guard:
    """An ASGI app around another: bounds, token, names, deadline, headers, counts.

    The body is read whole before anything else happens, up to the bound and for a bounded time,
    and lies in `scope[BODY]`. Whoever hangs up is no longer worked for.
    """

    def __init__(self, app: App, config: ServerConfig, metrics: Metrics) -> None:
        self.app, self.config, self.metrics = app, config, metrics
        self._working = self._held = 0
        self._names = config.host_names
        metrics.gauge("lift_requests_now", "Requests in work.", lambda: {"": float(self._working)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # uvicorn closes what is not accepted
        start = time.perf_counter()
        headers = _headers(scope)
        answer = _Answer(send, self._cors(headers))
        self._working += 1
        try:
            self._admit(scope, headers)
            await self._work(scope, headers, receive, answer)
        except Refused as refused:
            await answer.refuse(refused)
        except Exception:  # noqa: BLE001  # whatever it is, the client gets a sentence
            _log.exception("%s %s failed", scope["method"], scope["path"][:200])
            await answer.refuse(failed())
        finally:
            self._working -= 1
            self._held -= len(scope.pop(BODY, b""))
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            method = method if route != "other" else "any"
            self.metrics.request(method, route, answer.status, time.perf_counter() - start)

    def _admit(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raise Refused where this client may not ask, or not now."""
        if self._working > self.config.requests:
            raise busy()
        host = headers.get("host", "")
        if self._names is not None and _name_of(host) not in self._names:
            raise Refused(
                403, "This server answers to its own name only; `lift serve --names` adds others."
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self.config.origins:
            if origin.partition("://")[2].lower() != host.lower():
                raise Refused(403, "Pages of other sites may not ask here.")
        site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        if site == "cross-site" and mode != "navigate" and origin is None:
            raise Refused(403, "Pages of other sites may not ask here.")
        path = scope["path"]
        is_open = path in OPEN or path.startswith("/page/") or scope["method"] == "OPTIONS"
        if self.config.token and not is_open and not self._is_known(headers):
            raise Refused(
                401,
                "This server asks for its token: Authorization: Bearer TOKEN.",
                {"www-authenticate": "Bearer"},
            )

    def _is_known(self, headers: dict[str, str]) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(token.strip().encode(), self.config.token.encode())
        return same and scheme.lower() == "bearer"

    def _cors(self, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page of a known other site read the answer."""
        origin = headers.get("origin")
        if origin is None or origin not in self.config.origins:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-max-age", b"600"),
            (b"vary", b"origin"),
        ]

    async def _work(
        self, scope: Scope, headers: dict[str, str], receive: Receive, answer: _Answer
    ) -> None:
        """Read the body, run the app, and drop it when the client leaves or the time is up."""
        if scope["method"] == "OPTIONS" and answer.cors:
            await answer.empty()
            return
        if not await self._read(scope, headers, receive):
            answer.status = LEFT
            return
        given = scope[BODY]

        async def replay() -> Message:
            return {"type": "http.request", "body": given, "more_body": False}

        work = asyncio.ensure_future(self.app(scope, replay, answer))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait(
                {work, gone}, timeout=self.config.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not work.done() and not answer.complete:
                left = gone.done()
                await _ended(work)
                if left:
                    answer.status = LEFT
                    return
                raise late(self.config.seconds)
            await work
        finally:
            await _ended(work)
            await _ended(gone)

    async def _read(self, scope: Scope, headers: dict[str, str], receive: Receive) -> bool:
        """Put the whole body into the scope, and return whether the client is still there."""
        length = headers.get("content-length", "")
        if length and "transfer-encoding" in headers:  # a proxy before us may have taken the other
            raise Refused(
                400, "A request says its length in one way, not in two.", {"connection": "close"}
            )
        if length.isdigit() and (len(length) > 18 or int(length) > self.config.body):
            if "expect" not in headers:  # else it waits to be told to send
                await self._linger(receive)
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.config.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    part = message.get("body", b"")
                    parts.append(part)
                    self._held += len(part)
                    size += len(part)
                    if self._held > self.config.bodies:
                        raise busy()
                    if size > self.config.body or not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refused(
                408,
                f"The request was not there within {self.config.body_seconds:g} seconds.",
                {"connection": "close"},
            ) from None
        finally:
            scope[BODY] = b"".join(parts)
        if len(scope[BODY]) > self.config.body:
            await self._linger(receive)
            raise self._too_large()
        return True

    def _too_large(self) -> Refused:
        return Refused(
            413,
            f"A request has at most {self.config.body:,} bytes; send less at a time.",
            {"connection": "close"},
        )

    async def _linger(self, receive: Receive) -> None:
        """Take what else comes for a moment, unread: a closed door would eat the answer."""
        seen = 0
        try:
            async with asyncio.timeout(_LINGER):
                while seen < _LINGER_BYTES:
                    message = await receive()
                    seen += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return
        except TimeoutError:
            return


class _Answer:
    """What is sent to a client, with the headers that every answer has."""

    def __init__(self, send: Send, cors: list[tuple[bytes, bytes]]) -> None:
        self._send, self.cors = send, cors
        self.status, self.started, self.complete = 500, False, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            own = {name for name, _ in message.get("headers", ())}
            more = [pair for pair in (*SECURITY, *self.cors) if pair[0] not in own]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif not message.get("more_body", False):
            self.complete = True
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Send a refusal, unless an answer is on its way already."""
        if self.started:
            return
        await self._whole(refused.status, body(refused.status, refused.sentence), refused.headers)

    async def empty(self) -> None:
        """Send that all is well and nothing more."""
        await self._whole(204, b"", {})

    async def _whole(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        told = {"content-type": "application/json", "cache-control": "no-store", **headers}
        if content:
            told["content-length"] = str(len(content))
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]
        await self({"type": "http.response.start", "status": status, "headers": pairs})
        await self({"type": "http.response.body", "body": content})


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name, the last of several."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _name_of(host: str) -> str:
    """Return the name in a header `Host`, without its port."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name.lower() if not port or port.startswith(":") else ""
    return host.partition(":")[0].lower().removesuffix(".")
