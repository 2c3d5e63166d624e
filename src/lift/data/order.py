"""The order of samples: made from (seed, epoch) alone, lazily, and from any position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lift.data.dice import generator

_GROUPS, _INSIDE = 1, 2
"""Purposes of the dice: the order of storage groups, the order inside a window of them."""

WINDOW_SAMPLES = 16_384
"""Samples shuffled together, unless the source says that it holds fewer at a time."""


def order(
    groups: Sequence[int],
    seed: int,
    epoch: int,
    start: int = 0,
    window_samples: int = WINDOW_SAMPLES,
) -> Iterator[np.ndarray]:
    """Yield int64 arrays that together hold every sample number of an epoch once.

    Storage groups (tar shards, row groups) are permuted, taken in windows of at least
    `window_samples` samples, and shuffled inside each window. Reading so stays near a few files
    at a time, and memory holds one window and the group sizes, however many samples there are.

    Args:
        groups: how many samples each storage group holds.
        seed, epoch: all that the order depends on, besides `groups` and `window_samples`.
        start: how many samples of the epoch to leave out at its beginning; whole windows before
            it are passed over without being made.
        window_samples: samples to shuffle together; 1 shuffles groups and inside each group only.
    """
    sizes = np.asarray(groups, dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    shuffled = generator(seed, _GROUPS, epoch).permutation(len(sizes))
    for number, window in enumerate(_windows(sizes, shuffled, window_samples)):
        count = int(sizes[window].sum())
        if start >= count:
            start -= count
            continue
        samples = np.concatenate(
            [begins[g] + np.arange(int(sizes[g]), dtype=np.int64) for g in window]
        )
        generator(seed, _INSIDE, epoch, number).shuffle(samples)
        yield samples[start:]
        start = 0


def _windows(sizes: np.ndarray, shuffled: np.ndarray, window_samples: int) -> Iterator[np.ndarray]:
    """Cut the shuffled groups into runs that reach `window_samples`; the last may be shorter."""
    first, held = 0, 0
    for position, group in enumerate(shuffled):
        held += int(sizes[group])
        if held >= window_samples:
            yield shuffled[first : position + 1]
            first, held = position + 1, 0
    if held:
        yield shuffled[first:]
