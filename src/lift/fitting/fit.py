"""The first rung: a frozen tower and a linear head, solved from one pass over stored vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from lift.bundle import Bundle
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.data.provenance import MOST_IN_A_MODEL, NAME, Provenance, write
from lift.data.source import each, open_source
from lift.data.spilled import room_for
from lift.data.stored_pairs import StoredPairs
from lift.features import ImageTower, tower_of
from lift.fitting.around import HOLDOUT, Told, require_free, require_share, shown, tell
from lift.fitting.gathering import gather, share_held
from lift.fitting.making import model_of, tensors_of, transform_of
from lift.fitting.sampling import is_held
from lift.fitting.solving import AUTO, Solved, predicted, solve, solvers_of
from lift.fitting.texts import texts_of
from lift.fitting.words import FitReport
from lift.model import Side
from lift.moved_heads import linear_head
from lift.ranks import joined
from lift.terms import Source


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
            source = open_source(data)
            pairs = StoredPairs(source, captions, images, roles)
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
                model = _saved(
                    Path(out), pairs, tower, solved, _told(data, source, pairs, share, roles)
                )
    return FitReport(
        folder=str(out),
        model=model,
        solved=solved,
        title=f"{images.space.name} into {captions.space.model}",
        left_out=dict(pairs.missing.counts),
        seconds=(passed, time.perf_counter() - start),
    )


def _told(
    data: str, source: Source, pairs: StoredPairs, share: float, roles: Sequence[str]
) -> Callable[[Path], Provenance] | None:
    """Return what writes down which samples were fitted on; None where a model can't hold them.

    Image files are not here to be hashed: as after training on stored features, a sample has a
    number of its key, and what tells it are its captions.
    """
    if len(pairs) > MOST_IN_A_MODEL:
        return None
    prints = room_for(2 * pairs.samples, np.int64).reshape(-1, 2)
    held = is_held(pairs.image_row.astype(np.uint64), share)
    used = pairs.has_both & ~held
    prints[used, 0] = pairs.key_number[used].astype(np.int64) | 1
    return lambda path: write(path, source, prints, words=each(data), roles=roles)


def _saved(
    folder: Path,
    pairs: StoredPairs,
    tower: ImageTower,
    solved: Solved,
    told: Callable[[Path], Provenance] | None,
) -> Bundle:
    """Return the model, saved with what it was fitted on."""
    with TemporaryDirectory() as aside:
        known = told(Path(aside) / NAME) if told else None
        _model(pairs, tower, solved, folder.name, known).save(folder)
    known = Provenance(folder / NAME) if told else None
    return _model(pairs, tower, solved, folder.name, known)


def _model(
    pairs: StoredPairs,
    tower: ImageTower,
    solved: Solved,
    name: str,
    trained_on: Provenance | None = None,
) -> Bundle:
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
        trained_on,
    )
