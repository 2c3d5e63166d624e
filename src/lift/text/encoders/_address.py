"""Where an embedding server is: its url checked, its endpoint, and whether it is this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from lift.errors import ConfigError

OPENAI = "api.openai.com"


def check_url(url: str, wanted_by: str) -> None:
    """Do nothing if `url` is a plain http(s) address.

    Raises:
        ConfigError: it is none, or holds a user, a password or a query: urls are stored and shown,
            so secrets have no place in them (and such a url is not repeated in the message).
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        valid = valid and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        parts, valid = urlsplit(""), False
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{wanted_by}: the url holds a user, a password, a query or a fragment; give the plain "
            "address, and the key through key_variable."
        )
    if not valid:
        raise ConfigError(
            f"{wanted_by}: {url!r} is no address of a server; write it like "
            "http://localhost:11434/v1."
        )


def endpoint(url: str) -> str:
    """Return where to post to, for a base url or the endpoint itself."""
    base = url.rstrip("/")
    return base if base.endswith("/embeddings") else f"{base}/embeddings"


def host_of(url: str) -> str:
    """Return the host's name, in small letters."""
    return urlsplit(url).hostname or ""


def is_loopback(url: str) -> bool:
    """Return whether the host is this machine."""
    host = host_of(url)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
