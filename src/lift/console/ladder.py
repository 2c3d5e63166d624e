"""Console of the command that climbs: ladder."""

from __future__ import annotations

import tyro

from lift.commands import ladder as commands
from lift.console.words import Options
from lift.errors import LiftError


def ladder(
    data: tyro.conf.Positional[str],
    *,
    space: str,
    tower: str,
    out: str,
    validation: str = "",
    options: Options = (),
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Find the cheapest rung that is good enough: closed forms, a trained head; and what is next.

    Captions and images are embedded once, and all rungs are judged on the same held-out pairs.
    The same command goes on where it was stopped.

    For example:

      lift ladder 'flickr8k/*.tar' --space minilm --tower runs/mine --out ladders/flickr
      lift ladder pairs.csv --space sentence_transformer:model=BAAI/bge-m3
        --tower timm:model=vit_base_patch14_dinov2.lvd142m --out ladders/dino

    Args:
        data: pairs to learn from.
        space: the text encoder whose space images are put into, as for `lift embed --encoder`.
        tower: the image tower, which stays as it is, as for `lift embed --tower`.
        out: folder of stored vectors, models, ladder.json and ladder.html.
        validation: pairs to judge on; a tenth of the data is held out if not given.
        options: change the recipe of the trained head: `--set head.kind=gated optim.lr=5e-4`.
        device: auto, cpu, cuda or mps.
        quiet: no progress bars.
    """
    found = commands.ladder(
        data,
        space=space,
        tower=tower,
        out=out,
        validation=validation,
        options=options,
        device=device,
        progress=not quiet,
        say=lambda words: print(words, flush=True),
    )
    print(found.table())
    print(f"page: {out}/ladder.html")
    if not found.done:
        raise LiftError(f"No rung of {out} came out; the first: {found.failed[0].why}")
