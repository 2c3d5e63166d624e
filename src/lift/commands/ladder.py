"""The command that climbs: ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.rungs.record import Ladder


def ladder(
    data: str,
    *,
    space: str,
    tower: str,
    out: str | Path,
    validation: str = "",
    options: Sequence[str] = (),
    device: str = "auto",
    progress: bool = True,
    say: Callable[[str], None] | None = None,
) -> Ladder:
    """Find the cheapest rung that is good enough: closed forms, then a trained head, on one page.

    Captions and images are embedded once; all rungs are judged on the same held-out pairs. The
    same call goes on where it was stopped, and makes nothing again that came out.

    Args:
        data: pairs to learn from.
        space: a text encoder in words, whose space images are put into: `minilm`, ...
        tower: an image tower in words, which stays as it is: `timm:model=...`, the folder of a
            model, ...
        out: folder of stored vectors, models, `ladder.json` and `ladder.html`.
        validation: pairs to judge on; "" holds out a tenth of the data.
        options: `key=value` words that change the recipe `head` of the trained head.
        device: auto, cpu, cuda or mps.
        progress: draw progress bars.
        say: is told what is known before any rung is climbed.

    Raises:
        LiftError: bad input. A rung that fails is told as failed, and the others go on.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    from lift import plugins, recipes
    from lift.commands.text import _encoder
    from lift.image_tower import named_tower
    from lift.pages.ladder import write_ladder
    from lift.rungs.climb import Recipes, climb
    from lift.rungs.places import Asked

    for package in ("jinja2", "matplotlib"):  # told now, not after the work
        plugins.require(package, "plots", "The page of a ladder")
    asked = Asked(
        data=data,
        validation=validation,
        space=space,
        tower=tower,
        out=Path(out),
        options=tuple(options),
        device=device,
    )
    found = climb(
        asked,
        _encoder(space),
        named_tower(tower),
        Recipes(recipes.head(), recipes.tune(), recipes.lift_b16_128m()),
        progress=progress,
        say=say or (lambda _: None),
    )
    write_ladder(found, asked.out)
    return found
