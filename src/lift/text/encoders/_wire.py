"""Connections to one server: no wait outlasts its call, and a call can be given up from outside.

The pool below keeps lines and nothing else: no cookies, no redirects, no decoding of bodies. A
timeout for single reads is no bound, since a server may send a byte now and then (headers, 100
Continue, pieces of a body) for as long as it likes; so each call has one end, at which its socket
is shut whatever it waits for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore2

from lift.errors import ConfigError
from lift.text.encoders._address import is_loopback

_KEPT = 5.0
"""Seconds that an idle line stays open."""


class Call:
    """One request with its answer, in one thread.

    Attributes:
        late: whether its time was up before it ended.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._over = False
        self.late = False
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def left(self) -> float:
        """Return the seconds until its end, above zero."""
        return max(1e-3, self._end - time.monotonic())

    def uses(self, stream: httpcore2.NetworkStream) -> bool:
        """Note where it waits next; false where it has to stop instead."""
        with self._lock:
            self._socket = stream.get_extra_info("socket")
            return not self._over

    def give_up(self) -> None:
        """End it, whatever it waits for."""
        with self._lock:
            self._over = True
            if self._socket is not None:
                # Closing would not wake a thread that waits, and the `shutdown` of an SSLSocket
                # takes its TLS away under a thread that reads.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def end(self) -> None:
        """Let go of the socket, which another call may use next."""
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def _ring(self) -> None:
        self.late = True
        self.give_up()


class Wire(httpcore2.NetworkBackend):
    """Makes connections whose every wait belongs to a call."""

    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._calls: dict[Call, threading.Event] = {}

    @contextlib.contextmanager
    def call(self, seconds: float, stop: threading.Event) -> Iterator[Call]:
        """Bound everything that this thread sends and reads inside by one end.

        Args:
            seconds: until its end.
            stop: what `give_up` knows it by.
        """
        call = Call(seconds)
        with self._lock:
            self._calls[call] = stop
        self._of_thread.call = call
        try:
            if stop.is_set():
                call.give_up()
            yield call
        finally:
            with self._lock:
                del self._calls[call]
            call.end()

    def give_up(self, stop: threading.Event) -> None:
        """Set `stop` and end all its calls now."""
        stop.set()
        with self._lock:
            for call, its in self._calls.items():
                if its is stop:
                    call.give_up()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """See `NetworkBackend`."""
        left = self.current().left()
        timeout = left if timeout is None else min(timeout, left)
        made = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Line(made, self)

    def current(self) -> Call:
        """Return the call of this thread: the library does each request in its caller's thread."""
        return self._of_thread.call


class _Line(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, wire: Wire) -> None:
        self._inner, self._wire = inner, wire

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # Not left to the shut socket alone: it still hands out what has arrived.
        if not self._wire.current().uses(self._inner):
            raise httpcore2.ReadTimeout("the call is over")
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._wire.current().uses(self._inner):
            raise httpcore2.WriteTimeout("the call is over")
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        if not self._wire.current().uses(self._inner):
            raise httpcore2.ConnectTimeout("the call is over")
        return _Line(self._inner.start_tls(ssl_context, server_hostname, timeout), self._wire)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def open_pool(url: str, wire: Wire) -> httpcore2.ConnectionPool:
    """Return the connections to the server of `url`, through the environment's proxy if it has one.

    Raises:
        ConfigError: certificates or a proxy that the environment names can't be used.
    """
    # Reading the system's authorities takes 50 ms, and plain http needs none.
    secure = urlsplit(url).scheme == "https"
    return httpcore2.ConnectionPool(
        _authorities() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        proxy=_proxy(url),
        max_connections=None,
        max_keepalive_connections=None,
        keepalive_expiry=_KEPT,
        network_backend=wire,
    )


def _authorities() -> ssl.SSLContext:
    try:
        return httpcore2.default_ssl_context()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR names can't be read ({reason}); "
            "correct the variable or unset it."
        ) from error


def _proxy(url: str) -> httpcore2.Proxy | None:
    """Return the proxy for an address; none for this machine, whose texts it would see."""
    asked, found = urlsplit(url), urllib.request.getproxies()
    address = found.get(asked.scheme) or found.get("all")
    if not address or is_loopback(url) or urllib.request.proxy_bypass(asked.netloc):
        return None
    address = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme not in ("http", "https") or not host or not host.isascii():
            raise ValueError
    except ValueError:
        # It is not repeated: it may hold a password.
        raise ConfigError(
            f"The proxy that the environment names for {asked.netloc} ({asked.scheme.upper()}_PROXY"
            " or ALL_PROXY) is no http address (socks is not spoken); write it like "
            f"http://proxy.example:3128, or put {asked.hostname} into NO_PROXY."
        ) from None
    auth = None
    if parts.username is not None:
        auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    return httpcore2.Proxy(
        httpcore2.URL(scheme=parts.scheme, host=host, port=port, target="/"), auth=auth
    )
