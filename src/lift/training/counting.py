"""Every sample of a run counted once, whichever rank met it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lift.data.kinds import CAPTION_ROLES, NO_FEATURES, OF_CAPTIONS
from lift.terms import Batch, Dropped

if TYPE_CHECKING:
    from lift.training.run import Run

NAMED = 20
"""Unreadable images that a run names; the others are counted."""


class Counting:
    """Counts images by source; names each sample that can't be used once, and counts it by kind.

    What ranks met is put together from time to time: then all have the same counters, and a
    checkpoint has all there is to know.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._images: Counter[str] = Counter()
        self._dropped: list[Dropped] = []

    def add(self, batches: Sequence[Batch]) -> None:
        """Take in the own batches of a step."""
        sources = self._run.loader.sources
        for batch in batches:
            self._run.trained_on.add(batch)
            self._dropped += batch.dropped
            if len(sources) > 1:
                for number, images in zip(*batch.source.unique(return_counts=True), strict=True):
                    self._images[f"images of {sources[int(number)].name}"] += int(images)

    def collect(self) -> None:
        """Put together what all ranks took in; each calls this after the same step."""
        run = self._run
        run.trained_on.collect()
        told = run.ranks.hear([dict(self._images), [list(drop) for drop in self._dropped]])
        self._images.clear()
        self._dropped.clear()
        for images, dropped in told:
            for what, number in images.items():
                run.state.count(what, number)
            for key, kind, reason in dropped:
                self._leave_out(key, kind, reason)

    def _leave_out(self, key: str, kind: str, reason: str) -> None:
        run, state = self._run, self._run.state
        state.count("views left out")
        if key in state.unreadable:
            return
        state.unreadable.add(key)
        by_captions = kind in OF_CAPTIONS and not (kind == CAPTION_ROLES and run.loader.linked)
        if by_captions or kind == NO_FEATURES:
            return  # counted and named when the captions were read
        state.count(f"left out, {kind}")
        if len(state.unreadable) <= NAMED:  # the count goes on, the naming ends
            run.log.warning(f"left out: {reason}")
