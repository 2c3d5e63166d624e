"""What each step took, over all attempts at it: kept in the ladder's folder."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lift.files import write_text
from lift.rungs.record import Cost

FILE = "costs.json"
_NEW: dict[str, Any] = {
    "wall_seconds": 0.0,
    "cpu_seconds": 0.0,
    "items": 0,
    "complete": True,
    "open": False,
    "done": False,
}


class Meters:
    """A meter for each named step. An attempt that was killed leaves its meter open: it says so."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._found: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            known = json.loads(self._path.read_text("utf-8"))
            self._found = {name: {**_NEW, **values} for name, values in known.items()}

    def done(self, name: str) -> bool:
        """Return whether a step was finished before."""
        return bool(self._of(name)["done"])

    def cost(self, name: str) -> Cost:
        """Return what a step took so far."""
        found = self._of(name)
        return Cost(
            wall_seconds=found["wall_seconds"],
            cpu_seconds=found["cpu_seconds"],
            items=found["items"],
            complete=found["complete"],
        )

    @contextlib.contextmanager
    def measured(self, name: str, *, anew: bool = False) -> Iterator[Counted]:
        """Measure what a block takes; it is done where the block ends well.

        Args:
            name: of the step.
            anew: forget earlier attempts: of a step that is no use half done.
        """
        found = {**_NEW} if anew else self._of(name)
        found = {**found, "complete": found["complete"] and not found["open"], "open": True}
        self._keep(name, found)
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        counted = Counted()
        try:
            yield counted
            found["done"] = True
        finally:
            found["wall_seconds"] += time.perf_counter() - wall
            found["cpu_seconds"] += sum(os.times()[:4]) - cpu
            found["items"] += counted.items
            found["open"] = False
            self._keep(name, found)

    def _of(self, name: str) -> dict[str, Any]:
        return {**self._found.get(name, _NEW)}

    def _keep(self, name: str, values: dict[str, Any]) -> None:
        self._found[name] = values
        write_text(self._path, json.dumps(self._found, indent=1) + "\n")


class Counted:
    """Items that went through a step, for its rate."""

    items = 0
