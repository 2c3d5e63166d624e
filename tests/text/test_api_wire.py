"""Servers that hold the line, pack or mark their answers, and networks set up wrongly."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpcore2")

from embedding_server import EmbeddingServer, Reply, error
from lift.config import part
from lift.errors import ConfigError, LiftError, ServerError
from lift.text.encoder import build_encoder

Speak = Callable[[socket.socket, bytes], None]


class Speaker:
    """A server of bare bytes: `speak(connection, request)` is called for every connection."""

    def __init__(self, speak: Speak) -> None:
        self.speak, self.requests, self.done = speak, [], threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                found = b""
                while b"\r\n\r\n" not in found:
                    found += connection.recv(65_536)
                self.requests.append(found)
                self.speak(connection, found)
            except OSError:
                pass  # the client hung up, which is what most of these tests want

    def drip(self, connection: socket.socket, *pieces: bytes) -> None:
        for piece in pieces:
            if self.done.wait(0.05):
                return
            connection.sendall(piece)


@pytest.fixture
def speaker() -> Iterator[Callable[[Callable[[Speaker, socket.socket], None]], Speaker]]:
    made: list[Speaker] = []

    def make(speak: Callable[[Speaker, socket.socket], None]) -> Speaker:
        made.append(Speaker(lambda connection, _: speak(made[-1], connection)))
        return made[-1]

    yield make
    for one in made:
        one.done.set()
        one.listening.close()


def client(url: str, **options: Any) -> Any:
    known = {"model": "m", "url": url, "dimensions": 4, "max_tokens": 16, "retries": 0}
    return build_encoder(part("text/encoders", "api", **known | options), trusted=True)


OK = b"HTTP/1.1 200 OK\r\n"
ROW = json.dumps({"data": [{"index": 0, "embedding": [1, 0, 0, 0]}]}).encode()
HOLDING = {
    "headers": (OK, *(b"x-%d: 1\r\n" % n for n in range(200))),
    "100 Continue": (b"HTTP/1.1 100 Continue\r\n\r\n",) * 200,
    "a body": (OK + b"content-length: 1000\r\n\r\n", *(b" ",) * 200),
    "pieces": (OK + b"transfer-encoding: chunked\r\n\r\n", *(b"1\r\n \r\n",) * 200),
    "a body without length": (OK + b"\r\n", ROW, *(b" ",) * 200),
    "the first line": tuple(bytes([c]) for c in OK * 10),
    "an error": (b"HTTP/1.1 500 Oh\r\ncontent-length: 1000\r\n\r\n", *(b" ",) * 200),
}


@pytest.mark.parametrize("name", HOLDING)
def test_nothing_lasts_longer_than_the_timeout(speaker, name):
    server = speaker(lambda self, connection: self.drip(connection, *HOLDING[name]))
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer in 0\.3 seconds"):
        client(server.url, timeout=0.3).encode(["a dog"])
    assert 0.25 < time.monotonic() - start < 2


def test_a_flood_ends_in_time(speaker):
    def flood(self: Speaker, connection: socket.socket) -> None:
        while not self.done.is_set():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)

    start = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer in 0\.3 seconds"):
        client(speaker(flood).url, timeout=0.3).encode(["a dog"])
    assert time.monotonic() - start < 1.5


def test_a_reader_that_does_not_read(speaker):
    server = speaker(lambda self, connection: self.done.wait(5))
    long = "a" * 12_000_000  # more than any socket buffers
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer in 0\.5 seconds"):
        client(server.url, timeout=0.5, max_tokens=10**8).encode([long])
    assert time.monotonic() - start < 3


def test_packed_answers_are_not_unpacked(speaker):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(64)) + packer.flush()
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    server = speaker(lambda self, connection: connection.sendall(head + bomb))
    with pytest.raises(ServerError, match="compressed"):
        client(server.url, retries=3).encode(["a dog"])
    assert len(server.requests) == 1
    assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


def test_no_cookie_is_kept():
    with EmbeddingServer(dimensions=4) as server:
        mark = Reply(headers={"set-cookie": "a=b; Path=/"})
        server.behave = lambda number, seen: mark
        encoder = client(server.url)
        encoder.encode(["a dog"])
        encoder.encode(["a cat"])
        assert len(server.seen) == 2
    seen: list[bytes] = []

    def speak(connection: socket.socket, request: bytes) -> None:
        seen.append(request)
        head = OK + b"set-cookie: a=b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        connection.sendall(head % len(ROW) + ROW)

    bare = Speaker(speak)
    encoder = client(bare.url)
    encoder.encode(["a dog"])
    encoder.encode(["a cat"])
    assert len(seen) == 2 and not any(b"cookie" in request.lower() for request in seen)
    bare.listening.close()


SET_UP = {
    "certificates": ({"SSL_CERT_FILE": "/nonexistent/x.pem"}, "SSL_CERT_FILE"),
    "no certificates": ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE"),
    "socks": ({"HTTPS_PROXY": "socks5://127.0.0.1:1"}, "HTTPS_PROXY"),
    "a scheme": ({"HTTPS_PROXY": "foo://secret@x"}, "NO_PROXY"),
    "brackets": ({"ALL_PROXY": "http://[::secret"}, "ALL_PROXY"),
    "a port": ({"HTTPS_PROXY": "http://secret:99999"}, "HTTPS_PROXY"),
    "no host": ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY"),
}


@pytest.fixture
def plain_network(monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", SET_UP)
def test_what_the_environment_says_wrongly(plain_network, name):
    variables, word = SET_UP[name]
    for variable, value in variables.items():
        plain_network.setenv(variable, value)
    with pytest.raises(ConfigError, match=word) as caught:
        client("https://example.invalid/v1").encode(["a dog"])
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("form", ["http://me:pass%20word@{}", "{}"])
def test_a_proxy_is_used_but_not_for_this_machine(plain_network, form):
    def speak(connection: socket.socket, request: bytes) -> None:
        connection.sendall(OK + b"content-length: %d\r\n\r\n" % len(ROW) + ROW)

    proxy = Speaker(speak)
    host = proxy.url.removeprefix("http://").removesuffix("/v1")
    plain_network.setenv("http_proxy", form.format(host))
    client("http://example.invalid/v1").encode(["a dog"])
    assert proxy.requests[0].startswith(b"POST http://example.invalid/v1/embeddings HTTP/1.1\r\n")
    assert (b"basic bwu6cgfzcyb3b3jk" in proxy.requests[0].lower()) == ("me:" in form)
    with EmbeddingServer(dimensions=4) as server:
        client(server.url).encode(["a dog"])
    plain_network.setenv("no_proxy", "example.invalid")
    with pytest.raises(ServerError):
        client("http://example.invalid/v1").encode(["a dog"])
    assert len(proxy.requests) == 1
    proxy.listening.close()


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("lift-api")]


def test_a_failure_ends_what_is_on_its_way():
    with EmbeddingServer(dimensions=4) as server:
        refused = error(401, "no")
        server.behave = lambda number, seen: refused if number == 4 else Reply(delay=3)
        start = time.monotonic()
        with pytest.raises(ConfigError, match="401"):
            client(server.url, batch_size=1, concurrency=4).encode([f"dog {n}" for n in range(40)])
        for thread in ours():
            thread.join(1)
        assert not ours()
        assert time.monotonic() - start < 1
        assert len(server.seen) == 4


def test_one_call_that_fails_leaves_another_alone():
    with EmbeddingServer(dimensions=4) as server:
        server.behave = lambda number, seen: (
            error(401, "no") if "bad" in seen.texts[0] else Reply(delay=0.5)
        )
        encoder = client(server.url)
        found: list[np.ndarray] = []
        other = threading.Thread(target=lambda: found.append(encoder.encode(["a dog"]).rows))
        other.start()
        time.sleep(0.1)
        with pytest.raises(LiftError):
            encoder.encode(["bad"])
        other.join()
        np.testing.assert_allclose(found[0], server.encoder.encode(["a dog"]).rows, atol=1e-6)
        assert encoder.counts.repeats == 0


ASK = """
import sys
from lift.config import part
from lift.text.encoder import build_encoder

options = dict(model="m", url=sys.argv[1], dimensions=4, max_tokens=16, batch_size=1)
encoder = build_encoder(part("text/encoders", "api", **options), trusted=True)
try:
    encoder.encode([f"dog {n}" for n in range(40)])
except KeyboardInterrupt:
    sys.exit(9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_does_not_wait_for_the_server():
    with EmbeddingServer(dimensions=4) as server:
        server.behave = lambda number, seen: Reply(delay=5)
        # A shell that runs the tests in the background has its children ignore the signal.
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        command = [sys.executable, "-c", ASK, server.url]
        with subprocess.Popen(command, preexec_fn=heard) as asking:
            while len(server.seen) < 8:
                assert asking.poll() is None
                time.sleep(0.02)
            start = time.monotonic()
            asking.send_signal(signal.SIGINT)
            assert asking.wait(4) == 9
        assert time.monotonic() - start < 1.5
        assert len(server.seen) == 8
