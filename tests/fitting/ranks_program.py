"""One of several processes: what they gather and fit together is what one does alone."""

from __future__ import annotations

import os
import sys

import numpy as np
import torch

from lift.data.stored_pairs import PairBlock
from lift.errors import DataError, Echo, NotFinite
from lift.fitting.gathering import gather
from lift.ranks import joined
from lift.world import worker


def block(n: int, seed: int) -> PairBlock:
    """Return pairs, two captions each, means far from zero and from each other's."""
    rng = np.random.default_rng(seed)
    h = (rng.normal(size=(n, 9)) + 5 * seed).astype(np.float32)
    t = rng.normal(size=(2 * n, 5)).astype(np.float32)
    key = rng.integers(0, 2**63, n).astype(np.uint64)
    owner = np.repeat(np.arange(n), 2)
    return PairBlock(h, t, owner, rng.uniform(size=2 * n).astype(np.float32), np.arange(n), key)


def check_gathering(own: int, size: int) -> None:
    """The last process has no pairs at all."""
    counts = [70, 130, 0][:size]
    blocks = [block(n, seed) for seed, n in enumerate(counts)]
    alone = gather(blocks, 9, 5, holdout=0.2, folds=3)
    with joined(torch.device("cpu")) as ranks:
        mine = blocks[own : own + 1] if counts[own] else []
        found = gather(mine, 9, 5, holdout=0.2, folds=3, ranks=ranks)
        for ours, theirs in zip(
            [found.sums, *found.folds], [alone.sums, *alone.folds], strict=True
        ):
            assert ours.images == theirs.images
            for name in ("weight", "mean_h", "mean_t", "hh", "ht", "tt", "within"):
                np.testing.assert_allclose(
                    getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-10
                )
        for name in ("h", "t", "owner"):
            np.testing.assert_array_equal(getattr(found.held, name), getattr(alone.held, name))
        for ours, theirs in zip(found.sample.rows(), alone.sample.rows(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        bad = block(20, 1)
        if own == 1:
            bad.h[3, 3] = np.nan
        try:
            gather([bad], 9, 5, ranks=ranks)
        except (NotFinite, Echo) as error:
            assert isinstance(error, NotFinite) == (own == 1), "one says it"
        else:
            raise AssertionError("NaN went through")


def check_fit(cache: str, features: str, data: str, out: str) -> None:
    """The model of all processes is that of one."""
    import lift

    options = {"cache": cache, "features": features, "progress": False, "method": "ridge"}
    told: list[str] = []
    report = lift.fit(data, out=f"{out}/model", say=told.append, **options)
    together = report.solved
    if worker().rank == 0:
        assert told[0].startswith("before: CKA")
        kept = {name: os.environ.pop(name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
        alone = lift.fit(data, **options).solved
        os.environ.update(kept)
        np.testing.assert_allclose(together.linear.weight, alone.linear.weight, atol=1e-9)
        np.testing.assert_allclose(together.linear.bias, alone.linear.bias, atol=1e-9)
        assert together.pairs == alone.pairs and together.agreement is not None
        assert lift.load(f"{out}/model").record.origin["samples"] == together.pairs
    else:
        assert not told


if __name__ == "__main__":
    me = worker()
    try:
        check_gathering(me.rank, me.size)
    except DataError as error:  # no other process would hear of it
        raise AssertionError from error
    if sys.argv[1:]:
        check_fit(*sys.argv[1:])
    sys.stdout.write(f"rank {me.rank} is right\n")
