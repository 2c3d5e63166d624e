"""Who does the work: one thread for texts, one for images, one for searching, a few for reading."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32

from lift.search.filters import Filter
from lift.search.terms import Hit, Kind, Merge, Query, Searchable
from lift.serving.batching import Batcher, Busy
from lift.serving.config import ServerConfig
from lift.serving.metrics import Metrics
from lift.serving.pictures import checked, checked_all
from lift.serving.refusals import busy

R = TypeVar("R")
READERS = 4


class Asked(NamedTuple):
    """How a vector is searched for; queries that ask alike are searched for together."""

    top: int
    where: Filter | None
    kinds: tuple[Kind, ...]
    merge: Merge

    @property
    def group(self) -> Hashable:
        """Equal for what asks alike; 1 and true are not alike, though equal."""
        return (self.top, repr(self.where), self.kinds, self.merge)


class Found(NamedTuple):
    """The vector of a query and the kind of its terms."""

    z: Float32[np.ndarray, " d"]
    of: Kind | None


class Workers:
    """The threads behind a server. The event loop only waits for them.

    Attributes:
        searchable: what is searched.
        texts, images, near: see `Batcher`.
    """

    def __init__(self, searchable: Searchable, config: ServerConfig, metrics: Metrics) -> None:
        self.searchable, self.config = searchable, config

        def worker(name: str, most: int, window: float) -> Batcher:
            told = lambda size: metrics.batch(name, size)  # noqa: E731
            return Batcher(name, most=most, waiting=config.waiting, window=window, told=told)

        self.texts = worker("texts", config.batch, config.window)
        self.images = worker("images", max(1, config.batch // 4), 0.0)
        self.near = worker("near", config.batch, config.window)
        # Tokenizers refuse a second thread ("Already borrowed").
        self._one_text_at_a_time = threading.Lock()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="lift-reading")
        self._reading = 0
        metrics.gauge("lift_queue_depth", "Jobs that wait for a worker.", self.depths)

    def depths(self) -> dict[str, float]:
        """Return how many jobs wait for each worker."""
        found = {f'worker="{b.name}"': float(b.depth) for b in (self.texts, self.images, self.near)}
        return {**found, 'worker="reading"': float(max(0, self._reading - READERS))}

    async def vector(self, query: Query) -> Found:
        """Return the vector of a query whose images are data URLs still."""
        kinds = {term.kind for term in query.terms}
        if "image" in kinds:
            return await _asked(self.images, self._with_images, query, "queries")
        if "text" in kinds:
            return await _asked(self.texts, self._with_texts, query, "queries")
        return await _asked(self.near, self._vectors, query, "vectors")

    async def hits(self, found: Found, asked: Asked) -> list[Hit]:
        """Return the best items for a vector."""

        def near(several: list[Found]) -> list[list[Hit]]:
            return self.searchable.near(
                np.stack([one.z for one in several]),
                of=[one.of for one in several],
                top=asked.top,
                where=asked.where,
                kinds=asked.kinds,
                merge=asked.merge,
            )

        return await _asked(self.near, near, found, asked.group)

    async def text_rows(self, call: Callable[[list[str]], R], texts: list[str]) -> R:
        """Return what `call` makes of texts, which nobody else's are mixed with.

        A row depends on the batch it shared by rounding, and here it shall not.
        """

        def alone(jobs: list[list[str]]) -> list[R]:
            with self._one_text_at_a_time:
                return [call(job) for job in jobs]

        return await _asked(self.texts, alone, texts, object())

    async def with_words(self, call: Callable[[], R]) -> R:
        """Return what a call gives that encodes words, in the thread for texts."""
        return await self.text_rows(lambda _: call(), [])

    async def with_image(self, call: Callable[[], R]) -> R:
        """Return what a call gives that encodes an image, in the thread for images.

        It may not encode texts: searching for words goes on beside it.
        """
        return await _asked(self.images, lambda jobs: [call() for _ in jobs], None, object())

    async def image_row(self, image: str) -> Float32[np.ndarray, " d"]:
        """Return the vector of the file in a data URL."""
        return await _asked(self.images, self._image_rows, image, "rows")

    async def read(self, call: Callable[..., R], *given: Any) -> R:
        """Return what a call that reads from the index gives. Raises Refused at a busy time."""
        if self._reading >= self.config.waiting:
            raise busy()
        self._reading += 1
        work = asyncio.get_running_loop().run_in_executor(self._pool, call, *given)
        work.add_done_callback(self._read)
        return await work

    def close(self) -> None:
        """End the threads; what they are at is finished."""
        for one in (self.texts, self.images, self.near):
            one.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, work: object) -> None:
        self._reading -= 1

    def _vectors(self, queries: list[Query]) -> list[Found]:
        z, of = self.searchable.vectors(queries)
        return [Found(row, kind) for row, kind in zip(z, of, strict=True)]

    def _with_texts(self, queries: list[Query]) -> list[Found]:
        with self._one_text_at_a_time:
            return self._vectors(queries)

    def _with_images(self, queries: list[Query]) -> list[Found]:
        queries = [self._opened(query) for query in queries]
        if any(term.kind == "text" for query in queries for term in query.terms):
            return self._with_texts(queries)
        return self._vectors(queries)

    def _opened(self, query: Query) -> Query:
        images = [term.value for term in query.terms if term.kind == "image"]
        files = iter(checked_all(images, self.config.pixels))
        terms = (
            term._replace(value=next(files)) if term.kind == "image" else term
            for term in query.terms
        )
        return Query(tuple(terms), query.combine)

    def _image_rows(self, images: list[str]) -> list[np.ndarray]:
        opened = [checked(image, self.config.pixels) for image in images]
        return list(self.searchable.encoder.encode_images(opened))


async def _asked(
    worker: Batcher, call: Callable[[list[Any]], Sequence[R]], job: Any, group: Hashable
) -> R:
    try:
        return await worker.ask(call, job, group)
    except Busy:
        raise busy() from None
