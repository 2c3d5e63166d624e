"""Calls that may hang, made by a thread that can be left behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Stalled(Exception):
    """A call took too long, or brought too little."""


class Caller:
    """A daemon thread that makes calls one after another, for somebody who stops waiting in time.

    No driver can be trusted to obey a timeout, so a call that hangs is left behind with its
    thread; it ends when the driver gives up.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(
            target=_serve, args=(self._asked,), name="lift-caller", daemon=True
        ).start()

    def call(self, seconds: float, work: Callable[..., T], *args: Any) -> T:
        answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def answered() -> None:
            try:
                answer.put((work(*args), None))
            except BaseException as error:  # noqa: BLE001 - raised where it was called for
                answer.put((None, error))

        self._asked.put(answered)
        try:
            value, error = answer.get(timeout=seconds)
        except queue.Empty:
            raise Stalled(f"nothing came for {seconds:g} s") from None
        if error is not None:
            raise error
        return value

    def end(self, last: Callable[[], None]) -> None:
        """Have `last` called when the thread is free, then let it go."""
        self._asked.put(last)
        self._asked.put(None)


def _serve(asked: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := asked.get()) is not None:
        work()
        del work  # a chunk less in memory while waiting for the next call
