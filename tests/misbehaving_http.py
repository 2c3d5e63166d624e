"""A real HTTP server of files on this machine that stalls, cuts off, refuses or lies on demand."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

_PIECE = 1 << 16


class Request(NamedTuple):
    """One request that arrived."""

    method: str
    name: str
    range: str | None
    time: float


@dataclass
class Reply:
    """What to do instead of answering well; the defaults answer well.

    Attributes:
        status: instead of 200 or 206.
        cut_after: close the connection after so many bytes of the body.
        stall_after: send no more after so many bytes; -1 sends not even a header.
        wait: seconds before the answer.
        drip: seconds before each byte.
        claim: the Content-Length to claim; the body gets that long, or is cut there.
        headers: instead of the true ones.
    """

    status: int | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    wait: float = 0.0
    drip: float = 0.0
    claim: int | None = None
    headers: dict[str, str] | None = None


class MisbehavingServer:
    """Serves `files` under `url`, in threads of its own, until the block ends.

    Attributes:
        files: content by name; an int is so many bytes that are made while they are sent.
        behave: from a request and how many of its method and name came before to what to do.
        requests: all that arrived.
        ranges: whether ranges are understood.
        tagged: whether ETags are sent.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | int] = {}
        self.behave: Callable[[Request, int], Reply] = lambda request, number: Reply()
        self.requests: list[Request] = []
        self.ranges = self.tagged = True
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.http = _Server(("127.0.0.1", 0), _Handler)
        self.http.owner = self
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> MisbehavingServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def put(self, *contents: bytes) -> list[str]:
        """Serve contents as 0.bin, 1.bin, ... and return their URLs."""
        self.files.update({f"{number}.bin": content for number, content in enumerate(contents)})
        return [f"{self.url}/{number}.bin" for number in range(len(contents))]

    def count(self, method: str = "GET") -> Counter[str]:
        """Return how many requests of a method came, by name."""
        with self.lock:
            return Counter(r.name for r in self.requests if r.method == method)

    def arrived(self, request: Request) -> Reply:
        with self.lock:
            before = sum(
                r.method == request.method and r.name == request.name for r in self.requests
            )
            self.requests.append(request)
        return self.behave(request, before)


def made(size: int, start: int = 0) -> Iterator[bytes]:
    """Yield what the server sends of a file that is given as a number of bytes."""
    block = bytes(range(251)) * 262
    while start < size:
        piece = block[start % 251 :][: min(_PIECE, size - start)]
        yield piece
        start += len(piece)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    owner: MisbehavingServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        owner = self.server.owner
        name, asked = self.path.split("?")[0].lstrip("/"), self.headers.get("Range")
        reply = owner.arrived(Request(self.command, name, asked, time.monotonic()))
        if owner.ended.wait(reply.wait):
            return
        if reply.stall_after == -1:
            owner.ended.wait()
            return
        content = owner.files.get(name)
        status = reply.status or (404 if content is None else 200)
        if status >= 400 or content is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = content if isinstance(content, int) else len(content)
        tag = '"' + hashlib.sha256(repr(content).encode()).hexdigest()[:16] + '"'
        start = self._start(asked, tag) if owner.ranges else 0
        headers = {"Content-Length": str(size - start if reply.claim is None else reply.claim)}
        if owner.tagged:
            headers["ETag"] = tag
        if start:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self.send_response(status)
        for header, value in (headers | (reply.headers or {})).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self._send(content, start, reply)

    def _start(self, asked: str | None, tag: str) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", asked or "")
        if found is None or self.headers.get("If-Range", tag) != tag:
            return 0
        return int(found[1])

    def _send(self, content: bytes | int, start: int, reply: Reply) -> None:
        if isinstance(content, int):
            pieces = made(content, start)
        else:
            body = content[start:]
            if reply.claim is not None:
                body = body.ljust(reply.claim, b"?")[: reply.claim]
            pieces = iter([body])
        sent, limits = 0, [n for n in (reply.cut_after, reply.stall_after) if n is not None]
        for piece in pieces:
            if limits:
                piece = piece[: min(limits) - sent]
            self._write(piece, reply.drip)
            sent += len(piece)
            if limits and sent >= min(limits):
                break
        if reply.cut_after is not None:
            self.server.owner.ended.wait(0.1)  # for the client to read what it got
            self.close_connection = True
        elif reply.stall_after is not None:
            self.server.owner.ended.wait()

    def _write(self, piece: bytes, drip: float) -> None:
        if not drip:
            self.wfile.write(piece)
        for value in piece if drip else b"":
            if self.server.owner.ended.wait(drip):
                return
            self.wfile.write(bytes([value]))
