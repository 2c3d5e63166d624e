"""The server as a process: uvicorn, patient with nobody, ended without dropping an answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lift.errors import ConfigError
from lift.search.terms import Searchable
from lift.serving.app import create_app
from lift.serving.config import ServerConfig, guarded

BACKLOG = 512
_SWEEP = 10
"""Ticks of uvicorn's between two looks at all connections: a second."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Connection(H11Protocol):
    """uvicorn's protocol in pure Python, which times what it does not.

    uvicorn closes connections that are idle after an answer. It waits for ever for a first request,
    for the rest of a header that drips, and for a client that doesn't read what it was sent.
    """

    idle_seconds = 15.0
    most = 256
    longest = 60.0
    quiet_since: float
    state_since: float
    state: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        self.quiet_since = self.state_since = self.loop.time()
        if len(self.connections) > self.most:
            transport.write(_FULL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes; after the end of a connection they are nobody's."""
        if not self.transport.is_closing():
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Count the time from here on."""
        self.quiet_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; in the middle of an answer there is nothing left to say."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if nothing has come of it for too long.

        While a request is in work the guard looks at the time; but its answer can't be sent to a
        client that has not read the ones before. Closed, a connection lives on until the client has
        read what it was sent, which may be never.
        """
        working = self.cycle is not None and not self.cycle.response_complete
        state = "closing" if self.transport.is_closing() else self.cycle if working else None
        if state is not self.state:
            self.state, self.state_since = state, now
        if state is None:
            late = now - self.quiet_since > self.idle_seconds
        else:
            patience = self.idle_seconds if state == "closing" else self.longest
            late = now - self.state_since > patience
        if late:
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's server; says when it listens, sweeps, and leaves quietly when it is told to."""

    def __init__(self, config: uvicorn.Config, told: Callable[[], None]) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._told()

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second."""
        if counter % _SWEEP == 0:
            now = asyncio.get_running_loop().time()
            for one in list(self.server_state.connections):
                if isinstance(one, Connection):
                    one.sweep(now)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take SIGINT and SIGTERM as the wish to end; not raised again, as uvicorn would."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wishes = (signal.SIGINT, signal.SIGTERM)
        before = {wish: signal.signal(wish, self._wished) for wish in wishes}
        try:
            yield
        finally:
            for wish, handler in before.items():
                signal.signal(wish, handler)

    def _wished(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def run(
    searchable: Searchable,
    config: ServerConfig | None = None,
    *,
    listening: Callable[[str, ServerConfig], None] = lambda url, config: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are finished first.

    Args:
        searchable: what is searched; it is not closed.
        config: where, for whom, and bounds. Opened wider than this machine without a token, one is
            made.
        listening: is told the page's address (with the token behind #, where there is one) and
            the config once clients can come.

    Raises:
        ConfigError: the address can't be listened to.
    """
    config = guarded(config or ServerConfig())
    listener = _listener(config.host, config.port)
    port = int(listener.getsockname()[1])

    class Patient(Connection):
        idle_seconds = config.idle_seconds
        most = config.connections
        longest = config.body_seconds + config.seconds + config.idle_seconds

    settings: dict[str, Any] = {
        **{"http": Patient, "ws": "none", "lifespan": "on", "log_config": None},
        **{"access_log": False, "proxy_headers": False, "server_header": False},
        "log_level": "error",
        "timeout_keep_alive": max(1, int(config.idle_seconds)),
        "timeout_graceful_shutdown": max(1, int(config.grace_seconds)),
    }
    made = uvicorn.Config(create_app(searchable, config), **settings)
    with listener:
        Server(made, lambda: listening(address(config, port), config)).run(sockets=[listener])


def address(config: ServerConfig, port: int) -> str:
    """Return the page's address for people; what is behind # never leaves their browser."""
    everywhere = config.host in ("0.0.0.0", "") or (
        config.host == "::" and socket.has_dualstack_ipv6()
    )
    host = "127.0.0.1" if everywhere else "::1" if config.host == "::" else config.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"#token={config.token}" if config.token else "")


def _listener(host: str, port: int) -> socket.socket:
    """Listen; at :: for both versions of the protocol, as it is everywhere."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"Nothing can listen at {host} port {port} ({reason}); choose another --port or --host."
        ) from error
