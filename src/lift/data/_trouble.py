"""What went wrong on the wire: worth another try or not, and in words without secrets."""

from __future__ import annotations

import re

from lift.data._caller import Stalled

_PASSING = {408, 425, 429}
"""Of the answers below 500 those that another try may turn into a good one."""


class Wrong(Exception):
    """An answer that is not the file; another try may bring it."""


def shown(url: str) -> str:
    """Return a URL without passwords and signatures, for sentences."""
    url = re.sub(r"(?<=://)[^/@]*@", "", url)
    return re.sub(r"\?.*", "?...", url) if is_http(url) else url


def is_http(url: str) -> bool:
    """Return whether it is of the web, where a question mark begins what may be secret."""
    return url.lower().startswith(("http://", "https://"))


def cause(url: str, error: Exception) -> Exception:
    """Return what happened: for http, fsspec calls every failed question FileNotFoundError."""
    cause = error.__cause__
    if is_http(url) and isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        return cause
    return error


def worth_another_try(error: Exception) -> bool:
    """Return whether the next try may go better."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status >= 500 or status in _PASSING or status < 400
    return not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)


def told(error: Exception | None, url: str, timeout_s: float) -> str:
    """Return an error of a driver in words that hold no password and no signature."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, TimeoutError):
        return f"nothing came for {timeout_s:g} s"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Stalled | Wrong):
        return str(error)
    words = " ".join(str(error).split()).replace(url, shown(url))
    # Drivers spell addresses anew, and name those they were sent on to.
    words = re.sub(r"(?<=://)[^/@\s]*@", "", words)
    words = re.sub(r"(?<=://)([^?\s'\"]*)\?[^\s'\"]*", r"\1?...", words)
    return f"{type(error).__name__}: {words[:300]}".rstrip(": ")
