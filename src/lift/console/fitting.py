"""Console of the commands that fit linear maps: fit, migrate."""

from __future__ import annotations

from pathlib import Path

import tyro

from lift.commands import fitting
from lift.console.words import Options, Words


def fit(
    *,
    data: Words = (),
    features: str = "",
    cache: str,
    out: str,
    method: str = "",
    options: Options = (),
    holdout: float = 0.1,
    roles: tuple[str, ...] = (),
    bridge: bool = False,
    own: str = "",
    tower: str = "",
    quiet: bool = False,
) -> None:
    """Solve a linear head for a frozen tower in one pass over stored vectors: seconds, no training.

    With --bridge, on captions alone: a tower that was trained with a text tower of its own (CLIP,
    SigLIP) gets into another text space without an image.

    For example:

      lift fit --data 'flickr8k/*.tar' --features features --cache captions --out models/first
      lift fit --data pairs.csv --features features --cache captions --out models/first
        --method ridge --set penalty=kfold
      lift fit --bridge --own clip-captions --tower open_clip:model=ViT-B-32,weights=openai
        --cache captions --out models/bridged
      torchrun --nproc-per-node 4 -m lift fit --data 'cc3m/*.tar' --features features
        --cache captions --out models/first

    Args:
        data: the pairs; images are not read.
        features: folder that `lift embed --images` made of the images. With --bridge, of any images
            of the tower: their mean centres images.
        cache: folder that `lift embed` made of the captions.
        out: folder of the model.
        method: ridge, procrustes, cca, or auto: all of them, and the best is taken. If not given,
            auto; with --bridge, procrustes.
        options: of the method, `penalty=kfold`, `shrinkage=0.1`, `pca=true`.
        holdout: share of samples that only judge, at most 5,000 of them; 0 for none.
        roles: captions that take part; all if not given.
        bridge: fit on captions alone.
        own: captions in the tower's own text space: a cache, or a model with a text side.
        tower: whose vectors those of --own are; that of --features, or of the model, if not given.
        quiet: no progress bar.
    """
    report = fitting.fit(
        data,
        features=features,
        cache=cache,
        out=out,
        method=method,
        options=options,
        holdout=holdout,
        roles=roles,
        bridge=bridge,
        own=own,
        tower=tower,
        progress=not quiet,
        say=lambda words: print(words, flush=True),
    )
    if first():
        print(report.table())


def migrate(
    old: tyro.conf.Positional[str],
    new: tyro.conf.Positional[str],
    *,
    model: Path,
    out: str = "",
    data: Words = (),
    method: str = "procrustes",
    options: Options = (),
    holdout: float = 0.1,
    quiet: bool = False,
) -> None:
    """Move a model to another text encoder by captions alone, and say how good the move is.

    No image is encoded again, and nothing is embedded again to find out: held-out captions tell.

    For example:

      lift migrate captions-old captions-new --model runs/flickr --out models/moved
      lift migrate minilm sentence_transformer:model=BAAI/bge-m3 --data captions.txt
        --model runs/flickr

    Args:
        old: the text space that the model lives in: a cache, or an encoder in words.
        new: the one it is to live in: a cache of the same captions, or an encoder in words.
        model: folder of a model, or of a run.
        out: folder of the new model; none is written if not given.
        data: where captions are; two caches need none.
        method: procrustes (keeps images in place), ridge, cca or auto.
        options: of the method, `penalty=kfold`.
        holdout: share of captions that only judge, at most 5,000 of them.
        quiet: no progress bar.
    """
    report = fitting.migrate(
        old,
        new,
        model=model,
        out=out,
        data=data,
        method=method,
        options=options,
        holdout=holdout,
        progress=not quiet,
    )
    if first():
        print(report.table())


def first() -> bool:
    """Return whether this is the process that speaks."""
    from lift.world import worker

    return worker().rank == 0
