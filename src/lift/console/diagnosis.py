"""Console of `lift diagnose`."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from lift.commands import diagnosis


def diagnose(
    model: tyro.conf.Positional[str],
    *,
    data: str,
    cache: str = "",
    label: str = "",
    out: Annotated[str, tyro.conf.arg(name="json")] = "",
    limit: int = 2_000,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Say what is wrong with a model, its text space or its pairs, and what to try.

    Each question gets fault, look or fine, a figure with its interval, and a sentence. What is
    found is no error: the exit code is 0.

    For example:

      lift diagnose runs/flickr --data flickr8k/val-0000.tar
      lift diagnose runs/shop --data test.parquet --label article_type --json shop.json

    Args:
        model: the folder of a run or a saved model, or another model as `lift eval` takes it.
        data: pairs, the better for being none that it was trained on.
        cache: take text vectors from there where it has them.
        label: the field that holds the class of an image, where there are classes.
        out: a file for everything that was found.
        limit: images that are looked at, drawn by the hash of their keys.
        device: auto, cpu, cuda or mps.
        quiet: say nothing while working.
    """
    from lift.diagnosis import table

    def say(words: str) -> None:
        if not quiet:
            print(f"{words} ...", file=sys.stderr)

    print(
        table(
            diagnosis.diagnose(
                model,
                data=data,
                cache=cache or None,
                label=label,
                out=out or None,
                limit=limit,
                device=device,
                say=say,
            )
        )
    )
