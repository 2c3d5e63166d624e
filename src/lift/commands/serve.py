"""The command that serves an index: search, embeddings and a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.serving.config import ServerConfig


TOKEN = "LIFT_TOKEN"
"""The environment's variable with the token: other users see what stands on a command line."""


def told_token(token: str) -> str:
    """Return the token that was told, on the command line or by the environment; "" for none."""
    return token or os.environ.get(TOKEN, "").strip()


def serve(
    index: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    names: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    device: str = "auto",
    bounds: Sequence[str] = (),
    listening: Callable[[str, ServerConfig], None] = lambda url, config: None,
) -> None:
    """Serve an index until SIGTERM or Ctrl-C.

    Args:
        index: the folder of an index; what other processes add to it meanwhile is found.
        host, port: where to listen; port 0 takes a free one.
        token: what clients have to know; "" takes that of the environment's LIFT_TOKEN. Without
            any one is made where `host` is reached by others, and none is asked for on this
            machine alone.
        names: further names that this server is called by, where no token is asked for.
        origins: sites whose pages may ask (`https://shop.example`).
        device: auto, cpu, cuda or mps.
        bounds: other fields of `lift.serving.config.ServerConfig`, as "name=value".
        listening: is told the page's address and the config once clients can come.

    Raises:
        LiftError: no index there, a wrong option, or an address that is taken.
        MissingPackage: fastapi or uvicorn are not installed.
    """
    from lift import plugins

    for package in ("fastapi", "uvicorn"):
        plugins.require(package, "serve", "lift serve")
    from lift.config import override
    from lift.search.opening import open_searchable
    from lift.serving.config import ServerConfig
    from lift.serving.running import run

    known = told_token(token)
    told = ServerConfig(host=host, port=port, token=known, names=names, origins=origins)
    config = override(told, bounds)
    with open_searchable(index, device=device) as opened:
        run(opened, config, listening=listening)
