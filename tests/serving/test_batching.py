"""Waiting jobs are taken together, each gets its own answer, and nobody pays for another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from lift.serving.batching import Batcher, Busy


class Work:
    """Squares numbers, and remembers its batches; the first waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.begun.set()
        assert self.go.wait(10)
        if -1 in numbers:
            raise ValueError("no -1")
        return [number**2 for number in numbers]


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    one = Batcher("test", most=4, waiting=6)
    yield one
    one.close()


async def _behind(batcher: Batcher, work: Work, *jobs: tuple[int, object]) -> list[asyncio.Task]:
    """Put a job to work, and others behind it."""
    tasks = [asyncio.create_task(batcher.ask(work, 0))]
    await asyncio.to_thread(work.begun.wait, 10)
    tasks += [asyncio.create_task(batcher.ask(work, job, group)) for job, group in jobs]
    await asyncio.sleep(0)
    return tasks


def test_jobs_that_wait_are_one_batch_and_get_their_own_answers(batcher: Batcher) -> None:
    async def run() -> None:
        work = Work()
        tasks = await _behind(batcher, work, *((n, None) for n in range(1, 7)))
        work.go.set()
        assert await asyncio.gather(*tasks) == [0, 1, 4, 9, 16, 25, 36]
        assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]  # four at most

    asyncio.run(run())


def test_only_equal_groups_share_a_batch_and_order_is_kept(batcher: Batcher) -> None:
    async def run() -> None:
        work = Work()
        tasks = await _behind(batcher, work, (1, "a"), (2, "b"), (3, "a"), (4, "b"))
        work.go.set()
        assert await asyncio.gather(*tasks) == [0, 1, 4, 9, 16]
        assert work.batches == [[0], [1, 3], [2, 4]]

    asyncio.run(run())


def test_one_mistake_is_one_client_s(batcher: Batcher) -> None:
    async def run() -> None:
        work = Work()
        tasks = await _behind(batcher, work, (2, None), (-1, None), (3, None))
        work.go.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done[:2] == [0, 4] and done[3] == 9
        assert isinstance(done[2], ValueError)

    asyncio.run(run())


def test_a_wrong_number_of_answers_is_an_error(batcher: Batcher) -> None:
    async def run() -> None:
        with pytest.raises(RuntimeError, match="2 answers to 1"):
            await batcher.ask(lambda jobs: [1, 2], 0)

    asyncio.run(run())


def test_a_full_queue_says_so_and_what_was_in_it_is_answered(batcher: Batcher) -> None:
    async def run() -> None:
        work = Work()
        tasks = await _behind(batcher, work, *((n, None) for n in range(1, 7)))
        assert batcher.depth == 6
        with pytest.raises(Busy):
            await batcher.ask(work, 9)
        work.go.set()
        assert len(await asyncio.gather(*tasks)) == 7
        assert await batcher.ask(work, 9) == 81

    asyncio.run(run())


def test_what_nobody_waits_for_is_not_done(batcher: Batcher) -> None:
    async def run() -> None:
        work = Work()
        tasks = await _behind(batcher, work, *((n, None) for n in range(1, 4)))
        tasks[2].cancel()
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert work.batches == [[0], [1, 3]]

    asyncio.run(run())


def test_a_window_waits_for_more_but_not_for_ever() -> None:
    async def run() -> None:
        batcher = Batcher("test", most=3, waiting=9, window=0.4)
        work = Work()
        work.go.set()
        try:
            first = asyncio.create_task(batcher.ask(work, 1))
            await asyncio.sleep(0.05)
            assert await asyncio.gather(first, batcher.ask(work, 2)) == [1, 4]
            assert work.batches == [[1, 2]]
            start = time.monotonic()
            await asyncio.gather(*(batcher.ask(work, n) for n in range(3)))
            assert time.monotonic() - start < 0.3  # a full batch waits for nobody
        finally:
            batcher.close()

    asyncio.run(run())


def test_closing_cancels_what_waits_and_ends_the_thread() -> None:
    async def run() -> None:
        batcher, work = Batcher("test", most=1, waiting=9), Work()
        tasks = await _behind(batcher, work, (1, None), (2, None))
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        work.go.set()
        await closing
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done[0] == 0
        assert all(isinstance(one, asyncio.CancelledError) for one in done[1:])
        with pytest.raises(Busy):
            await batcher.ask(work, 1)
        assert not any(t.name == "lift-test" for t in threading.enumerate())

    asyncio.run(run())
