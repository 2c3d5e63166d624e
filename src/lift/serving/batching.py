"""Requests that wait are worked on together: one thread, a bounded queue."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

J = TypeVar("J")
R = TypeVar("R")


class Busy(Exception):
    """The queue is full: ask again later."""


class _Job(NamedTuple):
    call: Callable[[list[Any]], Sequence[Any]]
    job: Any
    group: Hashable
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Batcher:
    """A thread that takes jobs of one group together.

    Jobs that came while it was at work make the next batch, so batches grow with the load and a
    lone request waits for nobody longer than `window`. What is cancelled while it waits (the client
    left, the time is up) is never worked on.

    Attributes:
        name: for metrics.
        most: jobs of a batch at most.
        waiting: jobs in the queue at most.
        window: seconds that it waits for more, counted from the first.
        told: is called with the size of each batch.
    """

    def __init__(
        self,
        name: str,
        *,
        most: int,
        waiting: int,
        window: float = 0.0,
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.name, self.most, self.waiting, self.window, self.told = (
            *(name, most, waiting, window),
            told,
        )
        self._queue: deque[_Job] = deque()
        self._change = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"lift-{name}", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    async def ask(
        self,
        call: Callable[[list[J]], Sequence[R]],
        job: J,
        group: Hashable = None,
    ) -> R:
        """Return what `call` makes of the job.

        Args:
            call: gives one result for each job of a list. If it raises on several, each is tried
                alone, so that nobody pays for another's mistake.
            job: what it is given.
            group: jobs of equal groups are done by one call, that of the first.

        Raises:
            Busy: too many wait.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        with self._change:
            if self._ended or len(self._queue) >= self.waiting:
                raise Busy
            self._queue.append(_Job(call, job, group, answer, loop))
            self._change.notify()
        return await answer

    def close(self) -> None:
        """End the thread once its batch is done; what waits is cancelled."""
        with self._change:
            self._ended = True
            left = list(self._queue)
            self._queue.clear()
            self._change.notify()
        for job in left:
            _on_loop(job.loop, job.answer.cancel)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while batch := self._next():
            self.told(len(batch))
            answers = _answered(batch)
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any]]] = {}
            for job, answer in zip(batch, answers, strict=True):
                by_loop.setdefault(job.loop, []).append((job, answer))
            for loop, pairs in by_loop.items():
                _on_loop(loop, _deliver, pairs)
            del batch, answers, by_loop  # nothing is held while it waits

    def _next(self) -> list[_Job]:
        """Return the next batch, empty at the end."""
        with self._change:
            while True:
                while not self._queue and not self._ended:
                    self._change.wait()
                if self._ended:
                    return []
                if self.window and len(self._queue) < self.most:
                    self._change.wait_for(
                        lambda: self._ended or len(self._queue) >= self.most, self.window
                    )
                batch = self._taken()
                if batch:
                    return batch

    def _taken(self) -> list[_Job]:
        """Take the first job that is still wanted, and those of its group; the rest keep order."""
        batch: list[_Job] = []
        rest: list[_Job] = []
        while self._queue and len(batch) < self.most:
            job = self._queue.popleft()
            if job.answer.cancelled():
                continue
            if batch and (job.group != batch[0].group or job.loop is not batch[0].loop):
                rest.append(job)
            else:
                batch.append(job)
        self._queue.extendleft(reversed(rest))
        return batch


def _answered(batch: list[_Job]) -> list[Any]:
    """Return a result or an exception for each job."""
    try:
        answers = list(batch[0].call([job.job for job in batch]))
        if len(answers) != len(batch):
            raise RuntimeError(f"{len(answers)} answers to {len(batch)} jobs")
    except Exception as error:  # noqa: BLE001  # whoever asked gets it
        if len(batch) == 1:
            return [error]
        return [answer for job in batch for answer in _answered([job])]
    return answers


def _deliver(pairs: list[tuple[_Job, Any]]) -> None:
    for job, answer in pairs:
        if job.answer.done():
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *given: Any) -> None:
    try:
        loop.call_soon_threadsafe(call, *given)
    except RuntimeError:  # the loop has ended: nobody waits
        return
