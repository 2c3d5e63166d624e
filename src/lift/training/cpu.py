"""CPU seconds of a run over all attempts at it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lift.files import write_text
from lift.training.folder import read_facts
from lift.world import worker


@contextlib.contextmanager
def measured(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a meter; when the block ends it holds the CPU seconds of a run's attempts together.

    It lies beside the run's folder. An attempt that was killed leaves it open: its time is lost,
    and the meter says so. A run that was finished before adds nothing.
    """
    path = folder.with_name(f"{folder.name}.cpu.json")
    known = (folder / "run.json").exists()
    meter: dict[str, Any] = {"cpu_seconds": 0.0, "open": False, "lost": known}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        meter |= json.loads(path.read_text(encoding="utf-8"))
    if known and read_facts(folder).get("status") == "finished":
        meter["lost"] = bool(meter["lost"] or meter["open"])
        yield meter
        return
    meter["lost"] = bool(meter["lost"] or meter["open"] or worker().size > 1)
    before = sum(os.times()[:4])
    writes = worker().rank == 0
    if writes:
        write_text(path, json.dumps({**meter, "open": True}) + "\n")
    try:
        yield meter
    finally:
        meter |= {"cpu_seconds": meter["cpu_seconds"] + sum(os.times()[:4]) - before, "open": False}
        if writes:
            write_text(path, json.dumps(meter) + "\n")
