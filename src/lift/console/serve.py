"""Console of the command that serves an index: serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import tyro

from lift.commands import serve as command
from lift.console.words import Options

if TYPE_CHECKING:
    from lift.serving.config import ServerConfig

Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
Origins = Annotated[tuple[str, ...], tyro.conf.arg(metavar="ORIGIN [ORIGIN ...]")]


def serve(
    index: tyro.conf.Positional[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    names: Names = (),
    origins: Origins = (),
    device: str = "auto",
    bounds: Options = (),
    open: bool = False,
) -> None:
    """Serve an index: a page to search it, its routes, and /v1/embeddings as OpenAI has it.

    Only this machine can reach it, unless --host says more; then clients need the token that is
    printed. Ctrl-C ends it, once what was asked is answered.

    For example:

      lift serve photos.index
      lift serve photos.index --port 0 --open
      lift serve photos.index --host 0.0.0.0
      LIFT_TOKEN=$(cat token) lift serve photos.index --host 0.0.0.0
      lift serve photos.index --set body=4000000 seconds=10

    Args:
        index: the folder of an index (`lift index` makes one); what is added meanwhile is found.
        host: where to listen; 0.0.0.0 is everywhere.
        port: 0 takes a free one.
        token: what clients have to know; made where others can reach the server and none is given.
            LIFT_TOKEN in the environment says it unseen by other users of this machine.
        names: further names that this server is called by, where no token is asked for.
        origins: sites whose pages may ask (https://shop.example).
        device: auto, cpu, cuda or mps.
        bounds: how much of what it takes (docs/serving.md).
        open: open the page in a browser.
    """

    def listening(url: str, config: ServerConfig) -> None:
        print(f"serving {index} at {url}", flush=True)
        if config.token and not command.told_token(token):
            made = "this token was made for this run: Authorization: Bearer"
            print(made, config.token, flush=True)
        if open:
            import threading
            import webbrowser

            # Beside the server: a browser in a terminal comes back when it is left.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    command.serve(
        index,
        host=host,
        port=port,
        token=token,
        names=names,
        origins=origins,
        device=device,
        bounds=bounds,
        listening=listening,
    )
