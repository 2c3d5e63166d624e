"""What a server listens to, and how much of everything it takes."""

from __future__ import annotations

import dataclasses
import ipaddress
import secrets
from dataclasses import dataclass

from lift.errors import ConfigError

MIB = 1 << 20
LEAST_TOKEN = 16
"""Characters that a token has at least."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where a server listens, who may ask, and its bounds.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        token: what `Authorization: Bearer TOKEN` has to say; "" for nobody is asked, which only a
            server that this machine alone can reach may say (see `guarded`).
        names: further names that the header `Host` may carry where no token is asked for.
        origins: pages of which other sites may ask (`https://shop.example`), none by default.
        body: bytes of the largest request.
        bodies: bytes of all requests that are held at a time.
        pixels: of the largest image.
        texts: of one request for embeddings, and
        images: of one such request.
        characters: of the longest text.
        top: hits of one answer, and items of one page of them.
        connections: that are open at a time.
        requests: that are worked on at a time.
        waiting: jobs before each worker.
        batch: queries that are searched for together, and texts that are encoded together.
        window: seconds that a worker waits for more before it takes what is there.
        seconds: until a request is given up (504).
        body_seconds: until the whole of a request has to be there (408).
        idle_seconds: until a connection without a whole request line and headers is closed, and
            one whose answer nobody reads.
        grace_seconds: until requests in flight are given up when the server is told to stop.
        refresh_seconds: between two looks for what another process added to the index.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body: int = 16 * MIB
    bodies: int = 128 * MIB
    pixels: int = 25_000_000
    texts: int = 256
    images: int = 64
    characters: int = 32_768
    top: int = 1_000
    connections: int = 256
    requests: int = 128
    waiting: int = 256
    batch: int = 32
    window: float = 0.002
    seconds: float = 30.0
    body_seconds: float = 20.0
    idle_seconds: float = 15.0
    grace_seconds: float = 10.0
    refresh_seconds: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"A port is from 0 to 65535, not {self.port}.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("port", "window") else 1e-3
            if isinstance(value, int | float) and not least <= value < 1 << 40:
                raise ConfigError(f"{field.name} of a server can't be {value}.")
        if self.token and (len(self.token) < LEAST_TOKEN or not _visible(self.token)):
            raise ConfigError(
                f"A token has at least {LEAST_TOKEN} letters, digits or signs of ASCII and no "
                "space; leave it out and one is made."
            )
        for origin in self.origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest:
                raise ConfigError(f"An origin is like https://shop.example, not {origin!r}.")

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        return is_loopback(self.host)

    @property
    def host_names(self) -> frozenset[str] | None:
        """The names that `Host` may carry, lower case; None for any, where a token is asked for.

        A page of another site can have its own name lead to 127.0.0.1 and ask from here (DNS
        rebinding); the name stays its own.
        """
        if self.token and not self.loopback:
            return None
        own = {"localhost", "127.0.0.1", "::1", self.host.lower()}
        return frozenset(own | {name.lower() for name in self.names})


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guarded(config: ServerConfig) -> ServerConfig:
    """Return the config with a token where others can reach the server and none was told."""
    if config.token or config.loopback:
        return config
    return dataclasses.replace(config, token=secrets.token_urlsafe(24))


def _visible(token: str) -> bool:
    return all("!" <= letter <= "~" for letter in token)
