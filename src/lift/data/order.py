"""The endless order of samples: made from the seed alone, lazily, and from any position.

Position p of a run shows one sample in one epoch. Batches are cut from these positions, whatever
epochs they fall into: no sample is passed over at an epoch's end, and the number of workers and
ranks has no part in the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from lift.data.dice import generator
from lift.data.permutation import permuted

_GROUPS, _INSIDE, _PATTERN = 1, 2, 5
"""Purposes of the dice: order of storage groups, order inside a window of them, and which source
of several comes when."""

WINDOW_SAMPLES = 16_384
"""Samples shuffled together, unless the source says that it holds fewer at a time."""

PERIOD = 65_536
"""Positions after which sources with weights have had exactly their shares."""

_CHUNK = 4_096


class Stretch(NamedTuple):
    """Some neighbouring positions: the epoch and the sample number of each."""

    epoch: Int64[np.ndarray, " n"]
    number: Int64[np.ndarray, " n"]


@runtime_checkable
class Order(Protocol):
    """What to show at which position."""

    length: int

    def walk(self, start: int) -> Iterator[Stretch]:
        """Yield what positions `start`, `start + 1`, ... show, without end."""
        ...


class Shuffled:
    """All samples of an epoch in one permutation that is computed, not stored.

    Attributes:
        length: samples of an epoch.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self.length, self._seed = samples, seed

    def walk(self, start: int) -> Iterator[Stretch]:
        """Yield what positions from `start` on show."""
        while True:
            epoch, place = divmod(start, self.length)
            places = np.arange(place, min(place + _CHUNK, self.length), dtype=np.int64)
            numbers = permuted(places, self.length, self._seed, epoch)
            yield _stretch(epoch, numbers)
            start += len(places)


class Windowed:
    """Storage groups (remote shards, row groups) permuted, and shuffled inside windows of them.

    Reading so stays near a few files at a time.

    Attributes:
        length: samples of an epoch.
    """

    def __init__(
        self,
        groups: Sequence[int],
        seed: int,
        window_samples: int = WINDOW_SAMPLES,
        ahead: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        """Keep what the order depends on.

        Args:
            groups: how many samples each storage group holds.
            seed: of the run.
            window_samples: samples to shuffle together; 1 shuffles groups and inside each only.
            ahead: told which groups will be read next, one window before they are.
        """
        self._groups, self._seed, self._window = groups, seed, window_samples
        self._ahead = ahead
        self.length = sum(groups)

    def walk(self, start: int) -> Iterator[Stretch]:
        """Yield what positions from `start` on show."""
        first, place = divmod(start, self.length)
        for epoch in count(first):
            found = order(self._groups, self._seed, epoch, place, self._window, self._ahead)
            for numbers in found:
                yield _stretch(epoch, numbers)
            place = 0


class Alike:
    """Batches whose samples come from one cluster each.

    Samples that are left at the end of their cluster make mixed batches; fewer than one batch of
    them are passed over, others in every epoch.

    Attributes:
        length: samples of an epoch, whole batches.
    """

    def __init__(self, clusters: Sequence[int], batch: int, seed: int) -> None:
        """Keep what the order depends on.

        Args:
            clusters: sizes of the clusters, each a run of neighbouring numbers.
            batch: samples of a batch.
            seed: of the run.
        """
        self._sizes = np.asarray(clusters, dtype=np.int64)
        self._begins = np.cumsum(self._sizes) - self._sizes
        self._batch, self._seed = batch, seed
        self._full = np.cumsum(self._sizes // batch)
        self._rest = np.cumsum(self._sizes % batch)
        self._pure = int(self._full[-1])
        self._batches = self._pure + int(self._rest[-1]) // batch
        self.length = self._batches * batch

    def walk(self, start: int) -> Iterator[Stretch]:
        """Yield what positions from `start` on show, a batch at a time."""
        step, skip = divmod(start, self._batch)
        for at in count(step):
            epoch, place = divmod(at, self._batches)
            numbers = self._one(epoch, place)
            yield _stretch(epoch, numbers[skip:])
            skip = 0

    def _one(self, epoch: int, place: int) -> Int64[np.ndarray, " n"]:
        where = np.array([place], dtype=np.int64)
        batch = int(permuted(where, self._batches, self._seed, epoch)[0])
        inside = np.arange(self._batch, dtype=np.int64)
        if batch < self._pure:
            cluster = int(np.searchsorted(self._full, batch, side="right"))
            earlier = int(self._full[cluster - 1]) if cluster else 0
            return self._of(cluster, (batch - earlier) * self._batch + inside, epoch)
        pool = int(self._rest[-1])
        left = permuted((batch - self._pure) * self._batch + inside, pool, self._seed, epoch, 1)
        clusters = np.searchsorted(self._rest, left, side="right")
        found = np.empty(self._batch, dtype=np.int64)
        for cluster in np.unique(clusters).tolist():
            mine = clusters == cluster
            size = int(self._sizes[cluster])
            before = int(self._rest[cluster]) - size % self._batch
            places = size // self._batch * self._batch + left[mine] - before
            found[mine] = self._of(cluster, places, epoch)
        return found

    def _of(self, cluster: int, places: np.ndarray, epoch: int) -> Int64[np.ndarray, " n"]:
        size = int(self._sizes[cluster])
        return self._begins[cluster] + permuted(places, size, self._seed, epoch, 2 + cluster)


class Interleaved:
    """Several orders mixed by weight; each goes through epochs of its own.

    In every `PERIOD` units each has exactly its share, rounded; where in the period is drawn.

    Attributes:
        length: samples of all orders' epochs together.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        begins: Sequence[int],
        weights: Sequence[float],
        seed: int,
        unit: int = 1,
    ) -> None:
        """Keep what the order depends on.

        Args:
            orders: of the sources.
            begins: what to add to each one's numbers.
            weights: share of the samples that each gives, relative to the others.
            seed: of the run.
            unit: neighbouring positions that one source fills: 1, or a batch.
        """
        self._orders, self._begins, self._seed, self._unit = orders, begins, seed, unit
        self._shares = _shares(weights)
        self.length = sum(order.length for order in orders)

    def walk(self, start: int) -> Iterator[Stretch]:
        """Yield what positions from `start` on show."""
        at, skip = divmod(start, self._unit)
        period, place = divmod(at, PERIOD)
        pattern = self._pattern(period)
        taps: dict[int, _Tap] = {}
        while True:
            chosen = pattern[place : place + max(1, _CHUNK // self._unit)]
            owners = np.repeat(chosen, self._unit)[skip:]
            epochs, numbers = (np.empty(len(owners), np.int64) for _ in range(2))
            for owner in np.unique(owners).tolist():
                if owner not in taps:
                    before = period * int(self._shares[owner])
                    before += int((pattern[:place] == owner).sum())
                    first = before * self._unit + (skip if chosen[0] == owner else 0)
                    taps[owner] = _Tap(self._orders[owner].walk(first))
                mine = owners == owner
                epochs[mine], numbers[mine] = taps[owner].take(int(mine.sum()))
                numbers[mine] += self._begins[owner]
            yield Stretch(epochs, numbers)
            place, skip = place + len(chosen), 0
            if place == PERIOD:
                period, place = period + 1, 0
                pattern = self._pattern(period)

    def _pattern(self, period: int) -> Int64[np.ndarray, " p"]:
        pattern = np.repeat(np.arange(len(self._shares), dtype=np.int64), self._shares)
        generator(self._seed, _PATTERN, period).shuffle(pattern)
        return pattern


class Redrawn:
    """An order over slots, each of which shows another sample in another epoch.

    Attributes:
        length: slots of an epoch.
    """

    def __init__(
        self, slots: Order, drawn: Callable[[np.ndarray, int, int], np.ndarray], seed: int
    ) -> None:
        """Keep the order of slots and what tells the samples (slots, seed, epoch) show."""
        self._slots, self._drawn, self._seed = slots, drawn, seed
        self.length = slots.length

    def walk(self, start: int) -> Iterator[Stretch]:
        """Yield what positions from `start` on show."""
        for epochs, slots in self._slots.walk(start):
            numbers = np.empty_like(slots)
            for epoch in np.unique(epochs).tolist():
                mine = epochs == epoch
                numbers[mine] = self._drawn(slots[mine], self._seed, epoch)
            yield Stretch(epochs, numbers)


class _Tap:
    """Takes exactly as many positions as are wanted."""

    def __init__(self, walk: Iterator[Stretch]) -> None:
        self._walk = walk
        self._held = _stretch(0, np.empty(0, np.int64))

    def take(self, wanted: int) -> Stretch:
        """Return the next `wanted` positions."""
        parts, missing = [self._held], wanted - len(self._held.number)
        while missing > 0:
            parts.append(next(self._walk))
            missing -= len(parts[-1].number)
        epochs, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._held = Stretch(epochs[wanted:], numbers[wanted:])
        return Stretch(epochs[:wanted], numbers[:wanted])


def batches(order: Order, size: int, start: int) -> Iterator[Stretch]:
    """Yield batches of `size` positions from position `start` on, without end."""
    tap = _Tap(order.walk(start))
    while True:
        yield tap.take(size)


def order(
    groups: Sequence[int],
    seed: int,
    epoch: int,
    start: int = 0,
    window_samples: int = WINDOW_SAMPLES,
    ahead: Callable[[Sequence[int]], None] | None = None,
) -> Iterator[np.ndarray]:
    """Yield int64 arrays that together hold every sample number of an epoch once.

    Storage groups are permuted, taken in windows of at least `window_samples` samples, and
    shuffled inside each window. Memory holds one window and the group sizes, however many samples
    there are.

    Args:
        groups: how many samples each storage group holds.
        seed, epoch: all that the order depends on, besides `groups` and `window_samples`.
        start: how many samples of the epoch to leave out at its beginning; whole windows before
            it are passed over without being made.
        window_samples: samples to shuffle together; 1 shuffles groups and inside each group only.
        ahead: told the groups of a window and of the next, before the window is yielded.
    """
    sizes = np.asarray(groups, dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    shuffled = generator(seed, _GROUPS, epoch).permutation(len(sizes))
    windows = list(_windows(sizes, shuffled, window_samples))
    for number, window in enumerate(windows):
        held = int(sizes[window].sum())
        if start >= held:
            start -= held
            continue
        if ahead is not None:
            ahead(np.concatenate(windows[number : number + 2]).tolist())
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


def _shares(weights: Sequence[float]) -> Int64[np.ndarray, " s"]:
    """Return how many of `PERIOD` units each weight gets: largest remainders, at least one."""
    exact = np.asarray(weights, dtype=np.float64) / np.sum(weights) * PERIOD
    shares = np.maximum(1, np.floor(exact)).astype(np.int64)
    for index in np.argsort(shares - exact, kind="stable"):
        if shares.sum() >= PERIOD:
            break
        shares[index] += 1
    while shares.sum() > PERIOD:
        shares[np.argmax(shares)] -= 1
    return shares


def _stretch(epoch: int, numbers: np.ndarray) -> Stretch:
    return Stretch(np.full(len(numbers), epoch, dtype=np.int64), numbers.astype(np.int64))
