"""SIGTERM and Ctrl-C become a wish that the loop fulfils between two steps."""

from __future__ import annotations

import signal
import threading


class StopRequest:
    """Notes SIGTERM and Ctrl-C so that the loop can end between two steps."""

    def __init__(self) -> None:
        self.name = ""

    def __enter__(self) -> StopRequest:
        # Python allows handlers in the main thread only; elsewhere the caller has to stop us.
        wanted = (signal.SIGTERM, signal.SIGINT)
        if threading.current_thread() is not threading.main_thread():
            wanted = ()
        self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.name:  # asked twice: leave at once, the last checkpoint stands
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
