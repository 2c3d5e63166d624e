"""Console of the command for the first hour: start."""

from __future__ import annotations

import shlex
from pathlib import Path

import tyro

from lift.commands import start as command


def start(
    folder: tyro.conf.Positional[Path],
    *,
    out: Path | None = None,
    minutes: float = 8.0,
    space: str = "",
    model: str = "",
    tower: str = "",
    serve: bool = True,
    port: int = 8000,
) -> None:
    """Make a folder of pictures and captions searchable, and open the search: nothing is asked.

    It looks at the folder, embeds the captions, trains what this machine can afford, judges it,
    builds an index, and serves it. Every command is printed, so that you can repeat it or change
    it. Stopped at any time, the same command goes on.

    For example:

      lift start photos/
      lift start photos/ --minutes 60 --tower huggingface:model=facebook/dinov2-base
      lift start photos/ --model runs/photos

    Args:
        folder: pictures with captions: any layout that `lift data inspect` can read.
        out: where everything goes; FOLDER's name with .lift, here, if not given.
        minutes: that it may take until the search runs, about.
        space: a text encoder; MiniLM if not given.
        model: a run or model that is there already; nothing is trained then.
        tower: an image tower; one that lies on this machine, if not given.
        serve: serve the index at the end.
        port: of the server.
    """
    if serve:
        from lift import plugins

        for package in ("fastapi", "uvicorn"):  # told now, not after the work
            plugins.require(package, "serve", "The page of the search")
    name = folder.resolve().name.partition(".")[0] or "pictures"
    where = out if out is not None else Path(f"{name}.lift")
    plan = command.start(
        folder,
        out=where,
        minutes=minutes,
        space=space,
        model=model,
        tower=tower,
        say=lambda line: print(line, flush=True),
    )
    print(f"\nDone. Search it here:\n  lift search {shlex.quote(plan.index)} ", end="")
    print(f"{shlex.quote(plan.first)}\nor on a page:")
    print(f"  lift serve {shlex.quote(plan.index)} --port {port}", flush=True)
    if serve:
        from lift.commands.serve import serve as run

        run(plan.index, port=port)
