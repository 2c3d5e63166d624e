"""The first rung: a frozen tower and a linear head, solved from one pass over stored vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lift.bundle import Bundle
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.data.source import open_source
from lift.data.stored_pairs import StoredPairs
from lift.features import ImageTower, tower_of
from lift.fitting.around import HOLDOUT, Told, require_free, require_share, shown, tell
from lift.fitting.gathering import gather, share_held
from lift.fitting.making import model_of, tensors_of, transform_of
from lift.fitting.solving import AUTO, Solved, predicted, solve, solvers_of
from lift.fitting.texts import texts_of
from lift.fitting.words import FitReport
from lift.model import Side
from lift.moved_heads import linear_head
from lift.ranks import joined


def fit(
    data: str,
    *,
    cache: str | Path,
    features: str | Path,
    out: str | Path = "",
    method: str = AUTO,
    options: Sequence[str] = (),
    holdout: float = HOLDOUT,
    roles: Sequence[str] = (),
    progress: bool = True,
    say: Told = lambda _: None,
) -> FitReport:
    """Return a model made of a frozen tower and a linear head; under torchrun on several processes.

    Args:
        data: the pairs; images are not read.
        cache: stored captions.
        features: stored features of the images, of the tower that the model gets.
        out: the model's folder; "" writes none.
        method: a file in `solvers`, or "auto": all of them, and the best is taken.
        options: `key=value` words about the solver.
        holdout: share of samples that only judge; 0 for none.
        roles: captions that take part; () takes all.
        progress: draw a progress bar.
        say: is told what is known before anything is solved.

    Raises:
        LiftError: bad input; nothing was written.
    """
    start = time.perf_counter()
    solvers = solvers_of(method, options)
    require_share(holdout)
    with joined(torch.device("cpu")) as ranks:
        with ranks.together():
            require_free(out)
            captions, images = EmbeddingCache.open(cache), FeatureCache.open(features)
            pairs = StoredPairs(open_source(data), captions, images, roles)
            tower = tower_of(images, device="cpu")
        share = share_held(holdout, len(pairs))
        ends = [pairs.samples * n // ranks.size for n in range(ranks.size + 1)]
        mine = pairs.blocks(start=ends[ranks.worker.rank], stop=ends[ranks.worker.rank + 1])
        gathered = gather(
            shown(mine, len(pairs) // ranks.size, progress and ranks.first),
            images.space.dimensions,
            captions.dimensions,
            holdout=share,
            ranks=ranks,
        )
        passed = time.perf_counter() - start
        alike = predicted(gathered)
        tell(alike, ranks, say)
        with ranks.together():
            solved = solve(gathered, solvers, alike=alike)
            model = _model(pairs, tower, solved, Path(out).name or "model")
            if out and ranks.first:
                model.save(out)
    return FitReport(
        folder=str(out),
        model=model,
        solved=solved,
        title=f"{images.space.name} into {captions.space.model}",
        left_out=dict(pairs.missing.counts),
        seconds=(passed, time.perf_counter() - start),
    )


def _model(pairs: StoredPairs, tower: ImageTower, solved: Solved, name: str) -> Bundle:
    origin = {"recipe": "fit", "data": pairs.name, "pairs": pairs.digest, **solved.origin()}
    return model_of(
        tower.kept,
        Side(tower.module, None),
        linear_head(*tensors_of(solved.linear)),
        transform_of(tower),
        texts_of(pairs.captions),
        origin,
        name,
        solved.scale,
    )
