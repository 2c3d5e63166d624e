"""Stored captions beyond those of the batch: more for an image to be told apart from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lift.cache.rows import StoredRows
from lift.candidates import Extra
from lift.data.dice import generator

_BANK = 6
"""Purpose of the dice: the stored captions of a step."""


class Bank:
    """So many rows of a cache a step, the same on every rank.

    Attributes:
        size: how many, before those of the step's own images are left out.

    A queue of features (MoCo, 1911.05722) grows stale while towers train. Rows of a fixed text
    encoder don't, so any number of them is exact. They help images only: a text of the bank has
    no image here that it could be pulled to, so the text-to-image direction does not see it.
    """

    def __init__(
        self,
        cache: StoredRows,
        rows: Int64[np.ndarray, " n"],
        size: int,
        seed: int,
        unit_stored: Callable[[Tensor], Tensor],
    ) -> None:
        """Keep where rows come from.

        Args:
            cache: with the rows.
            rows: the numbers of those to draw from, ascending: captions that are trained on, and
                none that only an evaluation knows.
            size: how many a step; all of them, where that is as many as there are.
            seed: of the draws.
            unit_stored: from rows as stored to unit vectors on the device.
        """
        self._cache, self._rows, self._seed, self._unit = cache, rows, seed, unit_stored
        self.size = min(size, len(rows))

    def of(self, step: int, device: torch.device, own: Int64[Tensor, " o"] | None = None) -> Extra:
        """Return the texts of a step; they are read when a tile of them is asked for.

        Args:
            step: decides which.
            device: of the images.
            own: rows that are right for some image of the step, shown or not: they stay out.
        """
        rows = self._rows
        if self.size < len(rows):  # sorted, so that shards are read front to back
            rng = generator(self._seed, _BANK, 0, step)
            rows = rows[np.sort(rng.choice(len(rows), self.size, replace=False, shuffle=False))]
        if own is not None:
            rows = rows[~np.isin(rows, own.cpu().numpy())]

        def take(start: int, stop: int) -> Tensor:
            return self._unit(torch.from_numpy(self._cache.take_stored(rows[start:stop])))

        return Extra(torch.from_numpy(rows).to(device), take)
