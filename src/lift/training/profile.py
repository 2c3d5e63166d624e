"""Where the time of a few steps goes, written down by torch's profiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lift.ranks import Ranks

_SETTLED = 10
"""Steps before the first that is watched: memory is allocated and kernels are chosen by then."""


class Watch:
    """Watches so many steps and writes a trace and a table of the dearest operations.

    `profile/trace.json` opens in Perfetto or in Chrome (chrome://tracing).
    """

    def __init__(self, steps: int, folder: Path, ranks: Ranks) -> None:
        """Watch `steps` steps from the tenth of this start on, on the first rank; 0 for none."""
        self._steps = steps if ranks.first else 0
        self._folder = folder / "profile"
        self._profiler: Any = None
        self._at = 0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def step(self) -> None:
        """Note that a step was taken."""
        self._at += 1
        if not self._steps:
            return
        if self._at == _SETTLED:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=activities, profile_memory=True)
            self._profiler.start()
        elif self._at == _SETTLED + self._steps:
            self._write()

    def _write(self) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        self._folder.mkdir(exist_ok=True)
        self._profiler.export_chrome_trace(str(self._folder / "trace.json"))
        by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = self._profiler.key_averages().table(sort_by=by, row_limit=40)
        (self._folder / "operations.txt").write_text(table + "\n", encoding="utf-8")
        self._profiler = None
