"""Post JSON to one server: paced, repeated where that helps, bounded; the key stays in here."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpcore2

from lift.errors import ConfigError, ServerError
from lift.text.encoders._address import is_loopback
from lift.text.encoders._answers import Broken, advice, is_too_large, message_of
from lift.text.encoders._wire import Call, Wire, open_pool

LONGEST_PAUSE = 30.0
"""Seconds that the growing pause between two tries of one request ends at."""

LONGEST_RETRY_AFTER = 600.0
"""Seconds that a server may ask for; more is a quota of hours, where stopping is kinder."""

_CONNECT = 10.0
_ERROR_BYTES = 1 << 16
_FIRST_TRIES = 3
"""Tries at a server that has never answered: it is not running, or its url is wrong."""

_AGAIN = frozenset({408, 409, 424, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Statuses that pass. text-embeddings-inference says 424 where its backend failed."""

Answer = TypeVar("Answer")


class TooLarge(Exception):
    """The server takes fewer or shorter texts than this request had."""


class Abandoned(Exception):
    """Another request failed for good, so this one is not tried again."""


class _Again(Exception):
    def __init__(self, reason: str, *, pause: float | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.pause, self.reached = reason, pause, reached


@dataclass
class Counts:
    """What went over the wire: requests in all, and how many of them were repeats."""

    requests: int = 0
    repeats: int = 0


class Pace:
    """Spaces requests evenly, so that no minute holds more than is allowed of them."""

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._each = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._lock = threading.Lock()
        self._free = [0.0, 0.0]

    def reserve(self, tokens: int) -> float:
        """Take the next free moment and return how many seconds away it is."""
        with self._lock:
            now = time.monotonic()
            start = max(now, *self._free)
            self._free = [start + self._each, start + self._token * tokens]
            return start - now

    def hold(self, seconds: float) -> None:
        """Let nothing start for so long: the server asked for it."""
        with self._lock:
            self._free[0] = max(self._free[0], time.monotonic() + seconds)


class Server:
    """One address; safe to use from several threads.

    Attributes:
        url: where it posts to.
        counts: see `Counts`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        key_variable: str,
        timeout: float,
        retries: int,
        backoff: float,
        pace: Pace,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: to post to.
            key: sent as a bearer token, "" for none.
            key_variable: where the key came from, for messages.
            timeout: seconds for one whole answer.
            retries: how often one request is repeated.
            backoff: seconds before the first repeat; each later pause is twice as long.
            pace: when requests may start.

        Raises:
            ConfigError: the key would travel in the clear, or is none that a header can hold.
        """
        self._local, self._tls = is_loopback(url), url.lower().startswith("https:")
        if key and not (self._tls or self._local):
            raise ConfigError(
                f"{url} is neither https nor on this machine, so the key in {key_variable} would "
                "travel in the clear; use https, a tunnel to localhost, or key_variable= for none."
            )
        if not all(" " < c < "\x7f" for c in key):
            raise ConfigError(
                f"The environment variable {key_variable} holds no key but text with white space "
                "or letters beyond ASCII; set it again."
            )
        self.counts = Counts()
        self.url, self._key, self._key_variable = url, key, key_variable
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._pace = pace
        self._reached = False
        self._lock = threading.Lock()
        self._wire = Wire()
        self._pool: httpcore2.ConnectionPool | None = None
        # Seeded by the system: it moves requests apart in time and reaches no result.
        self._jitter = random.Random()

    def post(
        self,
        body: Mapping[str, Any],
        read: Callable[[bytes], Answer],
        *,
        tokens: int,
        limit: int,
        stop: threading.Event,
    ) -> Answer:
        """Return what `read` makes of the answer.

        Args:
            body: becomes JSON.
            read: turns the answer's bytes into a value; raises `Broken` to have it asked again.
            tokens: in the body, for the pace.
            limit: bytes of an answer at most.
            stop: ends waiting between tries; see also `give_up`.

        Raises:
            TooLarge: the server wants less in a request.
            ConfigError: the server refuses for a reason that stays.
            ServerError: every try failed, the answer is above the limit or compressed, or the
                server asks for a pause of more than ten minutes.
            Abandoned: `stop` was set.
        """
        sent = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        tries = 0
        pool = self._open()  # before any moment is reserved: the first time takes a while
        while True:
            if stop.wait(self._pace.reserve(tokens)):
                raise Abandoned
            with self._lock:
                self.counts.requests += 1
                self.counts.repeats += tries > 0
            try:
                return read(self._send(pool, sent, limit, stop))
            except Broken as error:
                failed = _Again(str(error))
            except _Again as error:
                failed = error
            tries += 1
            allowed = self._retries + 1
            if not failed.reached and not self._reached:
                allowed = min(allowed, _FIRST_TRIES)
            if tries >= allowed:
                raise ServerError(
                    f"The server {self.url} gave no usable answer in {tries} tries; the last: "
                    f"{failed.reason}; see to the server and run the same command again, what "
                    "is stored stays."
                ) from None
            if stop.wait(self._pause(failed, tries)):
                raise Abandoned

    def give_up(self, stop: threading.Event) -> None:
        """Set `stop` and end every `post` that was given it, what is on its way included."""
        self._wire.give_up(stop)

    def _pause(self, failed: _Again, tries: int) -> float:
        """Return the seconds to wait, and hold the other threads where the server said so."""
        grown = min(LONGEST_PAUSE, self._backoff * 2 ** min(tries - 1, 30))
        pause = grown * self._jitter.uniform(0.5, 1.0)
        if failed.pause is None:
            return pause
        if failed.pause > LONGEST_RETRY_AFTER:
            raise ServerError(
                f"The server {self.url} asks to wait {failed.pause:,.0f} seconds "
                f"({failed.reason}); run the same command again then, what is stored stays."
            )
        self._pace.hold(failed.pause)
        return max(pause, failed.pause)

    def _send(
        self, pool: httpcore2.ConnectionPool, sent: bytes, limit: int, stop: threading.Event
    ) -> bytes:
        """Return the body of an answer 200; everything else is an exception."""
        late = f"no answer in {self._timeout:g} seconds"
        each = {"connect": min(_CONNECT, self._timeout), "read": self._timeout}
        waits = {"timeout": {**each, "write": self._timeout}}
        with self._wire.call(self._timeout, stop) as call:
            try:
                with pool.stream(
                    "POST", self.url, headers=self._headers(), content=sent, extensions=waits
                ) as response:
                    self._reached = True
                    headers = _plain(response.headers)
                    packed = headers.get("content-encoding", "identity").lower() != "identity"
                    most = limit if response.status == 200 else _ERROR_BYTES
                    body, whole = (b"", True) if packed else _read(response, most)
            except httpcore2.TimeoutException as error:
                reached = not isinstance(error, httpcore2.ConnectTimeout)
                raise _Again(late, reached=reached) from None
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError) as error:
                raise self._broken(error, call, late) from None
        if call.late:  # where a body's end is the end of the line, being shut looks like its end
            raise _Again(late)
        if response.status != 200:
            self._refuse(response.status, headers, body)
        if packed:
            raise ServerError(
                f"The server {self.url} sent its answer compressed "
                f"({self._hide(headers['content-encoding'])[:40]!r}), though the request says that "
                "only plain ones are read; see to the server or the gateway before it."
            )
        if not whole:
            raise ServerError(
                f"The server {self.url} sent more than {limit:,} bytes where its rows need "
                "less; check the url and the dimensions."
            )
        return body

    def _broken(self, error: Exception, call: Call, late: str) -> Exception:
        """Return what a connection that failed means."""
        if call.late:
            return _Again(late)
        reason = self._hide(f"{type(error).__name__}: {error}")
        if "CERTIFICATE" in reason:
            return ConfigError(
                f"The server {self.url} can't prove who it is ({reason}); mend its "
                "certificate, or name the right authority in SSL_CERT_FILE."
            )
        return _Again(reason, reached=not isinstance(error, httpcore2.ConnectError))

    def _headers(self) -> list[tuple[str, str]]:
        """Return the headers of a request; compressed answers could hide their size."""
        headers = [
            ("host", urlsplit(self.url).netloc),
            ("user-agent", "lift-align"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
        ]
        return [*headers, ("authorization", f"Bearer {self._key}")] if self._key else headers

    def _refuse(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raise what an answer other than 200 means."""
        if 300 <= status < 400:
            target = self._hide(headers.get("location", "nowhere"))[:200]
            raise ConfigError(
                f"The server {self.url} sends on to {target!r}, which is not followed, because "
                "texts and key would go along; give that address as url if it is right."
            )
        message = message_of(body, self._key)
        if is_too_large(status, message):
            raise TooLarge(f"{status}: {message}")
        if "insufficient_quota" in body.decode("utf-8", "replace"):
            raise ConfigError(
                f"The server {self.url} says that the quota of the key in "
                f"{self._key_variable or 'no variable'} is used up ({message}); raise it and run "
                "the same command again, what is stored stays."
            )
        if status in _AGAIN or status < 300:
            raise _Again(f"{status} ({message})", pause=retry_after(headers.get("retry-after")))
        known = self._key_variable if self._key else ""
        raise ConfigError(
            f"The server {self.url} answered {status} ({message}); {advice(status, known)}."
        )

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _open(self) -> httpcore2.ConnectionPool:
        """Return the connections, made when they are first needed and closed with this object."""
        with self._lock:
            if self._pool is None:
                self._pool = open_pool(self.url, self._wire)
                weakref.finalize(self, self._pool.close)
            return self._pool


def _plain(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the last header of each name, in small letters."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _read(response: httpcore2.Response, most: int) -> tuple[bytes, bool]:
    """Return (at most so many bytes and a piece of the body, whether that is all of it)."""
    found: list[bytes] = []
    size = 0
    for piece in response.iter_stream():
        found.append(piece)
        size += len(piece)
        if size > most:
            return b"".join(found), False
    return b"".join(found), True


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
